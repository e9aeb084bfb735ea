"""Weights of other classes: what has the same name is kept to the bit."""

import numpy as np
import pytest

from fcis_tf.config import load_config
from fcis_tf.labels import COCO_NAMES, VOC_NAMES, Labels
from fcis_tf.model.fcis import FCIS
from fcis_tf.weights.transfer import class_names, start_from
from fcis_tf.weights.weight_files import BEST, save_weights
from tests import fixtures

OLD = Labels((1, 2, 5, 9), ("cat", "dog", "cow", "owl"))
NEW = Labels((1, 2, 3), ("owl", "bat", "dog"))


def make(labels, *changes):
    """A network whose weights are all different, biases too."""
    changes = [*fixtures.TINY, f"model.classes={len(labels)}", *changes]
    config = load_config(None, changes)
    model = FCIS.from_config(config)
    rng = np.random.default_rng(len(labels))
    for variable in model.weights:
        variable.assign(rng.normal(size=variable.shape))
    return model, config


def make_run(folder, labels, *changes):
    model, config = make(labels, *changes)
    folder.mkdir()
    save_weights(model, folder / BEST)
    labels.save(folder / "labels.json")
    config.save(folder / "config.yaml")
    return model


def channel(weights, labels, name, cell, side):
    """Weights of one score map, found by counting: cell by cell, side by side, class by class."""
    number = 0 if name == "background" else 1 + labels.names.index(name)
    return weights[..., (cell * 2 + side) * (len(labels) + 1) + number]


@pytest.mark.parametrize("kind", ["joint", "separate"])
def test_classes_of_the_same_name_are_kept(tmp_path, kind):
    changes = [f"model.score_maps={kind}"]
    old = make_run(tmp_path / "run", OLD, *changes)
    new, _ = make(NEW, *changes)
    initial = [v.numpy() for v in new.score_maps.scores.weights]
    news = start_from(new, str(tmp_path / "run"), NEW)
    assert news == "2 of 3 classes kept by name: owl, dog"
    pairs = zip(old.score_maps.scores.weights, new.score_maps.scores.weights, initial, strict=True)
    for before, after, fresh in pairs:
        before, after = before.numpy(), after.numpy()
        for cell in range(9):
            for side in range(2):
                for name in ("background", "owl", "dog"):
                    np.testing.assert_array_equal(
                        channel(after, NEW, name, cell, side),
                        channel(before, OLD, name, cell, side),
                    )
                np.testing.assert_array_equal(
                    channel(after, NEW, "bat", cell, side), channel(fresh, NEW, "bat", cell, side)
                )
    for before, after in zip(old.weights, new.weights, strict=True):
        if "fcis_cls_seg" not in before.path:
            np.testing.assert_array_equal(before.numpy(), after.numpy())


def test_the_same_names_in_another_order_stay_with_their_weights(tmp_path):
    """As many classes as before: their shapes alone do not decide."""
    turned = Labels((1, 2, 3, 4), OLD.names[::-1])
    old = make_run(tmp_path / "run", OLD)
    new, _ = make(turned)
    start_from(new, str(tmp_path / "run"), turned)
    for before, after in zip(
        old.score_maps.scores.weights, new.score_maps.scores.weights, strict=True
    ):
        for name in ("background", *OLD.names):
            np.testing.assert_array_equal(
                channel(after.numpy(), turned, name, 4, 1), channel(before.numpy(), OLD, name, 4, 1)
            )


def test_names_of_files_follow_from_their_number():
    assert class_names("a.params", 80) == COCO_NAMES and class_names("a.npz", 20) == VOC_NAMES
    assert class_names("a.params", 4) is None


def test_files_of_unknown_classes(tmp_path, monkeypatch):
    """By position if there are as many, else none."""
    old, _ = make(OLD)
    weights = {"/".join(v.path.split("/")[-2:]): v.numpy() for v in old.weights}
    monkeypatch.setattr("fcis_tf.weights.transfer.read_weights", lambda source: dict(weights))
    same, _ = make(Labels((1, 2, 3, 4), ("a", "b", "c", "d")))
    news = start_from(same, "file.params", Labels((1, 2, 3, 4), ("a", "b", "c", "d")))
    assert news == "4 classes kept by position: file.params does not name its classes"
    for before, after in zip(old.weights, same.weights, strict=True):
        np.testing.assert_array_equal(before.numpy(), after.numpy())
    other, _ = make(NEW)
    initial = [v.numpy() for v in other.score_maps.scores.weights]
    assert start_from(other, "file.params", NEW) == "newly initialised: fcis_cls_seg"
    for fresh, after in zip(initial, other.score_maps.scores.weights, strict=True):
        np.testing.assert_array_equal(fresh, after.numpy())
