"""Readers of labels, one module a format."""
