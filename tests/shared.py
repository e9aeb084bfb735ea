"""What is made once in a test session, however many processes run it."""

import os

from filelock import FileLock


def make_once(tmp_path_factory, name, make):
    """The folder `name`, which ``make(folder)`` has filled.

    With pytest-xdist every worker has its own session fixtures, and a base folder beside those of
    the other workers. The first worker that gets here fills the folder; the others wait for it.
    """
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder, ready = base / name, base / f"{name}.ready"
    with FileLock(base / f"{name}.lock"):
        if not ready.exists():
            folder.mkdir()
            make(folder)
            ready.touch()
    return folder
