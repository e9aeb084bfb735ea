"""Weights as MXNet writes them, in three encodings."""

import mxnet as mx
import numpy as np
from mxnet import nd

from tests.golden import reference as ref
from tests.golden.stages.common import HERE, K


def params():
    """The network of end_to_end as MXNet writes it, and a part of it in the two older encodings."""
    with np.load(HERE / "end_to_end.npz") as file:
        arrays = {n: v for n, v in file.items() if n.endswith(("weight", "bias", "gamma", "beta"))}
        statistics = {n: v for n, v in file.items() if "_moving_" in n}
    std = np.tile(np.repeat(ref.STD, K * K), 2)
    arrays["fcis_bbox_weight_test"] = arrays["fcis_bbox_weight"] * std[:, None, None, None]
    arrays["fcis_bbox_bias_test"] = arrays["fcis_bbox_bias"] * std
    named = {f"arg:{n}": v for n, v in arrays.items()} | {
        f"aux:{n}": v for n, v in statistics.items()
    }
    mx.nd.save(str(HERE / "params_v2.params"), {n: nd.array(v) for n, v in named.items()})
    part = ("arg:conv1_weight", "arg:fcis_bbox_bias", "aux:bn_conv1_moving_var")
    for kind in ("v1", "legacy"):
        path = HERE / f"params_{kind}.params"
        path.write_bytes(encoded({name: named[name] for name in part}, kind))
        for name, value in mx.nd.load(str(path)).items():
            np.testing.assert_array_equal(value.asnumpy(), named[name].astype(np.float32))


def encoded(arrays, kind):
    """The bytes of a .params file with arrays as MXNet wrote them before V2."""
    words = [np.array([0x112, 0, len(arrays)], "<u8")]
    for value in arrays.values():
        if kind == "v1":
            words += [np.array([0xF993FAC8, value.ndim], "<u4"), np.array(value.shape, "<i8")]
        else:
            words += [np.array([value.ndim, *value.shape], "<u4")]
        words += [np.array([1, 0, 0], "<i4"), value.astype("<f4")]
    words.append(np.array([len(arrays)], "<u8"))
    for name in arrays:
        words += [np.array([len(name)], "<u8"), np.frombuffer(name.encode(), "u1")]
    return b"".join(word.tobytes() for word in words)
