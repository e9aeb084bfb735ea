"""Compiles ``custom_ops/`` for the installed TensorFlow; standard library only.

Run as a program, ``python build.py``, it builds at once; otherwise the first use does.
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
FLAGS = ("-fPIC", "-O3", "-w", "-Wno-psabi")
INSTALL = "install a compiler (Debian, Ubuntu: apt-get install g++)"


class BuildError(Exception):
    """Why there is no library, and what would help, in one line."""


def source_folder() -> Path:
    """``custom_ops/``: beside the package in a checkout, inside it when installed from a wheel."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "custom_ops", package.parent / "custom_ops"):
        if (folder / "ops.cc").exists():
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
    digest = hashlib.sha256(repr((FLAGS, os.uname().machine)).encode())
    for path in sources(folder):
        digest.update(path.read_bytes())
    kind = "cuda" if cuda_compiler() else "cpu"
    name = f"ps_assembly-tf{tf.__version__}-{kind}-{digest.hexdigest()[:12]}.so"
    return cache_folder() / name


def build() -> Path:
    """Compile the library if it is not there; it appears only when it is whole.

    Raises:
        BuildError: no compiler, or it it failed; the message names the file with its output.
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
        nvcc = cuda_compiler()
        to_object = [cxx, *FLAGS, *tf.sysconfig.get_compile_flags(), "-c"]
        units = {"ops.cc": to_object, "kernels_cpu.cc": to_object}
        link = [cxx, "-shared", "-o", str(library)]
        libraries = tf.sysconfig.get_link_flags()
        if nvcc:
            cuda = [nvcc, "-optf", str(folder / "cuda" / "nvcc_options.txt"), "-c"]
            units |= {
                "kernels_gpu.cc": to_object,
                "cuda/forward.cu": cuda,
                "cuda/backward.cu": cuda,
            }
            runtime = Path(nvcc).resolve().parents[1] / "lib64"
            libraries += [f"-L{runtime}", "-lcudart_static", "-lrt", "-ldl"]
        objects = [str(Path(work.name) / f"{unit.replace('/', '_')}.o") for unit in units]
        _run(
            [
                [*command, str(folder / unit), "-o", made]
                for (unit, command), made in zip(units.items(), objects, strict=True)
            ],
            target,
        )
        _run([[*link, *objects, *libraries]], target)
        os.replace(library, target)
    return target


def _run(commands: list[list[str]], target: Path) -> None:
    """Run all commands at the same time; the first that fails is reported."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(
            pool.map(
                lambda command: subprocess.run(command, capture_output=True, text=True), commands
            )
        )
    for command, done in zip(commands, results, strict=True):
        if done.returncode:
            log = target.with_suffix(".log")
            log.write_text(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
            raise BuildError(
                f"{command[0]} could not compile the assembly operation; compiler output: {log}"
            )


if __name__ == "__main__":
    try:
        print(build())
    except BuildError as fault:
        sys.exit(f"error: {fault}")
