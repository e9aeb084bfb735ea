"""The reader against files that MXNet itself wrote, or read; see tests/golden/make_golden.py."""

from pathlib import Path

import numpy as np
import pytest

from fcis_tf.errors import FcisError
from fcis_tf.weights.mxnet_params import read_params

GOLDEN = Path("tests/golden")


def test_a_file_of_mxnet_is_read_array_by_array():
    found = read_params(GOLDEN / "params_v2.params")
    with np.load(GOLDEN / "end_to_end.npz") as reference:
        names = {name.partition(":")[2] for name in found}
        assert {n for n in reference if n.endswith(("weight", "gamma", "_var"))} <= names
        for name, value in found.items():
            kind, _, plain = name.partition(":")
            assert kind == ("aux" if "_moving_" in plain else "arg")
            if not plain.endswith("_test"):
                np.testing.assert_array_equal(value, reference[plain])


@pytest.mark.parametrize("encoding", ["v1", "legacy"])
def test_older_encodings_hold_the_same(encoding):
    found = read_params(GOLDEN / f"params_{encoding}.params")
    modern = read_params(GOLDEN / "params_v2.params")
    assert set(found) == {"arg:conv1_weight", "arg:fcis_bbox_bias", "aux:bn_conv1_moving_var"}
    for name, value in found.items():
        np.testing.assert_array_equal(value, modern[name])


@pytest.mark.parametrize("encoding", ["v1", "legacy"])
def test_a_file_cut_anywhere_is_an_error(tmp_path, encoding):
    content = (GOLDEN / f"params_{encoding}.params").read_bytes()
    path = tmp_path / "cut.params"
    for end in [*range(0, 90), *range(90, len(content), 97), len(content) - 1]:
        path.write_bytes(content[:end])
        with pytest.raises(FcisError, match=r"cut\.params"):
            read_params(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"not weights at all", "not an MXNet"),
        (np.array([0x112, 0, 2**60], "<u8").tobytes(), "cut short"),
        (np.array([0x112, 0, 1], "<u8").tobytes() + b"\xff" * 64, "dimensions"),
        (
            np.array([0x112, 0, 1], "<u8").tobytes()
            + np.array([0xF993FAC9, 1, 1, 4, 0], "<u4").tobytes(),
            "sparse",
        ),
        (
            np.array([0x112, 0, 1], "<u8").tobytes()
            + np.array([2, 2**31, 2**31, 1, 0, 0], "<u4").tobytes(),
            "cut short",
        ),
        (
            np.array([0x112, 0, 1], "<u8").tobytes()
            + np.array([0xF993FAC8, 1], "<u4").tobytes()
            + np.array([-4], "<i8").tobytes()
            + np.array([1, 0, 0], "<i4").tobytes(),
            "damaged",
        ),
    ],
)
def test_garbage_is_named(tmp_path, content, words):
    (tmp_path / "file.params").write_bytes(content)
    with pytest.raises(FcisError, match=words):
        read_params(tmp_path / "file.params")


def test_no_file(tmp_path):
    with pytest.raises(FcisError, match="cannot read"):
        read_params(tmp_path / "none.params")
