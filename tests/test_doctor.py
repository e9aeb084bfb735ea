from importlib import metadata

import keras
import pytest
import tensorflow as tf
from packaging.specifiers import SpecifierSet

from fcis_tf import doctor


def test_this_environment_is_sound():
    report, sound = doctor.examine()
    assert sound, report
    assert "convolution differs from NumPy" in report and "150 of 150 pixels" in report


def test_a_broken_part_is_found_and_the_rest_still_reported(monkeypatch):
    def broken():
        raise OSError("no such library")

    checks = doctor._checks() | {"arithmetic": broken}
    monkeypatch.setattr(doctor, "_checks", lambda: checks)
    report, sound = doctor.examine()
    assert not sound and "FAILS  arithmetic    OSError: no such library" in report
    assert "pycocotools measures" in report


@pytest.mark.parametrize(
    ("names", "verdict"),
    [(["tensorflow", "tensorflow-cpu"], "WARN"), (["numpy"], "FAILS"), (["tensorflow-cpu"], "ok")],
)
def test_two_tensorflows_overwrite_each_other(monkeypatch, names, verdict):
    monkeypatch.setattr(metadata, "distributions", lambda name: [n for n in names if n == name])
    assert doctor._packages()[0] == verdict


@pytest.mark.parametrize(
    ("target", "broken", "check", "words"),
    [
        ("tensorflow.nn.conv2d", lambda *_: tf.zeros([1, 7, 7, 5]), "arithmetic", "differs from"),
        ("pycocotools.mask.area", lambda *_: 149, "masks", "149 of 150 pixels"),
        (
            "fcis_tf.ops.stock._means",
            lambda maps, places, owner, bins: 0.0 * tf.gather(maps, tf.zeros([bins], tf.int32)),
            "assembly",
            "off by",
        ),
        ("keras.backend.backend", lambda: "jax", "keras", "set KERAS_BACKEND=tensorflow"),
    ],
)
def test_wrong_numbers_and_settings_fail(monkeypatch, target, broken, check, words):
    monkeypatch.setattr(target, broken)
    report, sound = doctor.examine()
    (line,) = [row for row in report.splitlines() if row[7:].startswith(check + " ")]
    assert not sound and line.startswith("FAILS") and words in line
    assert report.splitlines()[-1].startswith("fix")


@pytest.mark.parametrize(
    ("version", "verdict"),
    [("3.14.9", "WARN"), ("3.15.0", "ok"), ("3.15.7", "ok"), ("3.16.0", "WARN"), ("4.0.0", "WARN")],
)
def test_versions_are_compared_as_numbers(monkeypatch, version, verdict):
    monkeypatch.setattr(metadata, "requires", lambda _: ["h5py>=3", "keras>=3.15,<3.16"])
    monkeypatch.setattr(keras, "__version__", version)
    found, text = doctor._version("keras")
    assert found == verdict and text.startswith(version)
    assert (verdict == "ok") or "pip install 'keras<3.16,>=3.15'" in text


def test_a_python_outside_the_declared_range_fails(monkeypatch):
    required = SpecifierSet(metadata.metadata("fcis_tf")["Requires-Python"])
    monkeypatch.setattr(doctor.platform, "python_version", lambda: "3.10.9")
    assert doctor._python() == ("FAILS", f"3.10.9; Python {required} is needed")
