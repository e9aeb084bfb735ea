import h5py
import keras
import numpy as np
import pytest
from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

from fcis_tf.config import load_config
from fcis_tf.errors import FcisError
from fcis_tf.model import backbone
from fcis_tf.model.backbone import build_backbone
from fcis_tf.model.fcis import FCIS
from fcis_tf.prediction.load import load_run
from fcis_tf.weights.importer import assign, import_run, read_weights
from fcis_tf.weights.mxnet import from_released
from fcis_tf.weights.mxnet_params import read_params
from tests.golden import layout

RELEASED = "tests/golden/params_v2.params"
K, CLASSES = 3, 5
TINY = ["model.pooled_size=9", "model.anchor_sizes=[16,32,64]"]


@pytest.fixture
def narrow(monkeypatch):
    """A ResNet of the units and widths that the golden file has."""
    monkeypatch.setitem(backbone.BLOCKS, "resnet50", (1, 2, 2, 3))
    monkeypatch.setattr(backbone, "RESNET_WIDTHS", (4, 8, 16, 16))


@pytest.fixture(scope="module")
def golden():
    with np.load("tests/golden/end_to_end.npz") as file:
        return dict(file)


def labels(tmp_path, count):
    path = tmp_path / "labels.json"
    rows = ",".join(f'{{"id": {i + 1}, "name": "class {i + 1}"}}' for i in range(count))
    path.write_text(f"[{rows}]")
    return path


def check_maps(model, golden):
    """The maps of MXNet's forward pass with the same file (tests/golden)."""
    maps = model(golden["image"][None])
    expected = golden["fcis_cls_seg"][:, layout.score_channels(K, CLASSES)]
    np.testing.assert_allclose(maps.scores, layout.nhwc(expected), atol=2e-4)
    expected = golden["fcis_bbox"][:, layout.box_channels(K)]
    np.testing.assert_allclose(maps.boxes, layout.nhwc(expected), atol=2e-4)
    logits, deltas = layout.rpn_outputs(golden["rpn_cls_score"], golden["rpn_bbox_pred"])
    np.testing.assert_allclose(maps.rpn.logits, logits, atol=2e-4)
    np.testing.assert_allclose(maps.rpn.deltas, deltas, atol=2e-4)


def test_a_file_of_mxnet_becomes_a_run(narrow, golden, tmp_path):
    fresh = import_run(RELEASED, tmp_path / "run", overrides=TINY, labels=labels(tmp_path, 4))
    assert fresh == []
    config, found, model = load_run(tmp_path / "run")
    assert (config.model.backbone, config.model.group_size) == ("resnet50", K)
    assert (config.model.classes, len(found), config.model.rpn_channels) == (4, 4, 16)
    check_maps(model, golden)
    with pytest.raises(FcisError, match="holds a run already"):
        import_run(RELEASED, tmp_path / "run", overrides=TINY, labels=labels(tmp_path, 4))


def chainer_arrays(released):
    """The same network as ChainerCV names and orders it: an inverse written by index."""
    heads = {"rpn_conv_3x3": "rpn/conv1", "rpn_cls_score": "rpn/score", "rpn_bbox_pred": "rpn/loc",
             "conv_new_1": "head/conv1", "fcis_cls_seg": "head/cls_seg",
             "fcis_bbox": "head/ag_loc"}  # fmt: skip
    branches = {"1": "residual_conv", "2a": "conv1", "2b": "conv2", "2c": "conv3"}
    kinds = {"gamma": "gamma", "beta": "beta", "mean": "avg_mean", "var": "avg_var"}
    anchors = len(released["rpn_cls_score_bias"]) // 2
    order = {
        "rpn_cls_score": [side * anchors + a for a in range(anchors) for side in range(2)],
        "rpn_bbox_pred": [4 * a + j for a in range(anchors) for j in (1, 0, 3, 2)],
        "fcis_bbox": [
            (4 * t + j) * K * K + cell for t in range(2) for j in (1, 0, 3, 2)
            for cell in range(K * K)
        ],
    }  # fmt: skip
    found = {}
    for name, value in released.items():
        plain, kind = name.replace("_moving", "").rsplit("_", 1)
        if plain in heads:
            value = value[order[plain]] if plain in order else value
            found[f"{heads[plain]}/{'W' if kind == 'weight' else 'b'}"] = value
            continue
        if plain in ("conv1", "bn_conv1"):
            path = "extractor/conv1"
        else:
            unit, branch = plain.split("_branch")
            unit = unit.removeprefix("res").removeprefix("bn")
            block = {"a": "a", "b": "b1", "c": "b2"}.get(unit[1:], unit[1:])
            path = f"extractor/res{unit[0]}/{block}/{branches[branch]}"
        found[f"{path}/conv/W" if kind == "weight" else f"{path}/bn/{kinds[kind]}"] = value
        found[f"{path}/bn/N"] = np.array(0)
    return found


