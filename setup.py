"""Packaging. TensorFlow is an extra: its CPU and GPU packages must not both be installed."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="fcis_tf",
    version="0.1.0",
    description="FCIS instance segmentation on TensorFlow, from COCO labels to a SavedModel",
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    packages=find_packages(include=["fcis_tf", "fcis_tf.*"]),
    python_requires=">=3.11,<3.14",
    install_requires=[
        "faster-coco-eval>=1.8,<1.9",
        "h5py",
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
        "test": ["pytest>=8"],
        "dev": [
            "import-linter==2.16",
            "mypy==2.4.1",
            "ruff==0.17.6",
            "types-PyYAML==6.0.12.20261113",
        ],
    },
    entry_points={"console_scripts": ["fcis = fcis_tf.cli:main"]},
)
