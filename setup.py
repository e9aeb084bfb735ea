"""Packaging. TensorFlow is an extra: its CPU and GPU packages must not both be installed."""

import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import find_packages, setup
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


setup(
    name="fcis_tf",
    version="0.1.0",
    description="FCIS instance segmentation on TensorFlow, from COCO labels to a SavedModel",
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    cmdclass={"build_py": Build},
    packages=find_packages(include=["fcis_tf", "fcis_tf.*"]),
    package_data={"fcis_tf.evaluation": ["report.html"]},
    python_requires=">=3.11,<3.14",
    install_requires=[
        "contourpy>=1.2",
        "faster-coco-eval>=1.8,<1.9",
        "h5py",
        "jinja2>=3",
        "keras>=3.15,<3.16",
        "numpy",
        "pillow>=10.1",
        "pycocotools",
        "pydantic>=2",
        "PyYAML",
        "rich",
        "tensorboard",
        "typer>=0.29,<1",
    ],
    extras_require={
        "cpu": ["tensorflow-cpu>=2.20,<2.22"],
        "gpu": ["tensorflow[and-cuda]>=2.20,<2.22"],
        "sbd": ["scipy"],
        "video": ["av>=12"],
        "serve": ["grpcio"],  # gRPC of `fcis predict --server`; REST needs nothing
        "test": ["pytest>=8", "av>=12", "grpcio", "scipy"],
        # What Model Garden imports; scripts/research/peer_environment.sh adds Model Garden itself.
        "garden": [
            "gin-config",
            "immutabledict",
            "matplotlib",
            "opencv-python-headless",
            "scipy",
            "setuptools<81",
            "tensorflow-cpu==2.20.*",
            "tensorflow-datasets",
        ],
        "dev": [
            "import-linter==2.16",
            "mypy==2.4.1",
            "ruff==0.17.6",
            "types-PyYAML==6.0.12.20261113",
        ],
    },
    entry_points={"console_scripts": ["fcis = fcis_tf.cli:main"]},
)
