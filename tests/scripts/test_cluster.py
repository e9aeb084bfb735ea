"""The examples for clusters: every worker gets the TF_CONFIG that the training takes."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

from fcis_tf.training.distributed.hosts import addresses

FCIS = r"""#!/bin/bash
[[ $TF_CONFIG =~ index[^0-9]*([0-9]+) ]] && echo "$TF_CONFIG" > "$SEEN.${BASH_REMATCH[1]}"
echo "$@"
[[ ${BASH_REMATCH[1]} != "${FAILING:-none}" ]] || exit 7
"""
SCONTROL = r"""#!/bin/sh
[ "$*" = "show hostnames gpu[1-3]" ] && printf "gpu1\ngpu2\ngpu3\n"
"""


def programs(folder, **scripts):
    """A PATH on which some commands are these scripts."""
    for name, text in scripts.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "SEEN": str(folder / "seen")}


def check(folder, monkeypatch, expected):
    for index in range(len(expected)):
        text = (folder / f"seen.{index}").read_text()
        assert json.loads(text)["task"] == {"type": "worker", "index": index}
        monkeypatch.setenv("TF_CONFIG", text)
        assert addresses() == expected


def test_slurm(tmp_path, monkeypatch):
    tasks = 'for SLURM_PROCID in 0 1 2; do export SLURM_PROCID; "$@"; done'
    env = programs(
        tmp_path,
        fcis=FCIS,
        scontrol=SCONTROL,
        srun=f"#!/bin/bash\nshift 2\n{tasks}\n",
    )
    env["SLURM_JOB_NODELIST"] = "gpu[1-3]"
    command = ["bash", "scripts/deploy/slurm.sh", "--config", "a b.yaml", "--run", "r"]
    done = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines() == 3 * ["train --config a b.yaml --run r"]
    check(tmp_path, monkeypatch, ["gpu1:12345", "gpu2:12345", "gpu3:12345"])


def test_kubernetes(tmp_path, monkeypatch):
    service, job = yaml.safe_load_all(Path("scripts/deploy/kubernetes.yaml").read_text())
    spec = job["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    names = {row["name"]: row["value"] for row in container["env"]}
    assert int(names["WORKERS"]) == job["spec"]["completions"] == job["spec"]["parallelism"]
    assert spec["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    for index in range(2):
        env = programs(tmp_path, fcis=FCIS) | names | {"JOB_COMPLETION_INDEX": str(index)}
        subprocess.run(container["command"], env=env, check=True, capture_output=True)
    name = f"{job['metadata']['name']}-%d.{service['metadata']['name']}:12345"
    check(tmp_path, monkeypatch, [name % 0, name % 1])


@pytest.mark.parametrize(
    ("workers", "command"),
    [
        (["0", "true"], "expected at least 1"),
        (["a,,b", "true"], "expected HOST"),
        (["2"], "expected WORKERS"),
    ],
)
def test_launching_names_what_is_wrong(workers, command):
    done = subprocess.run(
        ["bash", "scripts/deploy/launch_workers.sh", *workers], capture_output=True, text=True
    )
    assert done.returncode == 2 and command in done.stderr


def test_hosts_are_reached_with_ssh_and_a_failure_is_that_of_the_whole(tmp_path, monkeypatch):
    remote = '#!/bin/bash\nshift 2\necho "to $1"\nshift\nexec bash -c "$*"\n'
    env = programs(tmp_path, fcis=FCIS, ssh=remote) | {"FAILING": "1"}
    command = ["bash", "scripts/deploy/launch_workers.sh", "alice,bob:99"]
    command += ["fcis", "train", "--run", "a b"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 7
    lines = sorted(done.stdout.splitlines())
    assert lines == ["[bob:99] to bob", "[bob:99] train --run a b", "to alice", "train --run a b"]
    check(tmp_path, monkeypatch, ["alice:12345", "bob:99"])
