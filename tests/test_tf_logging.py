import os
import subprocess
import sys

import pytest

# Stands in for TensorFlow: writes to descriptor 2 as its C++ does, then ends as the test wants.
MODULE = """
import os
for line in (
    b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\\n",
    b"I0000 00:00:1 port.cc:153] oneDNN custom operations are on. You may see\\n",
    b"E0000 00:00:1 cuda.cc:12] no driver\\n",
    b"F0000 last words",
):
    os.write(2, line)
{ending}
"""


def import_it(folder, ending, level):
    (folder / "tensorflow.py").write_text(MODULE.format(ending=ending))
    code = (
        f"import sys; sys.path.insert(0, {str(folder)!r}); from fcis_tf import tf_logging;"
        "tf_logging.import_tensorflow(); print('after', file=sys.stderr)"
    )
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": level},
    )


def test_only_the_greeting_is_left_out(tmp_path):
    done = import_it(tmp_path, "", "2")
    assert done.returncode == 0
    assert done.stderr == "E0000 00:00:1 cuda.cc:12] no driver\nF0000 last wordsafter\n"


@pytest.mark.parametrize("level", ["0", "1"])
def test_messages_can_be_requested(tmp_path, level):
    done = import_it(tmp_path, "", level)
    assert "oneDNN custom operations" in done.stderr and "absl" in done.stderr


def test_a_library_that_aborts_keeps_its_last_words(tmp_path):
    done = import_it(tmp_path, "os.abort()", "2")
    assert done.returncode < 0
    assert "F0000 last words" in done.stderr and "oneDNN" not in done.stderr


def test_an_import_that_fails_is_an_import_that_fails(tmp_path):
    done = import_it(tmp_path, "raise ImportError('no such symbol')", "2")
    assert done.returncode == 1 and "ImportError: no such symbol" in done.stderr
