"""The backbone and its gradients against MXNet's."""

import tensorflow as tf

from fcis_tf.model import backbone
from tests.golden import layout
from tests.golden.arrays import assign, golden


def test_backbone(narrow, close):
    arrays = golden("backbone")
    model = backbone.build_backbone(
        "resnet50", norm="frozen_batch", output_stride=16, dtype="float32"
    )
    parameters = {n: v for n, v in arrays.items() if n.startswith(("conv1_w", "bn", "res"))}
    assign(model.weights, layout.weights(parameters, 1, 1, 1))
    for n in range(4):
        maps = model(arrays[f"image{n}"][None], training=True)
        for found, name in zip(maps, ("conv4", "conv5"), strict=True):
            close(f"backbone {name}", found, layout.nhwc(arrays[f"{name}_{n}"]))
    upstream = [layout.nhwc(arrays[f"upstream{stage}"]) for stage in (4, 5)]
    variables = model.trainable_variables
    with tf.GradientTape() as tape:
        maps = model(arrays["image1"][None], training=True)
    gradients = tape.gradient(maps, [v.value for v in variables], upstream)
    prefix = "gradient_"
    expected = layout.weights(
        {n.removeprefix(prefix): v for n, v in arrays.items() if n.startswith(prefix)}, 1, 1, 1
    )
    # What is trained: stages 3 to 5 with gamma and beta, nothing before.
    assert {"/".join(v.path.split("/")[-2:]) for v in variables} == set(expected)
    for variable, gradient in zip(variables, gradients, strict=True):
        close("backbone, gradients", gradient, expected["/".join(variable.path.split("/")[-2:])])
