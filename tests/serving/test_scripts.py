import os
import re
import subprocess

import pytest
import yaml

from fcis_tf.serving.export.package import BATCHING, MODEL_NAME
from tests.serving.conftest import ROOT

DEPLOY = ROOT / "scripts/deploy"


def start(*arguments, path):
    command = ["bash", str(DEPLOY / "start.sh"), *map(str, arguments)]
    environment = os.environ | {"PATH": f"{path}:{os.environ['PATH']}"}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.fixture
def docker(tmp_path):
    """A ``docker`` that only records its arguments."""
    folder = tmp_path / "bin"
    folder.mkdir()
    tool = folder / "docker"
    tool.write_text(f'#!/bin/sh\necho "$FCIS_EXPORT $@" >> {tmp_path}/calls\n')
    tool.chmod(0o755)
    return folder


def test_one_line_starts_the_server_on_an_export(docker, tmp_path):
    export = tmp_path / "my export"
    (export / "3").mkdir(parents=True)
    (export / "3/saved_model.pb").touch()
    (export / "batching_parameters.txt").touch()
    done = start(export, "gpu", path=docker)
    assert done.returncode == 0, done.stderr
    calls = (tmp_path / "calls").read_text()
    assert calls.startswith(f"{export} compose") and "--profile gpu up --detach --wait" in calls
    assert "http://localhost:8501" in done.stdout


@pytest.mark.parametrize("arguments, text", [((), "expected the folder"), (("no",), "no/1; fcis")])
def test_what_is_missing_is_named(docker, arguments, text):
    done = start(*arguments, path=docker)
    assert done.returncode == 2 and text in done.stderr


def test_the_compose_file_serves_what_export_writes():
    content = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    for name, service in content["services"].items():
        assert service["profiles"] == [name]
        assert service["environment"]["MODEL_NAME"] == MODEL_NAME
        mounted = f"/models/{MODEL_NAME}"
        assert service["volumes"][0].endswith(f":{mounted}:ro")
        batching = f"--batching_parameters_file={mounted}/batching_parameters.txt"
        assert {"--enable_batching=true", batching} <= set(service["command"])
        assert f"/v1/models/{MODEL_NAME} " in service["healthcheck"]["test"][-1]
    assert content["services"]["gpu"]["image"].endswith("-gpu")
    assert re.findall(r"(\w+) \{ value: \d+ \}", BATCHING) == [
        "max_batch_size",
        "batch_timeout_micros",
        "max_enqueued_batches",
    ]


def test_the_health_check_sees_a_warm_model(stand_in):
    content = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    *_, script = content["services"]["cpu"]["healthcheck"]["test"]
    port = stand_in["rest"].rpartition(":")[2]
    for path, status in (("fcis", 0), ("other", 1)):
        command = script.replace("8501", port).replace("/fcis ", f"/{path} ")
        done = subprocess.run(["timeout", "20", "bash", "-c", command])
        assert done.returncode == status
