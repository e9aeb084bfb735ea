"""A training is killed and started again; scripts/research/test_resume.sh does it twenty times."""

import re

import pytest

from tests.training.kill_and_resume import try_kills


@pytest.mark.slow
def test_a_killed_training_ends_as_an_undisturbed_one(tmp_path, capsys):
    try_kills(tmp_path, kills=2, evaluated=False)
    # The second kill waits for half a checkpoint; the first, at a random moment, may find one too.
    words = r"2 of 2: killed at 2 moments, [12] of them with half a checkpoint"
    assert re.search(words, capsys.readouterr().out)
