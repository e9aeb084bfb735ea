import io
import types

import numpy as np
import pytest

from fcis_tf.config import load_config
from fcis_tf.data.images import read_image
from fcis_tf.data.records import read_records
from fcis_tf.evaluation import run
from fcis_tf.evaluation.run import detect_records, evaluate_model, record_images
from fcis_tf.instances import Instances
from fcis_tf.labels import Labels
from tests import fixtures


class Slow:
    """Finds nothing, and takes long over its first batch, as tracing does.

    `now` is the time on its clock, which stands still outside of its own work.
    """

    config = load_config(None, [*fixtures.TINY, "predict.batch_size=2"])
    now = 0.0

    labels = Labels(tuple(fixtures.NAMES), tuple(fixtures.NAMES.values()))

    def records(self, folder):
        for number, record in enumerate(read_records(folder)):
            if number % 2 == 0:
                self.now += 0.05 if number else 1.0
            nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.int32), np.zeros(0, np.float32)
            yield Instances(record.height, record.width, *nothing, (), self.labels)


@pytest.fixture
def folder(rng, tmp_path):
    records = [fixtures.make_record(rng, str(n)) for n in range(1, 6)]
    return fixtures.write_records(tmp_path / "records", records, shards=2)


def test_seconds_per_image_leave_the_first_batch_out(folder, monkeypatch):
    slow = Slow()
    monkeypatch.setattr(run, "time", types.SimpleNamespace(perf_counter=lambda: slow.now))
    truth, found, speed = detect_records(slow, folder)
    assert len(truth["images"]) == 5 and found == []
    assert speed == {"seconds_per_image": pytest.approx(0.1 / 3)}
    assert detect_records(slow, folder, limit=2)[2] == {}
    metrics, _ = evaluate_model(slow, folder, limit=3)
    assert metrics.images == 3 and metrics.mask["AP"] == 0.0 and metrics.boundary == {}


def test_record_images_are_those_of_the_places(folder):
    records = list(read_records(folder))
    found = record_images(folder)([4, 1])
    assert sorted(found) == [1, 4]
    for place, image in found.items():
        np.testing.assert_array_equal(image, read_image(io.BytesIO(records[place].encoded)))
