"""The formats of labels by name, for `fcis_tf.convert` and the commands."""

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fcis_tf.data.sources.base import Source
from fcis_tf.data.sources.coco import read_coco
from fcis_tf.data.sources.faults import Reporter
from fcis_tf.data.sources.labelme import read_labelme
from fcis_tf.data.sources.masks import read_masks
from fcis_tf.data.sources.voc import read_voc
from fcis_tf.errors import FcisError

# Called with a folder and a `Reporter`; the keyword arguments are the options of the kind.
READERS: dict[str, Callable[..., Source]] = {
    "coco": read_coco,
    "labelme": read_labelme,
    "masks": read_masks,
    "sbd": read_voc,
    "voc": read_voc,
}


def read_source(kind: str, source: str | Path, report: Reporter, /, **options: Any) -> Source:
    """List a labelled data set; its images are not read yet.

    Args:
        kind: a key of `READERS`.
        source: folder of the data set; for ``"coco"`` the folder of the images.
        report: called for every entry or file that is left out.
        **options: those of the reader of this kind.

    Raises:
        FcisError: an unknown kind or option, or no such data set in the folder.
    """
    check_options(kind, options)
    return READERS[kind](Path(source), report, **options)


def check_options(kind: str, given: Mapping[str, Any], further: Sequence[str] = ()) -> None:
    """Refuse an unknown kind, and options that it does not take or lacks.

    Args:
        kind: see `read_source`.
        given: options by name; None counts as absent.
        further: names that are allowed for every kind.

    Raises:
        FcisError: one of these; it names the nearest kind, or all options.
    """
    if kind not in READERS:
        near = difflib.get_close_matches(kind, READERS, n=1, cutoff=0.0)[0]
        raise FcisError(
            f"labels: unknown kind {kind!r}; the nearest is {near!r}, of {', '.join(READERS)}"
        )
    parameters = inspect.signature(READERS[kind]).parameters.values()
    known = {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY}
    unknown = sorted(given.keys() - known.keys() - set(further))
    if unknown:
        names = ", ".join([*known, *further])
        raise FcisError(f"labels of kind {kind!r}: unknown option {unknown[0]!r}; expected {names}")
    for name, parameter in known.items():
        if parameter.default is parameter.empty and given.get(name) is None:
            raise FcisError(f"labels of kind {kind!r}: expected the option {name!r}, found none")
