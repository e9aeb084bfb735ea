"""The resized image less the means against OpenCV's."""

import numpy as np
import pytest

from fcis_tf.config import DataConfig
from fcis_tf.data.pipeline import network_input
from tests.golden.arrays import cases


@pytest.mark.parametrize("case", cases("image", "raw"), ids=lambda c: str(c["raw"].shape[:2]))
def test_image(case, close):
    short, long = (int(side) for side in case["sides"])
    sides = {"validation_short_side": short, "validation_long_side": long}
    found, scale = network_input(case["raw"], DataConfig(resize="released", **sides))
    close("image", found, case["input"])
    assert float(scale) == pytest.approx(case["info"][2])
    exact, _ = network_input(case["raw"], DataConfig(resize="exact", **sides))
    # The default does not round to whole grey levels, and keeps more bits of the weights.
    assert np.abs(exact - case["input"]).max() < 0.9
