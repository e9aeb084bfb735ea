"""Starting from the weights of other classes: what is the same is kept, classes by their name."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fcis_tf.errors import FcisError
from fcis_tf.labels import Labels
from fcis_tf.model.fcis import FCIS
from fcis_tf.weights.importer import assign, read_weights
from fcis_tf.weights.mxnet import CLASS_HEAD, Weights

SHOWN = 8  # class names


def start_from(model: FCIS, source: str, labels: Labels) -> str:
    """Put the weights of any source, as `read_weights` takes it, into a model of other classes.

    Score maps of classes of the same name, and of the background, are kept; those of the others
    have their initial values. Sources that do not name their classes keep them by their position if
    there are as many, else none.

    Args:
        model: built.
        source: see above.
        labels: the classes of `model`.

    Returns:
        What was kept and what was not, in words.

    Raises:
        FcisError: as `read_weights` and `assign`.
    """
    weights = read_weights(source)
    news = []
    if f"{CLASS_HEAD}/bias" in weights:
        cells = model.geometry["group_size"] ** 2
        count = len(weights[f"{CLASS_HEAD}/bias"]) // (2 * cells) - 1
        before = class_names(source, count)
        if before is not None:
            head = {f"{CLASS_HEAD}/{v.name}": v.numpy() for v in model.score_maps.scores.weights}
            weights |= keep_classes(weights, head, before, labels.names, cells)
            kept = [name for name in labels.names if name in set(before)]
            names = ", ".join(kept[:SHOWN]) + (", ..." if len(kept) > SHOWN else "")
            news.append(f"{len(kept)} of {len(labels)} classes kept by name: {names or 'none'}")
        elif count == len(labels):
            news.append(f"{count} classes kept by position: {source} does not name its classes")
    fresh = assign(model, weights, source, fresh_head=True)
    if fresh:
        news.append(f"newly initialised: {', '.join(fresh)}")
    return "; ".join(news) or "all kept"


def class_names(source: str, count: int) -> tuple[str, ...] | None:
    """The names of the `count` classes of some weights, None if they are not known.

    Those of a run are in its ``labels.json``; files of 80 and of 20 classes are COCO's and VOC's.
    """
    if Path(source).is_dir():
        return Labels.load(Path(source) / "labels.json").names
    try:
        return Labels.known(count).names
    except FcisError:
        return None


def keep_classes(
    weights: Weights, head: Weights, before: Sequence[str], after: Sequence[str], cells: int
) -> Weights:
    """Score-map weights of the classes `after`: out of `weights` where `before` has them.

    Args:
        weights: hold ``fcis_cls_seg/kernel`` (1, 1, c, cells * 2 * K) and ``bias`` (cells * 2 * K),
            channels (cell, side, class), class 0 the background.
        head: initial values of both for the classes `after`.
        before: names of the classes 1.. of `weights`.
        after: names of the classes 1.. of the result.
        cells: k * k.
    """
    places = [(0, 0)]
    places += [(before.index(name) + 1, i + 1) for i, name in enumerate(after) if name in before]
    old, new = np.array(places).T
    found = {}
    for key, initial in head.items():
        given = weights[key]
        if given.shape[:-1] != initial.shape[:-1] or given.shape[-1] % (2 * cells):
            return {}  # another network: `assign` says in what
        sides = initial.reshape(*initial.shape[:-1], cells, 2, -1).copy()
        sides[..., new] = given.reshape(*given.shape[:-1], cells, 2, -1)[..., old]
        found[key] = sides.reshape(initial.shape)
    return found
