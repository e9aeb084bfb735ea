"""Errors that stop a training are one line; test_loop.py tests that the loop checks for them."""

import errno
import os

import pytest
import tensorflow as tf

from fcis_tf.errors import FcisError
from fcis_tf.training.faults import check_finite, name_damage, name_full_disk

FINE = {"rpn_class": 1.0, "total": 1.0, "gradient_norm": 2.0, "data_wait": 0.0}


def images(*ids):
    return lambda: tf.data.Dataset.from_tensors({"image_id": tf.constant(ids)}).repeat()


def test_the_first_number_that_is_not_finite_is_named_with_all_images():
    check_finite(FINE, 7, images("a", "b"))
    bad = FINE | {"total": float("nan"), "gradient_norm": float("inf")}
    with pytest.raises(FcisError, match="^step 7: loss total is nan on images a, b; checkpoints"):
        check_finite(bad, 7, images("a", "b"))
    bad = FINE | {"gradient_norm": float("inf")}
    with pytest.raises(FcisError, match="step 7: the norm of the gradient is inf on images a;"):
        check_finite(bad, 7, images("a"))
    many = [str(n) for n in range(20)]
    with pytest.raises(FcisError, match="images 0, 1, .*, 15 and 4 more;"):
        check_finite(bad, 7, images(*many))


def test_an_update_that_is_left_out_may_have_any_norm():
    check_finite(FINE | {"gradient_norm": float("inf"), "loss_scale": 8.0}, 1, images("a"))


def test_a_full_disk_is_reported_in_one_line(tmp_path):
    for fault in (
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        OSError("Unable to create file (error message = 'No space left on device')"),
        tf.errors.ResourceExhaustedError(None, None, "train/events; No space left on device"),
    ):
        with pytest.raises(FcisError, match="no space left on the disk"), name_full_disk(tmp_path):
            raise fault
    memory = tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
    with pytest.raises(tf.errors.ResourceExhaustedError), name_full_disk(tmp_path):
        raise memory
    with pytest.raises(FileNotFoundError), name_full_disk(tmp_path):
        (tmp_path / "nothing").read_text()


def test_a_damaged_record_keeps_its_reason_and_loses_the_graph():
    text = "{{node a}} while b\n assertion failed: [no image/object/mask] [Op:c]"
    message = r"^step 3: a training record .*: assertion failed: \[no"
    with pytest.raises(FcisError, match=message), name_damage(3):
        raise tf.errors.InvalidArgumentError(None, None, text)
