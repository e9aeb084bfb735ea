"""fcis split and fcis convert from the command line, for every source."""

import json

import pytest
from typer.testing import CliRunner

from fcis_tf.cli import app
from fcis_tf.data.records import read_records
from fcis_tf.data.shapes import generate_shapes
from tests.layouts import write_labelme, write_masks, write_sbd
from tests.test_cli import call

SHARED = ("--out", "--shards", "--processes", "--part", "--strict", "--verify")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    generate_shapes(folder / "coco", train=5, validation=1, size=64, seed=2)
    write_labelme(folder / "coco", folder / "labelme")
    write_masks(folder / "coco", folder / "masks", "bowl")
    write_sbd(folder / "coco", folder / "sbd")
    return folder


@pytest.mark.parametrize("source", ["coco", "sbd", "labelme", "masks"])
def test_every_source_takes_the_options_of_the_converter(source):
    result = CliRunner().invoke(app, ["convert", source, "--help"])
    assert result.exit_code == 0 and all(option in result.output for option in SHARED)


@pytest.mark.parametrize(
    ("source", "split", "listed", "names"),
    [
        ("coco", ["--annotations", "coco/train.json"], [], {"circle", "square", "triangle"}),
        ("labelme", ["labelme"], ["labelme"], {"circle", "square", "triangle"}),
        ("masks", ["masks", "--class", "nut"], ["masks", "--class", "nut"], {"nut"}),
    ],
)
def test_split_convert_and_verify(
    monkeypatch, capsys, tmp_path, drawn, source, split, listed, names
):
    monkeypatch.chdir(drawn)
    code, out, _ = call(
        monkeypatch, capsys, "split", source, *split, "--out", tmp_path, "--validation", 0.4
    )
    assert (
        code == 0
        and f"next: fcis convert {source}" in out
        and "images 3 2" in " ".join(out.split())
    )
    seen = []
    for part, count in (("train", 3), ("val", 2)):
        chosen = (
            ["--images", "coco/train", "--annotations", tmp_path / f"{part}.json"]
            if source == "coco"
            else [*listed, "--list", tmp_path / f"{part}.txt"]
        )
        command = ["convert", source, *chosen, "--out", tmp_path / part, "--shards", 2]
        code, out, _ = call(monkeypatch, capsys, *command, "--part", "2/2", "--strict")
        assert code == 0 and "1 shards are missing" in out
        code, out, _ = call(monkeypatch, capsys, *command, "--strict")
        assert code == 0 and "kept 1 shards" in out and f"{count} images" in out
        code, out, _ = call(monkeypatch, capsys, *command, "--verify")
        assert code == 0 and "2 shards as" in out
        seen += [record.filename for record in read_records(tmp_path / part)]
        report = json.loads((tmp_path / part / "report.json").read_text())
        assert report["images"] == count and set(report["classes"]) <= names
    assert sorted(seen) == [f"{n:06d}.jpg" for n in range(1, 6)]


def test_the_data_sets_own_lists(monkeypatch, capsys, tmp_path, drawn):
    for part, count in (("train", 3), ("val", 2)):
        code, out, _ = call(
            monkeypatch, capsys, "convert", "sbd", drawn / "sbd", "--list", part,
            "--out", tmp_path / part,
        )  # fmt: skip
        assert code == 0 and f"{count} images" in out
    code, _, err = call(
        monkeypatch, capsys, "convert", "sbd", drawn / "sbd", "--list", "test", "--out", tmp_path
    )
    assert code == 2 and "list test: no such file, and no list of" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["convert", "labelme", "absent", "--out", "o"], "absent: no such folder of LabelMe files"),
        (["convert", "masks", "absent", "--out", "o"], "absent: no such folder of images"),
        (["convert", "sbd", "absent", "--out", "o"], "absent: expected SBD's img/"),
        (["convert", "masks", "masks", "--out", "o"], "no class; if all instances are of one"),
        (
            ["convert", "labelme", "labelme", "--list", "l", "--out", "o"],
            "l: no such list of images",
        ),
        (
            ["convert", "labelme", "labelme", "--labels", "l", "--out", "o"],
            "l: no such list of classes",
        ),
        (["split", "labelme", "labelme", "--validation", "0", "--out", "o"], "each needs at least"),
        (["split", "labelme", "labelme", "--validation", "2", "--out", "o"], "'--validation'"),
    ],
)
def test_faults_are_one_line(monkeypatch, capsys, drawn, arguments, words):
    monkeypatch.chdir(drawn)
    code, _, err = call(monkeypatch, capsys, *arguments)
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert code == 2 and len(lines) == 1 and words in lines[0] and not (drawn / "o").exists()
