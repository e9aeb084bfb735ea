"""docs/own_data.md, word for word."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from fcis_tf.data.shapes import generate_shapes
from fcis_tf.data.sources import faults
from tests.layouts import write_labelme

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "own_data.md").read_text()


def commands():
    """The lines of the page's first block."""
    return re.search(r"```bash\n(.*?)```", PAGE, re.DOTALL)[1]


def test_the_page_needs_fewer_than_ten_commands():
    lines = commands().splitlines()
    assert 0 < len(lines) < 10 and all(line.startswith("fcis ") for line in lines)


def test_the_page_lists_every_reason_of_the_report():
    rows = re.findall(r"^\| (.*?) \|(.*?)\|$", PAGE, re.MULTILINE)
    columns = [{row[n].strip() for row in rows} for n in (0, 1)]
    constants = {v for k, v in vars(faults).items() if k.isupper() and isinstance(v, str)}
    assert constants - set(faults.NOTES) <= columns[0] and set(faults.NOTES) <= columns[1]


# One process runs all commands, so that TensorFlow is loaded once.
RUN = """
import json, sys
from fcis_tf.cli import main

for arguments in json.loads(sys.argv[1]):
    sys.argv = ["fcis", *arguments]
    try:
        main()
    except SystemExit as end:
        if end.code:
            sys.exit(f"{arguments}: exit status {end.code}")
"""


def as_the_shell_reads(text, folder, **variables):
    """The arguments of each `fcis` in lines of a shell."""
    show = 'fcis() { printf "%s\\n" "$@" ""; }\n'
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", show + text],
        cwd=folder, env=os.environ | variables, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [call.split("\n") for call in done.stdout.removesuffix("\n\n").split("\n\n")]


@pytest.mark.slow
def test_the_commands_of_the_page_lead_from_labelme_to_an_exported_model(tmp_path):
    generate_shapes(tmp_path / "drawn", train=6, validation=1, size=96, seed=1)
    write_labelme(tmp_path / "drawn", tmp_path / "photos")
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    calls = as_the_shell_reads(commands(), tmp_path, STEPS="2")
    assert len(calls) == len(commands().splitlines()) and any("train.steps=2" in c for c in calls)
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(calls)],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    for split, images in (("train", 5), ("val", 1)):
        report = json.loads((tmp_path / "records" / split / "report.json").read_text())
        assert report["images"] == images and not report["faults"] and not report["notes"]
    held = (tmp_path / "lists" / "val.txt").read_text().split()
    assert len(held) == 1
    metrics = json.loads((tmp_path / "runs" / "mine" / "evaluation" / "metrics.json").read_text())
    assert "circle" in json.dumps(metrics)
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 6
    assert list((tmp_path / "seen").glob("*.png"))
    served = tf.saved_model.load(tmp_path / "export" / "1").signatures["serving_default"]
    encoded = (tmp_path / "photos" / f"{held[0]}.jpg").read_bytes()
    name = next(iter(served.structured_input_signature[1]))
    found = served(**{name: tf.constant([encoded])})
    boxes = np.asarray(found["detection_boxes"])
    assert boxes.shape[0] == 1 and boxes.shape[2] == 4 and np.isfinite(boxes).all()
