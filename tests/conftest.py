import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Several processes test at once, and none may take all memory of a GPU.
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")

import keras
import numpy as np
import pytest
import tensorflow as tf

# Of the largest value of a golden array.
TOLERANCE = 1e-4
DIFFERENCES = pytest.StashKey[dict]()


def pytest_configure(config):
    """Two logical devices on one processor stand in for two GPUs."""
    processor = tf.config.list_physical_devices("CPU")[0]
    device = tf.config.LogicalDeviceConfiguration()
    tf.config.set_logical_device_configuration(processor, [device, device])


def pytest_collection_modifyitems(items):
    """Files with slow tests come first, so that no worker is left with a long one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def seed():
    keras.utils.set_random_seed(0)


def remember(config, stage, difference):
    differences = config.stash.setdefault(DIFFERENCES, {})
    differences[stage] = max(differences.get(stage, 0.0), difference)


@pytest.fixture
def close(request):
    """``close(stage, found, expected)``: compare with a golden array, remember the difference."""

    def compare(stage, found, expected):
        found, expected = np.asarray(found), np.asarray(expected)
        assert found.shape == expected.shape
        largest = np.abs(expected).max(initial=1e-12)
        difference = float(np.abs(found - expected).max(initial=0.0) / largest)
        remember(request.config, stage, difference)
        assert difference <= TOLERANCE, f"{stage}: {difference:.1e} of {largest:.3g}"

    return compare


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """A worker of pytest-xdist has ended: keep its differences."""
    for stage, difference in getattr(node, "workeroutput", {}).get("differences", {}).items():
        remember(node.config, stage, difference)


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["differences"] = session.config.stash.get(DIFFERENCES, {})


def pytest_terminal_summary(terminalreporter, config):
    """The largest difference of every stage from the golden arrays, as in docs/parity.md."""
    differences = config.stash.get(DIFFERENCES, {})
    if differences:
        terminalreporter.section("largest difference, relative to the largest reference value")
    for name, value in differences.items():
        terminalreporter.line(f"{name:45} {value:.1e}")
