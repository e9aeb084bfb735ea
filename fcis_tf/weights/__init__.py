"""Weights: our files, transfer between class lists, and importers."""
