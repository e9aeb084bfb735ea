"""Golden arrays of pooling, backbone and image."""

import numpy as np
from mxnet import autograd, nd

from tests.golden import reference as ref
from tests.golden.stages.common import UNITS, WIDTHS, random_rois, save


def ps_roi_pool():
    """Keys with the combination's number: k, p, maps, rois (R, 5), output, upstream, gradient."""
    arrays = {}
    for n, (p, k) in enumerate([(21, 7), (9, 3), (7, 7), (14, 7), (21, 1), (8, 3)]):
        rng = np.random.default_rng(n)
        depth = 2
        odd = [
            [40, 30, 40, 30],  # one pixel
            [40.2, 30.3, 41.1, 30.9],  # less than a cell
            [90, 80, 60, 50],  # inverted
            [-70, -60, -20, -10],  # outside
            [300, 30, 500, 90],  # outside on the right
            [-20.5, 100.5, 90.5, 260.5],  # partly outside, on .5
            [16.5, 17.5, 99.5, 98.5],
            [0, 0, 271, 191],
        ]
        rois = np.concatenate([np.array(odd), random_rois(rng, 8, 272, 192)])
        good = [r for r in rois if ref.edges_hold([r], p, 12, 17)]
        print(f"p {p}, k {k}: {len(good)} of {len(rois)} ROIs have exact edges in float32")
        rois = np.concatenate([rng.integers(0, 2, (len(good), 1)), good], 1).astype(np.float32)
        maps = nd.array(rng.normal(size=(2, k * k * depth, 12, 17)))
        upstream = rng.normal(size=(len(rois), depth, p, p)).astype(np.float32)
        maps.attach_grad()
        with autograd.record():
            output = ref.ps_roi_pool(maps, nd.array(rois), k, p, depth)
        output.backward(nd.array(upstream))
        part = dict(k=k, p=p, maps=maps.asnumpy(), rois=rois, output=output.asnumpy())
        part |= dict(upstream=upstream, gradient=maps.grad.asnumpy())
        arrays |= {f"{name}{n}": value for name, value in part.items()}
    save("ps_roi_pool", **arrays)


def backbone():
    """Parameters by released name; images and their maps; gradients of sum(C4 g4) + sum(C5 g5)."""
    rng = np.random.default_rng(0)
    parameters = ref.random_parameters(rng, UNITS, WIDTHS)
    arrays = dict(parameters)
    for n, (height, width) in enumerate([(64, 96), (65, 97), (81, 50), (66, 71)]):
        image = rng.normal(0, 60, (height, width, 3)).astype(np.float32)
        on = {name: nd.array(value) for name, value in parameters.items()}
        trained = [name for name in on if ref.is_trained(name)]
        for name in trained:
            on[name].attach_grad()
        with autograd.record():
            conv4, conv5 = ref.backbone(on, nd.array(image.transpose(2, 0, 1)[None]), UNITS)
        arrays |= {f"image{n}": image, f"conv4_{n}": conv4.asnumpy(), f"conv5_{n}": conv5.asnumpy()}
        if n == 1:
            up = [rng.normal(size=x.shape).astype(np.float32) for x in (conv4, conv5)]
            autograd.backward([conv4, conv5], [nd.array(u) for u in up])
            arrays |= {"upstream4": up[0], "upstream5": up[1]}
            arrays |= {f"gradient_{name}": on[name].grad.asnumpy() for name in trained}
    save("backbone", **arrays)


def image():
    """raw uint8 RGB, short and long side, input (H, W, 3), info (height, width, factor)."""
    rng, arrays = np.random.default_rng(0), {}
    cases = [(45, 61, 60, 100), (61, 45, 60, 100), (40, 90, 60, 100), (83, 60, 60, 100),
             (111, 74, 48, 64), (50, 76, 60, 91)]  # fmt: skip
    for n, (height, width, short, long) in enumerate(cases):
        raw = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        tensor, info = ref.image_input(raw, short, long)
        arrays |= {f"raw{n}": raw, f"sides{n}": (short, long)}
        arrays |= {f"input{n}": tensor, f"info{n}": np.array(info, np.float64)}
    save("image", **arrays)
