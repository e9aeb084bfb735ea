"""Timing of prediction, training and the input pipeline: `fcis benchmark`."""
