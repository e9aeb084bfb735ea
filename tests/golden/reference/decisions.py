"""How near each discrete decision was to its edge.

Rounding, thresholds and sorting note their distance here, so that golden arrays can be chosen that
do not depend on the last bit.
"""

import numpy as np

margins = {}


def note(kind, distances):
    """Remember the smallest distance of a kind of decision from its edge."""
    distances = np.abs(np.asarray(distances, np.float64)).ravel()
    if distances.size:
        margins[kind] = min(margins.get(kind, np.inf), float(distances.min()))


def rint(values):
    note("rounding", np.abs(values - np.floor(values) - 0.5))
    return np.rint(values)
