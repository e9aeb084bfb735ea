"""The sanity check of a data set; that it succeeds on real ones is in docs/training.md."""

import pytest

from fcis_tf.config import load_config
from fcis_tf.data.records import read_records
from fcis_tf.errors import FcisError
from fcis_tf.training import overfit as module
from fcis_tf.training.overfit import overfit
from tests import fixtures
from tests.training.test_loop import TINY


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    import numpy as np

    rng = np.random.default_rng(0)
    counts = {"empty": (0, 0), "crowd": (0, 1), "a": (2, 0), "many": (9, 0), "b": (1, 1)}
    rows = [
        fixtures.make_record(rng, name, instances=some, crowds=crowds)
        for name, (some, crowds) in counts.items()
    ]
    return fixtures.write_records(tmp_path_factory.mktemp("overfit"), rows)


def configure(records, *changes):
    few = "data.max_instances=5"
    return load_config(None, [*TINY, f"data.train={records}", "data.turn=true", few, *changes])


@pytest.mark.slow
def test_an_overfit_that_fails_names_what_to_check(records, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PASSES", 2)
    monkeypatch.setattr(module, "EVALUATIONS", 2)
    found = overfit(configure(records), tmp_path / "run", 2)
    assert found.ap50 < 0.95 and found.steps in (2, 4)
    assert [cause.partition(":")[0] for cause in found.causes] == [
        "labels", "sizes", "training", "prediction",
    ]  # fmt: skip
    assert "model.anchor_sizes are [16.0, 32.0]" in found.causes[1]
    # Only images whose instances can all be found again; the run itself is not begun.
    folder = tmp_path / "run" / "overfit"
    assert {r.image_id for r in read_records(folder / "records")} == {"a", "b"}
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["overfit"]
    saved = load_config(folder / "config.yaml")
    assert saved.data.train == saved.data.validation == str(folder / "records")
    assert not saved.data.flip and not saved.data.turn and saved.train.steps == 4


def test_too_few_images_are_an_error(records, tmp_path):
    with pytest.raises(FcisError, match="expected 3 images with 1 to 5 instances, found 2"):
        overfit(configure(records), tmp_path, 3)
