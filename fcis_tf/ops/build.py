"""Compiles ``custom_ops/`` for the installed TensorFlow; standard library only.

Run as a program, ``python build.py``, it builds at once; otherwise the first use does.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCES = ("*.h", "*.cc", "cpu/*", "cuda/*")  # patterns in the source folder
FLAGS = ("-shared", "-fPIC", "-O3", "-w", "-Wno-psabi")
# Machine code for A100 and H100 classes, and PTX that newer GPUs compile for themselves.
CUDA_TARGETS = (
    "-gencode=arch=compute_80,code=sm_80",
    "-gencode=arch=compute_90,code=sm_90",
    "-gencode=arch=compute_90,code=compute_90",
)
INSTALL = "install a compiler (Debian, Ubuntu: apt-get install g++)"


class BuildError(Exception):
    """Why there is no library, and what would help, in one line."""


def source_folder() -> Path:
    """``custom_ops/``: beside the package in a checkout, inside it when installed from a wheel."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "custom_ops", package.parent / "custom_ops"):
        if (folder / "ps_assembly_op.cc").exists():
            return folder
    raise BuildError(f"{package.parent / 'custom_ops'}: not there; install fcis_tf again")


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
    """nvcc, if TensorFlow can use what it makes."""
    import tensorflow as tf

    return shutil.which("nvcc") if tf.test.is_built_with_cuda() else None


def library_path() -> Path:
    """The file that holds, or will hold, the operations for this TensorFlow and these sources."""
    import tensorflow as tf

    folder = source_folder()
    digest = hashlib.sha256(repr((FLAGS, CUDA_TARGETS, os.uname().machine)).encode())
    for path in sources(folder):
        digest.update(path.read_bytes())
    kind = "cuda" if cuda_compiler() else "cpu"
    name = f"ps_assembly-tf{tf.__version__}-{kind}-{digest.hexdigest()[:12]}.so"
    return cache_folder() / name


def build() -> Path:
    """Compile the library if it is not there; it appears only when it is whole.

    Raises:
        BuildError: no compiler, or it refused; its words are in a file that the message names.
    """
    import tensorflow as tf

    target = library_path()
    if target.exists():
        return target
    cxx, folder = compiler(), source_folder()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        work = tempfile.TemporaryDirectory(prefix="partial.", dir=target.parent)
    except OSError as fault:
        raise BuildError(
            f"{target.parent}: cannot be written ({fault.strerror}); set XDG_CACHE_HOME"
        ) from None
    print(f"building the assembly operation with {cxx}, once; about 20 s", file=sys.stderr)
    with work:
        library = Path(work.name) / "library.so"
        objects: list[str] = []
        if nvcc := cuda_compiler():
            command = [nvcc, "-O3", "-std=c++17", "-Xcompiler", "-fPIC", *CUDA_TARGETS]
            for name in ("forward", "backward"):
                objects.append(str(Path(work.name) / f"{name}.o"))
                source = str(folder / "cuda" / f"{name}.cu")
                _run([*command, "-c", source, "-o", objects[-1]], target)
            runtime = Path(nvcc).resolve().parents[1] / "lib64"
            objects += ["-DFCIS_CUDA", f"-L{runtime}", "-lcudart_static", "-lrt", "-ldl"]
        command = [cxx, *FLAGS, *tf.sysconfig.get_compile_flags()]
        command += [str(folder / "ps_assembly_op.cc"), *objects, "-o", str(library)]
        command += tf.sysconfig.get_link_flags()
        _run(command, target)
        os.replace(library, target)
    return target


def _run(command: list[str], target: Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        log = target.with_suffix(".log")
        log.write_text(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
        raise BuildError(
            f"{command[0]} could not compile the assembly operation; its words are in {log}"
        )


if __name__ == "__main__":
    try:
        print(build())
    except BuildError as fault:
        sys.exit(f"error: {fault}")
