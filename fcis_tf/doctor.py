"""Checks of the installation, each with a fix: `fcis doctor`."""

import os
import platform
import shutil
import sys
from collections.abc import Callable
from importlib import import_module, metadata

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from fcis_tf import __version__
from fcis_tf.allocator import keep_freed_memory
from fcis_tf.tf_logging import import_tensorflow

FAST = (
    "avx2",
    "fma",
    "avx512f",
    "avx512_bf16",
    "amx_bf16",
    "asimd",
    "bf16",
    "sve",
)  # what oneDNN looks for
TENSORFLOWS = ("tensorflow", "tensorflow-cpu")


def examine() -> tuple[str, bool]:
    """A report of one line per check, and whether all essential checks pass."""
    lines: list[str] = []
    sound = True
    for name, check in _checks().items():
        try:
            verdict, text = check()
        except Exception as fault:  # a broken installation can fail in any way; that is a finding
            verdict, text = "FAILS", f"{type(fault).__name__}: {fault}"
        sound &= verdict != "FAILS"
        lines.append(f"{verdict:5}  {name:12}  {text}")
    lines.append("all essential checks pass" if sound else "fix what FAILS, then run again")
    return "\n".join(lines), sound


def _checks() -> dict[str, Callable[[], tuple[str, str]]]:
    return {
        "python": _python,
        "packages": _packages,
        "tensorflow": _tensorflow,
        "keras": _keras,
        "coco metrics": lambda: _version("faster-coco-eval"),
        "processor": _processor,
        "machine": _machine,
        "allocator": lambda: ("ok", keep_freed_memory()),
        "devices": _devices,
        "precision": _precision,
        "arithmetic": _arithmetic,
        "assembly": _assembly,
        "custom ops": _custom_assembly,
        "masks": _masks,
    }


def _python() -> tuple[str, str]:
    version = platform.python_version()
    supported = SpecifierSet(metadata.metadata("fcis_tf")["Requires-Python"])
    if version in supported:
        return "ok", f"{version} at {sys.executable}"
    return "FAILS", f"{version}; Python {supported} is needed"


def _packages() -> tuple[str, str]:
    both = [name for name in TENSORFLOWS if any(metadata.distributions(name=name))]
    if len(both) > 1:
        return "WARN", (
            f"{' and '.join(both)} overwrite each other's files; pip uninstall both, "
            "then pip install -e .[cpu] or .[gpu]"
        )
    if not both:
        return "FAILS", "no TensorFlow; pip install -e .[cpu] or .[gpu]"
    return "ok", f"{both[0]} {metadata.version(both[0])}, fcis_tf {__version__}"


def _tensorflow() -> tuple[str, str]:
    import_tensorflow()
    return _version("tensorflow")


def _version(name: str) -> tuple[str, str]:
    version = import_module(name.replace("-", "_")).__version__
    required = _required(name)
    if required.contains(version, prereleases=True):
        return "ok", version
    return "WARN", f"{version}; tested with {required}: pip install '{name}{required}'"


def _required(name: str) -> SpecifierSet:
    """The versions of a package that ``pyproject.toml`` names."""
    requirements = map(Requirement, metadata.requires("fcis_tf") or ())
    return next(one.specifier for one in requirements if one.name == name)


def _keras() -> tuple[str, str]:
    import keras

    if keras.backend.backend() != "tensorflow":
        return "FAILS", f"its backend is {keras.backend.backend()}; set KERAS_BACKEND=tensorflow"
    return _version("keras")


def _processor() -> tuple[str, str]:
    from fcis_tf.model.precision import processor_flags

    known = processor_flags()
    if not known:  # not Linux
        return "ok", platform.processor() or platform.machine()
    found = [flag for flag in FAST if flag in known]
    return "ok", f"{platform.machine()}; vector instructions: {', '.join(found) or 'none known'}"


def _machine() -> tuple[str, str]:
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    free = shutil.disk_usage(".").free / 2**30
    text = f"{os.cpu_count()} processors, {pages:.0f} GiB memory, {free:.0f} GiB disk free here"
    return ("WARN" if free < 2 else "ok"), text


def _devices() -> tuple[str, str]:
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        if shutil.which("nvidia-smi"):
            return "WARN", (
                "an NVIDIA driver is there but TensorFlow sees no GPU: training runs on the CPU; "
                "install the extra .[gpu] instead of .[cpu], or check CUDA_VISIBLE_DEVICES"
            )
        return "ok", "training runs on the CPU (no GPU visible to TensorFlow)"
    names = [tf.config.experimental.get_device_details(g).get("device_name", "GPU") for g in gpus]
    return "ok", f"training runs on {len(gpus)} GPUs: {', '.join(names)}"


def _precision() -> tuple[str, str]:
    from fcis_tf.model.precision import describe_precision

    return "ok", describe_precision("auto")


def _arithmetic() -> tuple[str, str]:
    import numpy as np
    import tensorflow as tf

    rng = np.random.default_rng(0)
    image, kernel = rng.normal(size=(1, 9, 9, 4)), rng.normal(size=(3, 3, 4, 5))
    windows = np.lib.stride_tricks.sliding_window_view(image[0], (3, 3), (0, 1))
    expected = np.einsum("yxcij,ijcd->yxd", windows, kernel)
    found = tf.nn.conv2d(image.astype("float32"), kernel.astype("float32"), 1, "VALID")[0]
    error = float(np.abs(found - expected).max())
    return ("ok" if error < 1e-4 else "FAILS"), f"convolution differs from NumPy by {error:.1e}"


def _assembly() -> tuple[str, str]:
    error = _assembly_error("stock")
    return ("ok" if error < 1e-5 else "FAILS"), f"stock operations, off by {error:.1e}"


def _custom_assembly() -> tuple[str, str]:
    from fcis_tf.ops import library

    found = library.load()
    if found.operations is None:
        return "WARN", f"stock operations are used instead, which are slower: {found.fault}"
    error = _assembly_error("custom")
    devices = "processor and GPU" if "-cuda-" in found.path else "processor"
    choice = "" if library.use_custom() else f"; not used, FCIS_OPS={os.environ['FCIS_OPS']}"
    return (
        "ok" if error < 1e-5 else "FAILS",
        f"{found.path} for {devices}, off by {error:.1e}{choice}",
    )


def _assembly_error(impl: str) -> float:
    import numpy as np
    import tensorflow as tf

    from fcis_tf.ops import ps_assemble

    # Maps that hold their own row number: a bin of whole cells averages to their middle.
    maps = tf.tile(tf.range(14.0)[None, :, None, None], [1, 1, 14, 49 * 2 * 2])
    roi = tf.constant([[[0.0, 0.0, 112.0, 112.0]]])
    with tf.GradientTape() as tape:
        tape.watch(maps)
        _, masks = ps_assemble(maps, roi, group_size=7, pooled_size=7, stride=8, impl=impl)
        total = tf.reduce_sum(masks)
    error = np.abs(masks[0, 0, :, 0, 1] - (2 * np.arange(7) + 0.5)).max()
    # 49 bins hand one unit to each of two sides.
    return float(max(error, abs(tf.reduce_sum(tape.gradient(total, maps)) - 98.0)))


def _masks() -> tuple[str, str]:
    import numpy as np
    from pycocotools import mask

    square = np.zeros((20, 30), np.uint8, order="F")
    square[5:15, 5:20] = 1
    area = int(mask.area(mask.encode(square)))
    return ("ok" if area == 150 else "FAILS"), f"pycocotools measures {area} of 150 pixels"
