"""The number format of the convolutions, chosen for the device that a network is built on.

Weights, losses, optimiser state and everything per ROI are float32 in every case, so a run may
continue, evaluate or predict on another device in another format.
"""

import functools
import sys
from pathlib import Path

import tensorflow as tf

CPUINFO = Path("/proc/cpuinfo")
# Processor flags any of which makes a format faster than float32 (x86 and ARM names).
PROCESSOR = {
    "bfloat16": ("avx512_bf16", "amx_bf16", "bf16"),
    "float16": ("avx512_fp16", "amx_fp16"),
}
GPU = {"bfloat16": (8, 0), "float16": (7, 0)}  # least compute capability of tensor cores for it


def resolve_precision(setting: str) -> str:
    """The format that a setting of ``train.precision`` or ``predict.precision`` means here.

    Args:
        setting: float32, bfloat16, float16, or auto: bfloat16 where every visible GPU, or without
            one the processor, computes it faster than float32; else float32.
    """
    if setting != "auto":
        return setting
    return "bfloat16" if _fast("bfloat16")[0] else "float32"


def describe_precision(setting: str) -> str:
    """`resolve_precision` in words, with its reason."""
    precision = resolve_precision(setting)
    return f"{precision} (auto: {_fast('bfloat16')[1]})" if setting == "auto" else precision


@functools.cache
def warn_of_slow_precision(key: str, setting: str) -> None:
    """One line on standard error, once, if a format was chosen that is slow here.

    Args:
        key: of the configuration, such as ``train.precision``.
        setting: its value.
    """
    if setting not in PROCESSOR:
        return
    fast, reason = _fast(setting)
    if not fast:
        print(
            f"warning: {key}: {setting} can take several times as long as float32, {reason}; "
            f"use {key}=auto",
            file=sys.stderr,
            flush=True,
        )


def processor_flags() -> frozenset[str]:
    """Instruction sets that Linux reports of the processor; empty on other systems."""
    if not CPUINFO.exists():
        return frozenset()
    lines = (line.partition(":") for line in CPUINFO.read_text().splitlines())
    return frozenset(
        flag
        for name, _, flags in lines
        if name.strip() in ("flags", "Features")
        for flag in flags.split()
    )


def _fast(precision: str) -> tuple[bool, str]:
    """Whether the visible devices compute a format faster than float32, and the reason."""
    gpus = tf.config.get_visible_devices("GPU")
    if not gpus:
        flags = processor_flags()
        known = [flag for flag in PROCESSOR[precision] if flag in flags]
        evidence = known[0] if known else f"no {precision} arithmetic"
        return bool(known), f"the processor has {evidence}"
    devices = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    # Other makes of GPUs than NVIDIA's do not report a compute capability.
    least = min(tuple(part.get("compute_capability") or (0, 0)) for part in devices)
    found, needed = (".".join(map(str, part)) for part in (least, GPU[precision]))
    fast = least >= GPU[precision]
    return fast, f"GPU compute capability {found}, {'at least' if fast else 'below'} {needed}"
