"""The scripts of the paper's tables, with a command line that only records its arguments."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fcis_tf.config import load_config

ROOT = Path(__file__).parents[2]
CONFIGS = {"paper": "fcis_r101_coco", "shapes": "shapes", "nuclei": "nuclei"}
# Stands in for `fcis`: a run is a folder, and every evaluation is one percent better than the last.
COMMAND = """#!{python}
import json, pathlib, sys
log, arguments = pathlib.Path("calls"), sys.argv[1:]
calls = log.read_text().splitlines() if log.exists() else []
log.write_text("".join(f"{{line}}\\n" for line in [*calls, json.dumps(arguments)]))
if pathlib.Path("break").exists() and len(calls) + 1 == int(pathlib.Path("break").read_text()):
    sys.exit(130)
option = lambda name: pathlib.Path(arguments[arguments.index(name) + 1])
if arguments[0] == "convert":
    option("--out").mkdir(parents=True)
    (option("--out") / "report.json").write_text("{{}}")
if arguments[0] == "train":
    option("--run").mkdir(parents=True, exist_ok=True)
if arguments[0] == "evaluate":
    assert (option("--run") / "finished").exists()
    option("--out").mkdir()
    count = sum(json.loads(line)[0] == "evaluate" for line in calls)
    names = ["AP", "AP50", "APs", "APm", "APl"]
    mask = {{name: 0.5 + 0.01 * count + 0.1 * i for i, name in enumerate(names)}} | {{"APl": -1}}
    content = {{"images": 7, "mask": mask, "box": {{"AP": 0.25}}}}
    (option("--out") / "metrics.json").write_text(json.dumps(content))
"""


@pytest.fixture
def place(tmp_path):
    """A copy of the scripts whose environment has nothing but the stand-in."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    command = tmp_path / "bin" / "fcis"
    command.parent.mkdir()
    command.write_text(COMMAND.format(python=sys.executable))
    command.chmod(0o755)
    (tmp_path / "scripts" / "environment.sh").write_text(f"cd '{tmp_path}'\n")
    for name in ("discs", "blocks"):
        (tmp_path / "sets" / name).mkdir(parents=True)
        for split in ("train", "val"):
            (tmp_path / "sets" / name / f"{split}.json").write_text("{}")
    return tmp_path


def run(place, table, *arguments):
    folders = f"{place / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "../scripts/research/reproduce_table" + table, *map(str, arguments)],
        cwd=place / "sets",
        env={**os.environ, "PATH": folders},
        capture_output=True,
        text=True,
    )


def calls(place):
    return [json.loads(line) for line in (place / "calls").read_text().splitlines()]


def overrides(call):
    return [part for part in call if "=" in part]


def check_configurations(place, preset):
    """Every key and value that a command was given is one that the configuration has."""
    for call in calls(place):
        if call[0] == "train":
            named = Path(call[call.index("--config") + 1])
            assert named == Path("configs") / f"{CONFIGS[preset]}.yaml"
        if call[0] in ("train", "evaluate"):
            load_config(ROOT / "configs" / f"{CONFIGS[preset]}.yaml", overrides(call))


def table(done):
    """The cells of all rows below a heading."""
    lines = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in rows if row[0] != "row"]


@pytest.mark.parametrize("preset", CONFIGS)
def test_table_4_has_all_rows_with_the_numbers_of_the_paper(place, preset):
    done = run(place, "4.sh", "--preset", preset, "--members", 3, "--steps", 5, "discs")
    assert done.returncode == 0, done.stderr
    check_configurations(place, preset)
    rows = table(done)
    assert [row[0] for row in rows] == [
        "baseline",
        "+ multi-scale test",
        "+ horizontal flip",
        "+ multi-scale training",
        "+ ensemble of 3",
    ]
    assert [row[1] for row in rows] == ["29.2", "32.0", "32.7", "33.6", "37.6"]
    assert [row[3] for row in rows] == ["50.0", "51.0", "52.0", "53.0", "54.0"]
    assert [row[4] for row in rows] == ["+0.0", "+1.0", "+2.0", "+3.0", "+4.0"]
    assert rows[0][8] == "-"
    trained = [call for call in calls(place) if call[0] == "train"]
    assert len(trained) == 4 and all("train.steps=5" in call for call in trained)
    seeds = [part for call in trained for part in call if part.startswith("train.seed")]
    assert len(set(seeds)) == 2
    last = calls(place)[-1]
    (ensemble,) = (part for part in last if part.startswith("predict.ensemble"))
    assert ensemble.count("/runs/member") == 2 and "predict.flip=true" in last


