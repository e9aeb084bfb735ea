"""A training that is killed and started again; scripts/test_resume.sh does it twenty times."""

import pytest

from tests.train.kill_and_resume import try_kills


@pytest.mark.slow
def test_a_killed_training_ends_as_one_that_nobody_disturbed(tmp_path, capsys):
    try_kills(tmp_path, kills=2, evaluated=False)
    # Whether a kill finds half a checkpoint depends on the disk; of twenty kills most do.
    assert "2 of 2: killed at 2 moments" in capsys.readouterr().out
