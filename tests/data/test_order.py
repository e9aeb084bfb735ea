import itertools

import numpy as np
import pytest
import tensorflow as tf

from fcis_tf.config import DataConfig
from fcis_tf.data.order import draws
from fcis_tf.data.records import decode, record_files
from tests import fixtures


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """11 usable images, 3 of them portrait, and two that are not."""
    rng = np.random.default_rng(0)
    sides = [(10, 14) if n % 4 else (14, 10) for n in range(11)]
    records = [
        fixtures.make_record(rng, str(n), 40 + h, 40 + w, instances=1)
        for n, (h, w) in enumerate(sides)
    ]
    records += [fixtures.make_record(rng, "empty", instances=0)]
    records += [fixtures.make_record(rng, "crowd", instances=0, crowds=1)]
    folder = fixtures.write_records(tmp_path_factory.mktemp("records"), records, shards=3)
    return record_files(folder)


def drawn(files, count, *, group=True, **options):
    """(number, image id) of the first draws."""
    data = DataConfig(shuffle_buffer=6, aspect_grouping=group)
    stream = draws(files, data, **{"step_size": 1, "seed": 5} | options)
    rows = itertools.islice(stream.as_numpy_iterator(), count)
    return [(int(number), decode(record).image_id) for number, record in rows]


def test_an_epoch_has_every_usable_image_once_and_each_another_order(files):
    names = [name for _, name in drawn(files, 44)]
    epochs = [tuple(names[n : n + 11]) for n in range(0, 44, 11)]
    assert all(sorted(epoch, key=int) == [str(n) for n in range(11)] for epoch in epochs)
    assert len(set(epochs)) == 4


def test_the_order_follows_from_the_seed_alone(files):
    tf.random.set_seed(1)
    first = drawn(files, 40)
    tf.random.set_seed(2)
    assert drawn(files, 40) == first
    assert drawn(files, 40, seed=6) != first


@pytest.mark.parametrize("group", [False, True])
@pytest.mark.parametrize("batch", [1, 5])
def test_a_start_in_the_middle_goes_on_as_the_beginning_does(files, batch, group):
    """Also where a batch is filled over several epochs: there are 3 portrait images."""
    options = {"step_size": batch, "group": group}
    whole = drawn(files, 45 * batch, **options)
    assert [number for number, _ in whole] == list(range(45 * batch))
    for start in (1, 7, 16, 40):
        assert (
            drawn(files, 4 * batch, start=start, **options) == whole[start * batch :][: 4 * batch]
        )


def test_a_start_after_many_epochs_reads_few(files):
    """A million epochs; reading them would take hours."""
    ((number, _),) = drawn(files, 1, step_size=4, start=2_750_000)
    assert number == 11_000_000


def test_batches_of_one_aspect_leave_out_no_image(files):
    names = [name for _, name in drawn(files, 220, step_size=4)]
    portrait = {"0", "4", "8"}
    for n in range(0, 220, 4):
        assert len({name in portrait for name in names[n : n + 4]}) == 1
    seen = {name: names.count(name) for name in set(names)}
    assert len(seen) == 11 and max(seen.values()) - min(seen.values()) <= 2