def test_what_is_done_is_kept_and_an_interrupted_table_goes_on(place):
    (place / "break").write_text("7")
    broken = run(place, "4.sh", "--preset", "shapes", "--members", 2, "discs")
    assert broken.returncode == 130
    (place / "break").unlink()
    assert run(place, "4.sh", "--preset", "shapes", "--members", 2, "discs").returncode == 0
    made = calls(place)
    assert made[6] == made[7]  # the step that was interrupted, again
    assert len({json.dumps(call) for call in made}) == len(made) - 1
    again = run(place, "4.sh", "--preset", "shapes", "--members", 2, "discs")
    assert again.returncode == 0 and calls(place) == made
    work = place / "runs" / "reproduce" / "discs"
    assert (work / "table4.md").read_text() in again.stdout
    assert not list(work.glob("**/*partial*"))


def test_tables_share_their_runs(place):
    for name in ("2.sh", "3.sh", "4.sh"):
        arguments = ("--preset", "shapes", "--members", 1, "--backbones", "small resnet50")
        done = run(place, name, *arguments, "--out", "made", "discs")
        assert done.returncode == 0, done.stderr
    check_configurations(place, "shapes")
    runs = [Path(c[c.index("--run") + 1]).name for c in calls(place) if c[0] == "train"]
    assert runs == ["random", "ohem", "depth_resnet50", "multiscale"]
    assert {path.name for path in (place / "sets" / "made" / "discs").glob("*.md")} == {
        "table2.md",
        "table3.md",
        "table4.md",
    }


def test_the_papers_depths_start_from_their_own_weights(place):
    done = run(place, "3.sh", "discs")
    assert [row[:3] for row in table(done)] == [
        ["resnet50", "27.1", "46.7"],
        ["resnet101", "29.2", "49.5"],
        ["resnet152", "29.5", "49.8"],
    ]
    check_configurations(place, "paper")
    for call in calls(place):
        if call[0] == "train":
            config = load_config(ROOT / "configs" / "fcis_r101_coco.yaml", overrides(call))
            assert config.train.init == f"keras:{config.model.backbone}"


def test_several_data_sets_and_a_table_for_each(place):
    done = run(place, "2.sh", "--preset", "nuclei", "discs", "blocks")
    assert [row[0] for row in table(done)] == ["FCIS, random sampling", "FCIS, OHEM"] * 2
    assert "Table 2, discs" in done.stdout and "Table 2, blocks" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a data set"),
        (["absent"], "absent: not a data set, it has no train.json"),
        (["--preset", "big", "discs"], "--preset big: expected paper, shapes or nuclei"),
        (["--steps", "0", "discs"], "--steps 0: expected a number from 1"),
        (["--steps"], "--steps needs a value"),
        (["--stesp", "3", "discs"], "--stesp: no such option"),
    ],
)
def test_faults_are_one_line_and_nothing_is_run(place, arguments, message):
    done = run(place, "2.sh", *arguments)
    assert done.returncode == 2 and not (place / "calls").exists()
    assert done.stderr.count("\n") == 1 and message in done.stderr


def test_rows_of_other_settings_are_not_mixed(place):
    assert run(place, "2.sh", "--preset", "shapes", "discs").returncode == 0
    other = run(place, "2.sh", "--preset", "shapes", "--steps", "9", "discs")
    assert other.returncode == 2 and "name another --out" in other.stderr


def test_help_lists_the_options(place):
    done = run(place, "4.sh", "--help")
    assert done.returncode == 0 and "Paper Table 4" in done.stdout and "--members N" in done.stdout
