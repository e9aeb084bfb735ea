"""ROIs of every kind that has its own way to go wrong."""

import numpy as np

ROIS = {
    "inside": [20.0, 30.0, 90.0, 120.0],
    "whole map": [0.0, 0.0, 160.0, 208.0],
    "over every border": [-40.0, -30.0, 300.0, 400.0],
    "outside": [500.0, 600.0, 700.0, 800.0],
    "inverted": [90.0, 120.0, 20.0, 30.0],
    "one pixel": [33.0, 47.0, 34.0, 48.0],
    "sub-pixel": [33.2, 47.1, 33.4, 47.3],
    "on the half": [10.5, 11.5, 60.5, 71.5],
    "negative half": [-10.5, -3.5, 40.0, 40.0],
    "just below a half": [0.49999997, 0.49999997, 60.49999, 71.49999],
}
NOT_FINITE = {
    "not a number": [np.nan] * 4,
    "everything": [-np.inf, -np.inf, np.inf, np.inf],
    "infinitely far": [np.inf] * 4,
    "inverted infinity": [np.inf, np.inf, -np.inf, -np.inf],
    "half a number": [10.0, np.nan, 50.0, 90.0],
}


def rois_at(stride):
    """(R, 4) float32, for maps of 10 x 13 cells of `stride` pixels."""
    return np.array([*ROIS.values()], np.float32) * stride / 16
