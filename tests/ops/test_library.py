"""Finding, building and choosing the custom operations; what they refuse."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from fcis_tf import FcisError
from fcis_tf.ops import build, library, ps_average

ARGUMENTS = {
    "maps": np.ones([2, 5, 6, 9 * 4], np.float32),
    "rois": np.zeros([3, 4], np.float32),
    "image_index": np.zeros([3], np.int32),
    "labels": np.zeros([3], np.int32),
}
GRADIENT = {
    "chosen": np.zeros([3], np.int32),
    "class_gradient": np.ones([3, 2], np.float32),
    "mask_gradient": np.ones([3, 9, 9, 2], np.float32),
}
GEOMETRY = {"group_size": 3, "pooled_size": 9, "stride": 16}


@pytest.fixture
def empty(monkeypatch, tmp_path):
    """No library yet, and nothing loaded before."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    library.load.cache_clear()
    library._warn_once.cache_clear()
    yield tmp_path
    library.load.cache_clear()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"maps": np.ones([2, 5, 36], np.float32)}, "maps: expected 4 dimensions"),
        ({"maps": np.ones([2, 5, 6, 37], np.float32)}, "maps: expected a multiple of"),
        ({"maps": np.ones([2, 5, 6, 27], np.float32)}, "maps: expected a multiple of"),
        ({"maps": np.ones([2, 5, 6, 0], np.float32)}, "maps: expected a multiple of"),
        ({"rois": np.zeros([4], np.float32)}, "rois: expected"),
        ({"rois": np.zeros([3, 5], np.float32)}, "rois: expected shape"),
        ({"image_index": np.zeros([2], np.int32)}, "image_index: expected shape"),
        ({"image_index": np.array([0, 2, 0], np.int32)}, "image_index: expected values in 0..1"),
        ({"image_index": np.array([0, -1, 0], np.int32)}, "image_index: expected values in 0..1"),
        ({"labels": np.zeros([4], np.int32)}, "labels: expected shape"),
        ({"labels": np.array([0, 2, 0], np.int32)}, "labels: expected values in -1..1, found 2"),
        ({"labels": np.array([0, -2, 0], np.int32)}, "labels: expected values in -1..1, found -2"),
    ],
)
def test_the_operation_itself_refuses_by_name(changed, message):
    given = ARGUMENTS | changed
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        library.load().operations.fcis_ps_assemble(**given, **GEOMETRY)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"chosen": np.array([0, 0, 2], np.int32)}, "chosen: expected values in 0..1, found 2"),
        ({"chosen": np.array([0, -1, 0], np.int32)}, "chosen: expected values in 0..1, found -1"),
        ({"class_gradient": np.ones([3, 3], np.float32)}, "class_gradient: expected shape"),
        ({"mask_gradient": np.ones([3, 9, 8, 2], np.float32)}, "mask_gradient: expected shape"),
        ({"image_index": np.array([0, 2, 0], np.int32)}, "image_index: expected values in 0..1"),
    ],
)
def test_the_gradient_itself_refuses_by_name(changed, message):
    given = {**ARGUMENTS, **GRADIENT, **changed}
    del given["labels"]
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        library.load().operations.fcis_ps_assemble_grad(**given, **GEOMETRY)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"pooled_size": 129}, "pooled_size: expected at most 128"),
        ({"group_size": 10}, "group_size: expected at most pooled_size 9"),
        ({"stride": 7}, "stride: expected an even number"),
        ({"stride": 8192}, "stride: expected an even number up to 4096"),
    ],
)
def test_geometry_that_integers_cannot_hold_is_refused(changed, message):
    geometry = GEOMETRY | changed
    maps = np.ones([2, 5, 6, 2 * geometry["group_size"] ** 2], np.float32)
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        library.load().operations.fcis_ps_assemble(**(ARGUMENTS | {"maps": maps}), **geometry)


def test_the_builder_needs_no_package_and_builds_once(empty):
    """As pip runs it, in an environment that has TensorFlow but not yet this project."""
    command = [sys.executable, "-I", build.__file__]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    path = Path(done.stdout.strip())
    assert path.parent == empty / "fcis_tf" and f"-tf{tf.__version__}-" in path.name
    written = path.stat().st_mtime_ns
    assert build.build() == path and path.stat().st_mtime_ns == written
    assert [*path.parent.iterdir()] == [path]  # nothing half-made is left


def test_other_sources_or_another_tensorflow_are_another_library(empty, monkeypatch, tmp_path):
    first = build.library_path()
    copy = tmp_path / "sources"
    shutil.copytree(build.source_folder(), copy, ignore=shutil.ignore_patterns("build"))
    monkeypatch.setattr(build, "source_folder", lambda: copy)
    assert build.library_path() == first
    with (copy / "geometry.h").open("a") as header:
        header.write("// changed\n")
    second = build.library_path()
    monkeypatch.setattr(tf, "__version__", "2.99.0")
    assert len({first, second, build.library_path()}) == 3


def test_without_a_compiler_stock_operations_run_with_one_warning(empty, monkeypatch):
    monkeypatch.setenv("PATH", str(empty))
    monkeypatch.delenv("FCIS_OPS", raising=False)
    with pytest.warns(UserWarning, match="stock operations.*apt-get install g") as caught:
        found = [
            ps_average(tf.ones([1, 4, 4, 9]), tf.zeros([1, 1, 4]), **GEOMETRY) for _ in range(3)
        ]
    assert len(caught) == 1 and len(found) == 3
    monkeypatch.setenv("FCIS_OPS", "custom")
    with pytest.raises(FcisError, match="custom operations were requested: no C\\+\\+ compiler"):
        ps_average(tf.ones([1, 4, 4, 9]), tf.zeros([1, 1, 4]), **GEOMETRY)


def test_a_compiler_that_fails_is_named_with_its_output(empty, monkeypatch):
    broken = empty / "g++"
    broken.write_text("#!/bin/sh\necho 'cannot find libstdc++' >&2\nexit 1\n")
    broken.chmod(broken.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("CXX", str(broken))
    with pytest.raises(build.BuildError, match="compiler output:") as caught:
        build.build()
    log = Path(str(caught.value).rsplit(" ", 1)[1])
    assert "cannot find libstdc++" in log.read_text()
    assert [*log.parent.iterdir()] == [log]


def test_a_folder_that_cannot_be_written_is_named(empty, monkeypatch):
    (empty / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(empty / "file"))
    with pytest.raises(build.BuildError, match="cannot be written.*XDG_CACHE_HOME"):
        build.build()


def test_the_environment_chooses_and_the_argument_wins(monkeypatch):
    monkeypatch.setenv("FCIS_OPS", "stock")
    assert not library.use_custom() and library.use_custom("custom")
    monkeypatch.setenv("FCIS_OPS", "custom")
    assert library.use_custom() and not library.use_custom("stock")
    monkeypatch.setenv("FCIS_OPS", "quick")
    with pytest.raises(FcisError, match="FCIS_OPS: expected one of auto, stock, custom"):
        library.use_custom()
    with pytest.raises(FcisError, match="impl: expected one of"):
        library.use_custom("fast")
