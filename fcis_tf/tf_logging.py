"""TensorFlow without its greeting.

TensorFlow 2.21 writes two lines about oneDNN each time one of its libraries is loaded, before it
looks at ``TF_CPP_MIN_LOG_LEVEL``; no variable keeps it from that.
"""

import importlib
import os
import subprocess
import sys

GREETING = ("All log messages before absl::InitializeLog()", "oneDNN custom operations are on.")
FILTER = """
import sys
for line in sys.stdin.buffer:
    if not any(words.encode() in line for words in sys.argv[1:]):
        sys.stderr.buffer.write(line)
        sys.stderr.flush()
"""


def import_tensorflow() -> None:
    """Import TensorFlow; all but its greeting still reaches standard error, also if it crashes.

    With ``TF_CPP_MIN_LOG_LEVEL`` at 0 or 1 the greeting is wanted.
    """
    if "tensorflow" in sys.modules or os.environ.get("TF_CPP_MIN_LOG_LEVEL", "0") < "2":
        importlib.import_module("tensorflow")
        return
    # A process of its own, so that the last words of a library that aborts are not lost with us.
    command = [sys.executable, "-I", "-S", "-c", FILTER, *GREETING]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as kept:
        assert kept.stdin is not None
        error = os.dup(2)
        os.dup2(kept.stdin.fileno(), 2)
        try:
            importlib.import_module("tensorflow")
        finally:
            os.dup2(error, 2)
            os.close(error)
