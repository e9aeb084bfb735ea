"""Let the C library keep freed memory for the next tensor.

By default glibc returns a large tensor to the system when it is freed, and the system clears and
maps every page of the next one. On a CPU that takes up to half of the time of a small network
(docs/performance.md). glibc can be set up from within the process; jemalloc and tcmalloc would
have to be loaded before Python starts.
"""

import ctypes
import functools
import os
import sys
from pathlib import Path

from fcis_tf.errors import FcisError

VARIABLE = "FCIS_ALLOCATOR"  # "system" leaves the C library as it is
MIB = 2**20
# Parameter of mallopt (malloc.h), sizes in bytes of which the first that glibc takes is used, names
# of the environment variable and the tunable.
SETTINGS = (
    # glibc before 2.35 takes 32 MiB at most.
    (-3, (1024 * MIB, 32 * MIB), "MALLOC_MMAP_THRESHOLD_", "glibc.malloc.mmap_threshold"),
    (-1, (1024 * MIB,), "MALLOC_TRIM_THRESHOLD_", "glibc.malloc.trim_threshold"),
    # Without this glibc unmaps the heaps of threads, of 64 MiB each, as soon as one is empty.
    (-2, (64 * MIB,), "MALLOC_TOP_PAD_", "glibc.malloc.top_pad"),
)


class _Symbol(ctypes.Structure):
    """Dl_info of dlfcn.h."""

    _fields_ = [
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    ]


@functools.cache
def keep_freed_memory() -> str:
    """Set glibc's allocator up to keep freed memory; the first call of a process counts.

    It must come before TensorFlow starts its threads, which is with the first operation or the
    first list of devices: for threads that have memory already it changes nothing.

    Nothing changes on another C library, with another allocator (``LD_PRELOAD``), where the user
    has set one of the three values by a ``MALLOC_*`` variable or ``GLIBC_TUNABLES``, and with
    ``FCIS_ALLOCATOR=system``.

    Returns:
        What is in force, in one line, as `fcis doctor` prints it.

    Raises:
        FcisError: ``FCIS_ALLOCATOR`` has another value.
    """
    choice = os.environ.get(VARIABLE, "auto")
    if choice not in ("auto", "system"):
        raise FcisError(f"{VARIABLE}: expected 'auto' or 'system', found {choice!r}")
    if choice == "system":
        return f"the system's defaults, {VARIABLE}=system"
    if sys.platform != "linux" or not (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc"):
        return "the system's defaults; only glibc can be set up to keep freed memory"
    library = ctypes.CDLL(None)
    other = _other_allocator(library)
    if other:
        return f"{other}, left as it is"
    chosen = _of_the_user()
    if chosen:
        return f"as {', '.join(chosen)} of the environment says"
    refused = [
        name
        for number, sizes, name, _ in SETTINGS
        if not any(library.mallopt(number, size) for size in sizes)
    ]
    if refused:
        return f"glibc refuses {', '.join(refused)}; freed memory may go back to the system"
    return f"glibc keeps freed memory for the next tensor; {VARIABLE}=system turns this off"


def _other_allocator(library: ctypes.CDLL) -> str | None:
    """File name of the library that provides malloc, unless it is glibc."""
    symbol = _Symbol()
    address = ctypes.cast(library.malloc, ctypes.c_void_p)
    if not library.dladdr(address, ctypes.byref(symbol)) or not symbol.file:
        return "an unknown allocator"
    name = Path(os.fsdecode(symbol.file)).name
    return None if name.startswith(("libc.", "libc-")) else name


def _of_the_user() -> list[str]:
    """Names of the variables and tunables by which the user has set one of the values."""
    tunables = os.environ.get("GLIBC_TUNABLES", "").split(":")
    stated = {text.partition("=")[0] for text in tunables}
    return [
        found
        for _, _, variable, tunable in SETTINGS
        for found in (variable, tunable)
        if (os.environ.get(found) if found is variable else found in stated)
    ]
