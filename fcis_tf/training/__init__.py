"""Targets, losses, optimisation and the training loop."""
