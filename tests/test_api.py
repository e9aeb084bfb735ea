"""The Python of README.md and of docs/python_api.md, word for word, and the public names."""

import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import fcis_tf
from fcis_tf.data.convert.converter import convert
from fcis_tf.data.shapes import generate_shapes
from tests import fixtures
from tests.layouts import write_labelme

ROOT = Path(__file__).parents[1]
VERBS = ("convert", "train", "load", "evaluate", "export")
# The shipped configuration with a network and a schedule that take seconds.
OWN = [
    "data.short_sides=[64]",
    "data.validation_short_side=64",
    "data.color_jitter=0.0",
    *fixtures.TINY,
    "train.steps=500",
    "train.batch_size=1",
    "train.evaluate_every=500",
    "predict.max_detections=10",
]


def blocks(name):
    return re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with photos/, a.jpg, configs/own.yaml and records/val, as the pages expect."""
    folder = tmp_path_factory.mktemp("api")
    generate_shapes(folder / "shapes", train=6, validation=1, size=64, seed=3)
    write_labelme(folder / "shapes", folder / "photos")
    (folder / "a.jpg").write_bytes((folder / "shapes/val/000001.jpg").read_bytes())
    (folder / "configs").mkdir()
    config = fcis_tf.load_config(ROOT / "configs/own.yaml", OWN)
    config.save(folder / "configs/own.yaml")
    convert("labelme", folder / "photos", folder / "records/val")
    return folder


def test_the_readme_and_the_page_run_as_they_stand(place, monkeypatch):
    monkeypatch.chdir(place)
    (readme,) = blocks("README.md")
    names = {}
    exec(compile(readme, "README.md", "exec"), names)
    found = names["found"]
    assert isinstance(found, fcis_tf.Instances) and found.masks.shape == (len(found), 64, 64)
    with Image.open("a.png") as picture:
        assert picture.size == (512, 512)
    assert Path("export/1/saved_model.pb").exists()
    page = blocks("docs/python_api.md")
    assert len(page) == 10
    names = {}
    for number, block in enumerate(page, start=1):
        # The export of the README is there already.
        code = block.replace('"export/1"', '"export/2"')
        exec(compile(code, f"docs/python_api.md, block {number}", "exec"), names)
    metrics = fcis_tf.evaluate("runs/mine")
    assert metrics.mask == names["metrics"].mask
    assert len(names["both"]) == 2


def test_a_config_takes_no_overrides(tmp_path):
    with pytest.raises(fcis_tf.FcisError, match="overrides go with a configuration file"):
        fcis_tf.train(fcis_tf.load_config(), tmp_path, overrides=["train.steps=1"])


def test_public_names_stay_what_they_are_whatever_is_imported():
    """No sub-package has the name of a function, which importing it would replace."""
    for module in pkgutil.walk_packages(fcis_tf.__path__, "fcis_tf."):
        if module.name != "fcis_tf.__main__":
            importlib.import_module(module.name)
    for name in fcis_tf.__all__:
        value = getattr(fcis_tf, name)
        assert callable(value) or name == "ops", name
    for verb in VERBS:
        assert type(getattr(fcis_tf, verb)).__name__ == "function"


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, fcis_tf; assert not {'tensorflow', 'keras', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, cwd=ROOT)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = fcis_tf.nonsense
