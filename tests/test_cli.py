import json
import re
import resource
import signal
import subprocess
import sys
import types

import pytest
from typer.testing import CliRunner

from fcis_tf.cli import app, main
from fcis_tf.prediction.output import OutputOptions
from tests.training.test_loop import TINY

COMMANDS = (
    "shapes",
    "split",
    "convert",
    "inspect",
    "import-weights",
    "train",
    "evaluate",
    "predict",
    "export",
    "check-export",
    "benchmark",
    "doctor",
)


def call(monkeypatch, capsys, *arguments):
    """Exit status, output and error output of `fcis ARGUMENTS`."""
    monkeypatch.setattr(sys, "argv", ["fcis", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    out, err = capsys.readouterr()
    return end.value.code or 0, out, err


def test_help_lists_the_commands_and_does_not_import_tensorflow():
    code = (
        "import sys; from fcis_tf.cli import app; from typer.testing import CliRunner;"
        "print(CliRunner().invoke(app, ['--help']).output);"
        "assert not {'tensorflow', 'keras', 'numpy'} & set(sys.modules)"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    listed = re.findall(r"^  ([a-z]\S*)  ", done.stdout.partition("Commands:")[2], re.M)
    assert listed == list(COMMANDS)  # in the order of the work
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5  # seconds


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name):
    result = CliRunner().invoke(app, [name, "--help"])
    assert result.exit_code == 0 and "Usage" in result.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "--config", "absent.yaml", "--run", "r"], "absent.yaml: no such configuration"),
        (["evaluate", "--run", "absent"], "absent: not a run directory"),
        (["evaluate"], "one of --run RUN and --results FILE"),
        (["evaluate", "--run", "R", "--images", "I"], "--images does not go with --run"),
        (["evaluate", "--results", "r", "train.steps=3"], "KEY=VALUE does not go with --results"),
        (["evaluate", "--results", "absent.json", "--annotations", "a.json"], "a.json: no such"),
        (["predict", "--out", "o", "a.jpg"], "expected one of --run RUN and --server URL"),
        (["predict", "--server", "u", "--out", "o", "a", "--score-maps"], "--as-stored and --set"),
        (["check-export", "absent"], "absent: not a SavedModel"),
        (["predict", "--run", "absent", "--out", "o", "absent.jpg"], "absent.jpg: no such file"),
        (["export", "--run", "absent", "--out", "o/1"], "absent: not a run directory"),
        (["inspect", "absent", "--out", "o"], "absent"),
        (["shapes", "out", "--size", "3"], "--size at least 64"),
        (
            ["convert", "coco", "--images", ".", "--annotations", "b.json", "--out", "o"],
            "b.json: no such annotation file",
        ),
    ],
)
def test_faults_are_one_line_and_exit_status_2(monkeypatch, capsys, tmp_path, arguments, words):
    monkeypatch.chdir(tmp_path)
    code, _, err = call(monkeypatch, capsys, *arguments)
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert code == 2 and len(lines) == 1 and words in lines[0]
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train"], ["'--config'", "fcis train --help"]),
        (["train", "--confg", "x"], ["--confg", "--config"]),
        (["train", "--config", "bad.yaml", "--run", "R"], ["bad.yaml", "train.stpes"]),
        (["train", "--config", "good.yaml", "--run", "R", "train.steps=-1"], ["train.steps", "-1"]),
        (["train", "--config", "good.yaml", "--run", "R"], ["data.train", "records folder"]),
        (["trian"], ["'trian'", "fcis --help"]),
        (["convert"], ["command", "fcis convert --help"]),
        (["shapes", "O", "--size", "wide"], ["'--size'", "integer"]),
        (["shapes", "good.yaml/O"], ["good.yaml/O"]),
    ],
)
def test_usage_is_refused_in_one_line_and_nothing_is_written(
    tmp_path, monkeypatch, capsys, arguments, words
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.yaml").write_text("train: {stpes: 3}\n")
    (tmp_path / "good.yaml").write_text("train: {steps: 3}\n")
    before = sorted(tmp_path.rglob("*"))
    code, out, err = call(monkeypatch, capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ") and err.endswith("\n") and err.count("\n") == 1
    assert all(word in err for word in words)
    assert sorted(tmp_path.rglob("*")) == before


def test_without_arguments_it_lists_the_commands(monkeypatch, capsys):
    code, out, _ = call(monkeypatch, capsys)
    assert code == 0 and all(f"\n  {name} " in out for name in COMMANDS)


def test_our_own_faults_keep_their_traceback(monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr("fcis_tf.data.shapes.generate_shapes", broken)
    monkeypatch.setattr(sys, "argv", ["fcis", "shapes", "O"])
    with pytest.raises(ZeroDivisionError, match="a fault of ours"):
        main()


def test_an_interruption_is_one_line_and_status_130(monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("fcis_tf.data.shapes.generate_shapes", interrupted)
    code, _, err = call(monkeypatch, capsys, "shapes", "O")
    assert code == 130 and err.strip().splitlines()[0].startswith("interrupted")
    assert err.strip().count("\n") == 0


def test_options_reach_the_functions(monkeypatch, capsys):
    calls = {}

    def record(name, result):
        def function(*positional, **named):
            calls[name] = (positional, named)
            return result

        return function

    metrics = types.SimpleNamespace(table=lambda: "the table")
    monkeypatch.setattr("fcis_tf.evaluation.run.evaluate", record("evaluate", metrics))
    monkeypatch.setattr("fcis_tf.prediction.predict_files.predict_files", record("predict", [1, 2]))
    monkeypatch.setattr("fcis_tf.serving.client.remote.predict_remotely", record("remote", [1]))
    monkeypatch.setattr("fcis_tf.serving.export.export.export", record("export", ["Conv2D"]))

    code, out, _ = call(
        monkeypatch, capsys, "evaluate", "--run", "R", "--limit", 5, "--report", "page",
        "predict.iterations=1",
    )  # fmt: skip
    _, named = calls["evaluate"]
    assert code == 0 and out.startswith("the table\n") and "R/evaluation/metrics.json" in out
    assert named["limit"] == 5 and str(named["report"]) == "page" and "page/index.html" in out
    assert list(named["overrides"]) == ["predict.iterations=1"]

    code, out, _ = call(
        monkeypatch, capsys, "predict", "--run", "R", "--out", "P", "a.jpg", "b", "--score", 0.25,
        "--score-maps", "--label-maps", "--no-pictures",
        "--set", "predict.voting=none", "--set", "predict.max_detections=9",
    )  # fmt: skip
    positional, named = calls["predict"]
    assert code == 0 and "wrote 2 pictures" in out
    assert [str(path) for path in positional[1]] == ["a.jpg", "b"]
    assert positional[3] == OutputOptions(0.25, pictures=False, label_maps=True, score_maps=True)
    assert list(named["overrides"]) == ["predict.voting=none", "predict.max_detections=9"]

    code, out, _ = call(
        monkeypatch, capsys, "predict", "--server", "http://h:1", "--out", "P", "a.jpg",
        "--deadline", 5, "--model", "net", "--label-maps", "--limit", 3,
    )  # fmt: skip
    positional, named = calls["remote"]
    assert code == 0 and "wrote 1 pictures" in out
    assert (positional[0], [str(path) for path in positional[1]]) == ("http://h:1", ["a.jpg"])
    assert (named["deadline"], named["model"], named["labels"]) == (5.0, "net", None)
    assert positional[3] == OutputOptions(label_maps=True) and named["limit"] == 3

    code, out, _ = call(
        monkeypatch, capsys, "export", "--run", "R", "--out", "E/3", "predict.voting=soft",
        "--as-stored", "--max-pixels", 99,
    )  # fmt: skip
    assert code == 0 and "E/3" in out
    assert list(calls["export"][1]["overrides"]) == ["predict.voting=soft"]
    assert (calls["export"][1]["upright"], calls["export"][1]["max_pixels"]) == (False, 99)


@pytest.mark.parametrize("sound", [True, False])
def test_the_doctors_verdict_is_the_exit_status(monkeypatch, capsys, sound):
    monkeypatch.setattr("fcis_tf.doctor.examine", lambda: ("findings", sound))
    code, out, _ = call(monkeypatch, capsys, "doctor")
    assert (code, out) == (0 if sound else 1, "findings\n")


@pytest.mark.slow
def test_the_main_job_from_the_command_line(monkeypatch, capsys, tmp_path):
    """shapes, convert, inspect, train, evaluate, predict, export: each says what it wrote."""
    monkeypatch.chdir(tmp_path)
    options = ["--train", 6, "--validation", 3, "--size", 64]
    code, out, _ = call(monkeypatch, capsys, "shapes", "data", *options)
    assert code == 0 and "next: fcis convert coco" in out
    for split in ("train", "val"):
        code, out, _ = call(
            monkeypatch, capsys, "convert", "coco", "--images", f"data/{split}",
            "--annotations", f"data/{split}.json", "--out", f"records/{split}",
        )  # fmt: skip
        assert code == 0 and "wrote" in out
    (tmp_path / "c.yaml").write_text("data: {train: records/train, validation: records/val}\n")
    settings = [*TINY, "data.long_side=60", "train.steps=3"]
    code, out, _ = call(
        monkeypatch, capsys, "inspect", "records/train", "--out", "seen", "--limit", 2
    )
    assert code == 0 and "6 images" in out and len(list((tmp_path / "seen").iterdir())) == 2
    code, out, _ = call(
        monkeypatch, capsys, "train", "--config", "c.yaml", "--run", "run", *settings
    )
    assert code == 0 and "next: fcis evaluate --run run" in out
    code, out, _ = call(monkeypatch, capsys, "evaluate", "--run", "run")
    assert code == 0 and "AP50" in out and "circle" in out
    code, out, _ = call(
        monkeypatch, capsys, "predict", "--run", "run", "--out", "drawn", "data/val", "--score-maps"
    )
    assert code == 0 and len(list((tmp_path / "drawn").glob("*.png"))) == 6
    assert isinstance(json.loads((tmp_path / "drawn" / "predictions.json").read_text()), list)
    code, out, _ = call(monkeypatch, capsys, "export", "--run", "run", "--out", "export/1")
    assert code == 0 and (tmp_path / "export" / "1" / "saved_model.pb").exists()


@pytest.mark.parametrize(
    ("also", "then"),
    [([], "the same command continues"), (["--overfit", "8"], "--overfit starts again")],
)
def test_a_stopped_training_exits_with_128_plus_the_signal(
    monkeypatch, capsys, tmp_path, also, then
):
    from fcis_tf.training import loop, overfit
    from fcis_tf.training.stopping import Stopped

    def stopped(*_):
        raise Stopped(signal.SIGTERM)

    monkeypatch.setattr(loop, "train", stopped)
    monkeypatch.setattr(overfit, "overfit", stopped)
    (tmp_path / "c.yaml").touch()
    given = ["--config", tmp_path / "c.yaml", "--run", tmp_path / "r", *also]
    code, _, err = call(monkeypatch, capsys, "train", *given)
    assert code == 128 + signal.SIGTERM
    assert err == f"stopped by SIGTERM; {then}\n"


@pytest.mark.parametrize(("causes", "status"), [([], 0), (["labels: shifted"], 1)])
def test_the_sanity_check_of_a_data_set_has_a_status(monkeypatch, capsys, tmp_path, causes, status):
    from fcis_tf.training import overfit

    def checked(config, run, count):
        return overfit.Overfit(0.5 if causes else 0.97, 40 * count, causes)

    monkeypatch.setattr(overfit, "overfit", checked)
    (tmp_path / "c.yaml").touch()
    given = ["--config", tmp_path / "c.yaml", "--run", tmp_path / "r", "--overfit", "8"]
    code, out, _ = call(monkeypatch, capsys, "train", *given)
    assert code == status
    assert f"mask AP50 {0.5 if causes else 0.97:.3f} on its own 8 images after 320 steps" in out
    assert ("  labels: shifted" in out) == bool(causes)
