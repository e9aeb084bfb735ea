"""The build of the custom operations; all else about the package is in ``pyproject.toml``."""

import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class Build(build_py):
    """Takes the sources of the custom operations along, and compiles them where it can.

    The environment that pip builds in has no TensorFlow, but the one it installs into may: a Python
    that ignores pip's variables sees that one. Where it has none yet, the first use compiles.
    """

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "fcis_tf" / "custom_ops"
            shutil.copytree(
                "custom_ops", target, ignore=shutil.ignore_patterns("build"), dirs_exist_ok=True
            )
        found = subprocess.run(
            [sys.executable, "-I", "-c", "import tensorflow"], capture_output=True
        )
        if found.returncode == 0:
            subprocess.run([sys.executable, "-I", "fcis_tf/ops/build.py"])


setup(cmdclass={"build_py": Build})
