"""What each setting does, in processes of their own: an allocator is set up once in a process."""

import json
import os
import subprocess
import sys

import pytest

from fcis_tf import allocator, doctor
from fcis_tf.errors import FcisError

PAGES = (48 << 20) // os.sysconf("SC_PAGE_SIZE")  # of one block
BLOCKS = 4
PROGRAM = """
import json, resource, threading
from fcis_tf.allocator import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        b"x" * (48 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def in_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(faults()))
    thread.start()
    thread.join()
    return found[0]

today = faults(), in_thread()
state = keep_freed_memory()
assert keep_freed_memory() == state
print(json.dumps({"before": today, "after": (faults(), in_thread()), "state": state}))
"""
OURS = (*(name for _, _, *names in allocator.SETTINGS for name in names), "GLIBC_TUNABLES")
linux = pytest.mark.skipif(
    "glibc keeps" not in allocator.keep_freed_memory(), reason="needs glibc in its usual setting"
)


def run(**variables):
    environment = {k: v for k, v in os.environ.items() if k not in OURS} | variables
    command = [sys.executable, "-c", PROGRAM]
    return json.loads(subprocess.check_output(command, env=environment, text=True))


@linux
def test_memory_is_mapped_once_and_not_for_every_block():
    found = run()
    assert min(found["before"]) > 0.9 * BLOCKS * PAGES  # else there is nothing to save
    assert max(found["after"]) < 1.5 * PAGES
    assert "keeps freed memory" in found["state"]


@linux
@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"FCIS_ALLOCATOR": "system"}, "FCIS_ALLOCATOR=system"),
        ({"MALLOC_TRIM_THRESHOLD_": "100000"}, "MALLOC_TRIM_THRESHOLD_"),
        ({"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=100000"}, "glibc.malloc.mmap_threshold"),
    ],
)
def test_what_the_user_states_stays(variables, words):
    found = run(**variables)
    assert min(found["after"]) > 0.9 * BLOCKS * PAGES and words in found["state"]


@linux
def test_a_variable_on_something_else_does_not_matter():
    assert max(run(MALLOC_ARENA_MAX="2", GLIBC_TUNABLES="glibc.rtld.nns=4")["after"]) < 1.5 * PAGES


@linux
def test_another_allocator_is_left_alone(tmp_path):
    source, library = tmp_path / "other.c", tmp_path / "libother.so"
    source.write_text(
        "#include <stddef.h>\nextern void *__libc_malloc(size_t);\n"
        "void *malloc(size_t size) { return __libc_malloc(size); }\n"
    )
    subprocess.run(["cc", "-shared", "-fPIC", source, "-o", library], check=True)
    found = run(LD_PRELOAD=str(library))
    assert found["state"] == "libother.so, left as it is"
    assert min(found["after"]) > 0.9 * BLOCKS * PAGES


@pytest.mark.parametrize("platform", ["darwin", "win32", "linux"])
def test_another_c_library_has_nothing_to_set(monkeypatch, platform):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(os, "confstr", lambda name: "")  # as musl says
    monkeypatch.setattr("ctypes.CDLL", None)
    monkeypatch.delenv(allocator.VARIABLE, raising=False)
    assert "only glibc" in allocator.keep_freed_memory.__wrapped__()


def test_an_unknown_choice_is_named(monkeypatch):
    monkeypatch.setenv(allocator.VARIABLE, "tcmalloc")
    with pytest.raises(FcisError, match="FCIS_ALLOCATOR: expected 'auto' or 'system', found 'tcm"):
        allocator.keep_freed_memory.__wrapped__()


def test_the_doctor_reports_it():
    assert doctor._checks()["allocator"]() == ("ok", allocator.keep_freed_memory())


@pytest.mark.parametrize("name", ["training.loop", "prediction.load", "benchmark.report"])
def test_it_is_set_up_before_tensorflow_starts_its_threads(name):
    program = (
        f"import fcis_tf.{name}, tensorflow as tf; "
        "from fcis_tf.allocator import keep_freed_memory as keep; "
        "assert keep.cache_info().currsize == 1; "
        "tf.config.threading.set_inter_op_parallelism_threads(1)"  # an error once they run
    )
    subprocess.run([sys.executable, "-c", program], check=True)
