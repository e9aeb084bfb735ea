"""Formats on simulated processors and GPUs."""

import pytest
import tensorflow as tf
from keras.layers import Conv2D

from fcis_tf.config import load_config
from fcis_tf.model import precision
from fcis_tf.model.fcis import FCIS
from fcis_tf.model.precision import describe_precision, resolve_precision, warn_of_slow_precision
from tests import fixtures

X86 = "processor\t: 0\nmodel name\t: with bf16 in its name\nflags\t\t: fpu sse2 avx2 fma {}\n\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd sve {}\nCPU part\t: 0xd40\n\n"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """``machine(cpuinfo, capability of each GPU...)`` is where the network runs."""
    file = tmp_path / "cpuinfo"

    def become(text, *capabilities):
        file.write_text(2 * text)
        monkeypatch.setattr(precision, "CPUINFO", file)
        monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: capabilities)
        monkeypatch.setattr(
            tf.config.experimental,
            "get_device_details",
            lambda gpu: {"compute_capability": gpu} if gpu else {"device_name": "other make"},
        )

    warn_of_slow_precision.cache_clear()
    yield become
    warn_of_slow_precision.cache_clear()


@pytest.mark.parametrize(
    ("text", "expected", "reason"),
    [
        (X86.format("avx512f avx512_bf16"), "bfloat16", "the processor has avx512_bf16"),
        (X86.format("avx512f amx_bf16 amx_tile"), "bfloat16", "the processor has amx_bf16"),
        (X86.format("avx512f"), "float32", "the processor has no bfloat16 arithmetic"),
        (X86.format("avx512f avx512_fp16"), "float32", "the processor has no bfloat16 arithmetic"),
        (ARM.format("bf16 i8mm"), "bfloat16", "the processor has bf16"),
        (ARM.format("svebf16x"), "float32", "the processor has no bfloat16 arithmetic"),
    ],
)
def test_auto_follows_the_flags_of_the_processor(machine, text, expected, reason):
    machine(text)
    assert resolve_precision("auto") == expected
    assert describe_precision("auto") == f"{expected} (auto: {reason})"


@pytest.mark.parametrize(
    ("capabilities", "expected", "reason"),
    [
        ([(8, 0)], "bfloat16", "GPU compute capability 8.0, at least 8.0"),
        ([(9, 0), (12, 0)], "bfloat16", "GPU compute capability 9.0, at least 8.0"),
        ([(9, 0), (7, 5)], "float32", "GPU compute capability 7.5, below 8.0"),
        ([None], "float32", "GPU compute capability 0.0, below 8.0"),
    ],
)
def test_auto_follows_the_slowest_gpu_and_not_the_processor(
    machine, capabilities, expected, reason
):
    machine(X86.format("" if expected == "bfloat16" else "avx512_bf16"), *capabilities)
    assert describe_precision("auto") == f"{expected} (auto: {reason})"


def test_without_cpuinfo_auto_is_float32(monkeypatch, tmp_path):
    monkeypatch.setattr(precision, "CPUINFO", tmp_path / "none")
    assert resolve_precision("auto") == "float32"


@pytest.mark.parametrize("setting", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("flags", ["avx2", "avx512_bf16 avx512_fp16"])
def test_an_explicit_format_stays_and_is_warned_of_once_where_it_is_slow(
    machine, setting, flags, capsys
):
    machine(X86.format(flags))
    assert resolve_precision(setting) == describe_precision(setting) == setting
    for _ in range(2):
        warn_of_slow_precision("train.precision", setting)
    slow = setting != "float32" and flags == "avx2"
    expected = (
        f"warning: train.precision: {setting} can take several times as long as float32, "
        f"the processor has no {setting} arithmetic; use train.precision=auto\n"
    )
    assert capsys.readouterr().err == (expected if slow else "")


def test_auto_is_not_warned_of(machine, capsys):
    machine(X86.format("avx2"))
    warn_of_slow_precision("train.precision", "auto")
    assert capsys.readouterr().err == ""


def test_the_network_of_auto_computes_in_the_format_it_means_with_float32_weights(
    machine, monkeypatch
):
    monkeypatch.setattr(FCIS, "__call__", lambda *_: None)  # slow in bfloat16 on some processors
    config = load_config(None, [*fixtures.TINY, "model.classes=3"])
    for flags, expected in (("avx2", "float32"), ("avx512_bf16", "bfloat16")):
        machine(X86.format(flags))
        model = FCIS(config, precision="auto")
        assert model.precision == model.compute_dtype == expected
        assert model.get_config()["precision"] == "auto"
        for part in (model.backbone, model.rpn_head, model.score_maps):
            layers = [layer for layer in part._flatten_layers() if isinstance(layer, Conv2D)]
            assert layers and {layer.compute_dtype for layer in layers} == {expected}
            assert {layer.variable_dtype for layer in layers} == {"float32"}