def test_chainercvs_names_and_layouts(narrow, golden, tmp_path):
    released = {
        name: value
        for name, value in golden.items()
        if name.endswith(("_weight", "_bias", "_gamma", "_beta", "_mean", "_var"))
    }
    np.savez(tmp_path / "model.npz", **chainer_arrays(released))
    source = str(tmp_path / "model.npz")
    import_run(source, tmp_path / "run", overrides=TINY, labels=labels(tmp_path, 4))
    check_maps(load_run(tmp_path / "run")[2], golden)


def randomise(model):
    rng = np.random.default_rng(0)
    for variable in model.weights:
        size = np.prod(variable.shape[:-1]) if len(variable.shape) > 1 else 1
        value = rng.normal(size=variable.shape) * (2 / size) ** 0.5
        if variable.name == "moving_variance":
            value = rng.uniform(0.5, 1.5, variable.shape)
        if variable.name == "gamma":
            value = rng.uniform(0.5, 1.0, variable.shape)
        variable.assign(value)


def save_weights_as_keras_2_did(model, path):
    """The format of the files on Keras' server, *_weights_tf_dim_ordering_tf_kernels_notop.h5."""
    with h5py.File(path, "w") as file:
        save_weights_to_hdf5_group(file, model)


@pytest.mark.parametrize("save", [keras.Model.save, save_weights_as_keras_2_did])
def test_keras_backbones_are_the_same_function(tmp_path, save):
    """Stage by stage on the same input; pooling and the last stage's dilation differ by design."""
    theirs = keras.applications.ResNet50(weights=None, include_top=False, input_shape=(64, 64, 3))
    randomise(theirs)
    path = tmp_path / "resnet50.h5"
    save(theirs, path)
    weights = read_weights(path)
    ours = build_backbone("resnet50", norm="frozen_batch", output_stride=16, dtype="float32")
    for variable in ours.weights:
        variable.assign(weights.pop("/".join(variable.path.split("/")[-2:])))
    assert not weights
    rng = np.random.default_rng(1)
    rgb = rng.normal(scale=50, size=(1, 64, 64, 3)).astype(np.float32)

    def part(model, first, last):
        return keras.Model(model.get_layer(first).output, model.get_layer(last).output)

    expected = keras.Model(theirs.input, theirs.get_layer("conv1_relu").output)(rgb[..., ::-1])
    found = keras.Model(ours.input, ours.get_layer("conv1_relu").output)(rgb)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    pooled = np.abs(rng.normal(size=(1, 16, 16, 64))).astype(np.float32)
    expected = part(theirs, "pool1_pool", "conv4_block6_out")(pooled)
    last = next(n for n in ("conv4_block6_out", "conv4_block6_relu") if has_layer(ours, n))
    found = part(ours, "pool1_pool", last)(pooled)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    # A dilated stage without its stride holds the strided one's values at every second place.
    expected = part(theirs, "conv4_block6_out", "conv5_block1_out")(found)
    last = next(n for n in ("conv5_block1_out", "conv5_block1_relu") if has_layer(ours, n))
    found = part(ours, "conv4_block6_out", last)(found)[:, ::2, ::2]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def has_layer(model, name):
    return name in {layer.name for layer in model.layers}


def tiny(classes=4):
    return FCIS.from_config(
        load_config(
            None,
            [*TINY, "model.backbone=resnet50", f"model.classes={classes}", "model.group_size=3",
             "model.rpn_channels=16", "model.head_channels=24"],
        )
    )  # fmt: skip


def test_what_does_not_fit_is_named(narrow):
    weights = read_weights(RELEASED)
    weights["conv1_conv/bias"] = np.zeros(4)
    del weights["rpn_cls_score/bias"]
    weights["conv1_bn/gamma"] = np.zeros(7)
    with pytest.raises(FcisError) as fault:
        assign(tiny(), weights, "file.params")
    text = str(fault.value)
    for words in ("missing: rpn_cls_score/bias", "not in this model: conv1_conv/bias",
                  "of another shape: conv1_bn/gamma (expected (4,), found (7,))"):  # fmt: skip
        assert words in text


