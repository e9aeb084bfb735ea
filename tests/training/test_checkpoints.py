"""What a run continues from."""

import os
import subprocess

import pytest
import tensorflow as tf

from fcis_tf.errors import FcisError
from fcis_tf.training.checkpoints import Checkpoints, State, checkpoint_numbers


def make(folder, keep=3, size=4):
    """A run of one variable."""
    state, weight = State(), tf.Variable(tf.zeros([size]))
    return Checkpoints(folder, state, keep=keep, write=True, weight=weight), state, weight


@pytest.fixture
def three(tmp_path):
    """Checkpoints 1, 2 and 3 of steps 10, 20 and 30, when the weight was 10, 20 and 30."""
    checkpoints, state, weight = make(tmp_path)
    for step in (10, 20, 30):
        state.step.assign(step)
        state.is_best(step / 100)
        weight.assign(tf.fill([4], float(step)))
        checkpoints.save()
    return tmp_path


def test_everything_of_the_state_comes_back(three):
    checkpoints, state, weight = make(three)
    checkpoints.restore()
    assert (int(state.step), int(state.evaluated), float(state.best)) == (30, 30, 0.3)
    assert checkpoints.newest == 30
    assert weight.numpy().tolist() == [30.0] * 4


@pytest.mark.parametrize("part", ["index", "data-00000-of-00001"])
@pytest.mark.parametrize("fault", ["cut", "changed", "lost"])
def test_a_damaged_newest_checkpoint_is_passed_over(three, part, fault, capsys):
    file = three / f"ckpt-3.{part}"
    content = bytearray(file.read_bytes())
    if fault == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif fault == "changed":
        content[len(content) // 2 :] = os.urandom(len(content) - len(content) // 2)
        file.write_bytes(content)
    else:
        file.unlink()
    checkpoints, state, weight = make(three)
    checkpoints.restore()
    assert int(state.step) == 20 and weight.numpy().tolist() == [20.0] * 4
    reported = "ckpt-3: damaged, taking the one before" in capsys.readouterr().out
    assert reported == ((part, fault) != ("index", "lost"))  # without an index there is none
    state.step.assign(30)
    checkpoints.save()
    again, state, _ = make(three)
    again.restore()
    assert int(state.step) == 30 and again.newest == 30


def test_damaged_ones_do_not_push_out_the_new_one(three):
    for number in (2, 3):
        (three / f"ckpt-{number}.index").write_bytes(b"damaged")
    (three / "ckpt-9_temp").mkdir()
    checkpoints, state, _ = make(three, keep=1)
    checkpoints.restore()
    assert int(state.step) == 10
    state.step.assign(20)
    checkpoints.save()
    names = {path.name for path in three.iterdir()}
    assert names == {"checkpoint", "ckpt-2.index", "ckpt-2.data-00000-of-00001"}
    assert tf.train.latest_checkpoint(str(three)) == str(three / "ckpt-2")


def test_tensorflows_list_of_checkpoints_may_be_lost(three):
    (three / "checkpoint").write_text("")
    checkpoints, state, _ = make(three)
    checkpoints.restore()
    assert int(state.step) == 30


def test_only_the_newest_few_stay(tmp_path):
    checkpoints, state, _ = make(tmp_path, keep=2)
    for step in range(1, 6):
        state.step.assign(step)
        checkpoints.save()
    assert checkpoint_numbers(tmp_path) == [5, 4]


def test_all_checkpoints_damaged_is_an_error(three):
    for file in three.glob("*.index"):
        file.write_bytes(b"")
    with pytest.raises(FcisError, match="expected a checkpoint to continue from, found 3 damaged"):
        make(three)[0].restore()


def test_another_configuration_is_not_taken_for_damage(three):
    with pytest.raises(FcisError, match="ckpt-3: a checkpoint of another configuration"):
        make(three, size=5)[0].restore()


@pytest.mark.skipif(
    os.geteuid() != 0 or subprocess.run(["sh", "-c", "unshare -m true"]).returncode != 0,
    reason="a file system of its own needs root",
)
def test_a_full_disk_is_explained_and_leaves_the_checkpoints_before(tmp_path):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", tmp_path], check=True)
    try:
        checkpoints, state, weight = make(tmp_path, size=400_000)
        state.step.assign(1)
        checkpoints.save()
        state.step.assign(2)
        with pytest.raises(FcisError, match="cannot write the checkpoint of step 2: .*[Nn]o space"):
            checkpoints.save()
        assert checkpoint_numbers(tmp_path) == [1]
        assert not list(tmp_path.glob("ckpt-2*"))
        again, state, _ = make(tmp_path, size=400_000)
        again.restore()
        assert int(state.step) == 1
        del weight
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)


def test_a_request_to_stop_saves_the_steps_taken(three, capsys):
    checkpoints, state, _ = make(three)
    checkpoints.restore()
    state.step.assign(34)
    with pytest.raises(InterruptedError), checkpoints.saved_on(InterruptedError):
        raise InterruptedError
    assert "checkpoint of step 34" in capsys.readouterr().out
    again, state, _ = make(three)
    again.restore()
    assert int(state.step) == 34


def test_the_best_is_kept_and_evaluations_since_are_counted():
    state = State()
    kept = []
    for step, ap in enumerate([0.2, 0.1, 0.2, 0.3, 0.25], start=1):
        state.step.assign(step)
        kept.append(state.is_best(ap))
    assert kept == [True, False, True, True, False]  # of equals the later one is kept
    assert (float(state.best), int(state.stale), int(state.evaluated)) == (0.3, 1, 5)


def test_weights_that_are_not_those_called_the_best_are_judged_once_more():
    state = State()
    state.step.assign(40)
    state.is_best(0.5)
    state.set_best(0.5)
    assert (float(state.best), int(state.evaluated)) == (0.5, 40)
    state.set_best(0.4)  # killed before the weights with 0.5 were written
    assert (float(state.best), int(state.evaluated)) == (0.4, 39)
    assert state.is_best(0.5) and int(state.stale) == 0
