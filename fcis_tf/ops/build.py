"""Compiles ``custom_ops/`` for the installed TensorFlow; standard library only.

``python build.py`` builds at once; otherwise the first use of an operation does.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SOURCES = ("*.h", "*.cc", "cpu/*", "cuda/*")  # patterns in the source folder
LIBRARY = "library.so"  # while it is made
FLAGS = ("-fPIC", "-O3", "-w", "-Wno-psabi")
INSTALL = "install a compiler (Debian, Ubuntu: apt-get install g++)"


class BuildError(Exception):
    """Why there is no library and how to get one, in one line."""


def source_folder() -> Path:
    """``custom_ops/``: beside the package in a checkout, inside it when installed from a wheel."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "custom_ops", package.parent / "custom_ops"):
        if (folder / "ops.cc").exists():
            return folder
    raise BuildError(f"{package.parent / 'custom_ops'}: not found; install fcis_tf again")


def sources(folder: Path) -> list[Path]:
    """The files that make up the library, in the order in which they are hashed."""
    return sorted(path for pattern in SOURCES for path in folder.glob(pattern))


def cache_folder() -> Path:
    """Where libraries are kept: ``$XDG_CACHE_HOME/fcis_tf``, by default in ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fcis_tf"


def compiler() -> str:
    """The C++ compiler: ``$CXX``, g++, or clang++.

    Raises:
        BuildError: none is there.
    """
    for name in filter(None, (os.environ.get("CXX"), "g++", "clang++")):
        if path := shutil.which(name):
            return path
    raise BuildError(f"no C++ compiler found; {INSTALL}")


def cuda_compiler() -> str | None:
    """nvcc, if it is installed and TensorFlow was built for CUDA."""
    import tensorflow as tf

    return shutil.which("nvcc") if tf.test.is_built_with_cuda() else None


def library_path() -> Path:
    """The file that holds, or will hold, the operations for this TensorFlow and these sources."""
    import tensorflow as tf

    digest = hashlib.sha256(repr((FLAGS, os.uname().machine)).encode())
    for path in sources(source_folder()):
        digest.update(path.read_bytes())
    kind = "cuda" if cuda_compiler() else "cpu"
    name = f"ps_assembly-tf{tf.__version__}-{kind}-{digest.hexdigest()[:12]}.so"
    return cache_folder() / name


def build() -> Path:
    """Compile the library if it is not there; the file appears only when it is complete.

    Raises:
        BuildError: no compiler was found, or it failed; the message names the file with its output.
    """
    target = library_path()
    if target.exists():
        return target
    cxx, nvcc = compiler(), cuda_compiler()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        work = tempfile.TemporaryDirectory(prefix="partial.", dir=target.parent)
    except OSError as fault:
        raise BuildError(
            f"{target.parent}: cannot be written ({fault.strerror}); set XDG_CACHE_HOME"
        ) from None
    print(f"building the assembly operation with {cxx}, once; about 20 s", file=sys.stderr)
    with work:
        units, link = _commands(cxx, nvcc, source_folder(), Path(work.name))
        # One unit a core: most of the time goes into TensorFlow's headers.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            results = [*pool.map(_run, units)]
        for done in results:
            _require(done, target)
        _require(_run(link), target)
        os.replace(Path(work.name) / LIBRARY, target)
    return target


def _commands(
    cxx: str, nvcc: str | None, folder: Path, work: Path
) -> tuple[list[list[str]], list[str]]:
    """The commands that compile each unit to an object in `work`, and the one that links them."""
    import tensorflow as tf

    cpp = [cxx, *FLAGS, *tf.sysconfig.get_compile_flags(), "-c"]
    units = {"ops.cc": cpp, "kernels_cpu.cc": cpp}
    libraries = tf.sysconfig.get_link_flags()
    if nvcc:
        cuda = [nvcc, "-optf", str(folder / "cuda" / "nvcc_options.txt"), "-c"]
        units |= {"kernels_gpu.cc": cpp, "cuda/forward.cu": cuda, "cuda/backward.cu": cuda}
        runtime = Path(nvcc).resolve().parents[1] / "lib64"
        libraries += [f"-L{runtime}", "-lcudart_static", "-lrt", "-ldl"]
    objects = {unit: str(work / f"{Path(unit).stem}.o") for unit in units}
    compiles = [
        [*command, str(folder / unit), "-o", objects[unit]] for unit, command in units.items()
    ]
    return compiles, [cxx, "-shared", *objects.values(), "-o", str(work / LIBRARY), *libraries]


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True)


def _require(done: subprocess.CompletedProcess[str], target: Path) -> None:
    """Raise BuildError, and write the output to a log beside `target`, if a command failed."""
    if done.returncode:
        log = target.with_suffix(".log")
        log.write_text(f"{' '.join(done.args)}\n{done.stdout}{done.stderr}")
        raise BuildError(
            f"{done.args[0]} could not compile the assembly operation; compiler output: {log}"
        )


if __name__ == "__main__":
    try:
        print(build())
    except BuildError as fault:
        sys.exit(f"error: {fault}")