def test_channels_that_do_not_divide_are_named():
    params = read_params(RELEASED)
    with pytest.raises(FcisError, match=r"file: rpn_bbox_pred/bias: expected channels in groups"):
        from_released(params | {"arg:rpn_bbox_pred_bias": np.zeros(7)}, "file")
    del params["arg:rpn_bbox_pred_bias"]
    assert "rpn_bbox_pred/bias" not in from_released(params, "file")


def test_another_number_of_classes_needs_a_word(narrow):
    weights, model = read_weights(RELEASED), tiny(classes=2)
    head = {v.path: v.numpy() for v in model.weights if "fcis_cls_seg" in v.path}
    with pytest.raises(FcisError, match=r"fcis_cls_seg/kernel.*--reinitialise-head"):
        assign(model, weights, "file.params")
    assert assign(model, weights, "file.params", fresh_head=True) == ["fcis_cls_seg"]
    for variable in model.weights:
        if variable.path in head:
            np.testing.assert_array_equal(variable.numpy(), head[variable.path])
        else:
            expected = weights["/".join(variable.path.split("/")[-2:])]
            np.testing.assert_array_equal(variable.numpy(), expected)


def test_a_backbone_leaves_all_heads_as_they_are(narrow):
    weights = {k: v for k, v in read_weights(RELEASED).items() if k.startswith("conv")}
    weights = {k: v for k, v in weights.items() if not k.startswith("conv_new")}
    with pytest.raises(FcisError, match="missing: rpn_conv_3x3/kernel"):
        assign(tiny(), weights, "backbone")
    fresh = assign(tiny(), weights, "backbone", fresh_head=True)
    assert fresh == ["rpn_conv_3x3", "rpn_cls_score", "rpn_bbox_pred", "conv_new_1",
                     "fcis_cls_seg", "fcis_bbox"]  # fmt: skip
    del weights["conv4_block1_1_conv/kernel"]
    with pytest.raises(FcisError, match="missing: conv4_block1_1_conv/kernel"):
        assign(tiny(), weights, "backbone", fresh_head=True)


def test_test_arrays_are_cross_checked():
    params = read_params(RELEASED)
    assert "arg:fcis_bbox_weight_test" in params
    for kind in ("weight", "bias"):
        name = f"arg:fcis_bbox_{kind}_test"
        with pytest.raises(FcisError, match=f"fcis_bbox_{kind}_test is not fcis_bbox_{kind} times"):
            from_released(params | {name: params[name] * 1.001}, "file.params")
    with pytest.raises(FcisError, match="conv9_weight: not an array of FCIS"):
        from_released(params | {"arg:conv9_weight": np.zeros(1)}, "file.params")


def test_a_run_starts_a_training_of_other_classes(narrow, tmp_path):
    import_run(RELEASED, tmp_path / "run", overrides=TINY, labels=labels(tmp_path, 4))
    model = tiny(classes=2)
    assert assign(model, read_weights(tmp_path / "run"), "run", fresh_head=True) == ["fcis_cls_seg"]
    expected = read_weights(RELEASED)
    for variable in model.backbone.weights:
        key = "/".join(variable.path.split("/")[-2:])
        np.testing.assert_array_equal(variable.numpy(), expected[key])


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("nothing.params", "no such weights"),
        ("keras:resnet18", "expected one of resnet50"),
        ("README.md", "expected a .params, .npz or .h5 file"),
    ],
)
def test_unknown_sources(source, words):
    with pytest.raises(FcisError, match=words):
        read_weights(source)


def test_a_download_without_a_network_names_the_remedy(monkeypatch):
    def fail(**_):
        raise Exception("URL fetch failure on https://...: None -- [Errno -2]")

    monkeypatch.setattr(keras.applications, "ResNet101", fail)
    with pytest.raises(FcisError, match=r"keras:resnet101: Keras cannot fetch.*name its path"):
        read_weights("keras:resnet101")


@pytest.mark.parametrize("name", ["bad.npz", "bad.h5"])
def test_damaged_files_are_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"damaged")
    with pytest.raises(FcisError, match=name):
        read_weights(tmp_path / name)


def test_classes_without_names(narrow, tmp_path):
    with pytest.raises(FcisError, match="the weights have 4 classes; name them with --labels"):
        import_run(RELEASED, tmp_path / "run", overrides=TINY)
    assert not (tmp_path / "run").exists()
