"""Send many requests from many clients, some of them bad; check answers and memory.

python scripts/research/load_test.py --run RUN --base EXPORT --images DIR [--requests 10000]

Starts the stand-in for tensorflow_model_server on EXPORT, whose highest version was exported from
RUN, and compares every answer with that of RUN. Exit status 1 if anything is wrong.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import yaml
from bad_requests import FILE_FAULTS, REQUEST_FAULTS, bad_files, grpc_refusals, rest_refusal

from fcis_tf.instances import Instances
from fcis_tf.prediction.load import load
from fcis_tf.serving.client.client import Client, ImageError

ROOT = Path(__file__).parents[2]


def difference(answer: Instances, live: Instances) -> str:
    """How an answer differs from the live model's, or ""."""
    if answer.category_ids != live.category_ids:
        return "labels differ"
    if np.abs(answer.boxes - live.boxes).max(initial=0) > 1e-3:
        return f"boxes differ by {np.abs(answer.boxes - live.boxes).max()} px"
    both = (answer.masks & live.masks).sum((1, 2))
    either = (answer.masks | live.masks).sum((1, 2))
    worst = (both / np.maximum(either, 1))[either > 0].min(initial=1)
    return f"mask IoU {worst}" if worst < 0.999 else ""


def live_answers(run: Path, base: Path, files: list[Path]) -> list[Instances]:
    """Predictions of the run with the exported configuration."""
    version = max(int(p.name) for p in base.iterdir() if p.name.isdecimal())
    exported = yaml.safe_load((base / str(version) / "assets.extra/config.yaml").read_text())
    overrides = [
        f"{section}.{key}={json.dumps(exported[section][key])}"
        for section in ("data", "proposals", "predict")
        for key in exported[section]
    ]
    return load(run, overrides).predict_image(files)


def resident(pid: int) -> int:
    """Resident memory of a process in KiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 10


class Load:
    """The requests and their results."""

    def __init__(self, urls: tuple[str, str], files: list[bytes], live: list) -> None:
        self.files, self.live = files, live
        self.bad, self.urls = bad_files(files[0]), urls
        self.clients = [Client(url, deadline=300) for url in urls]
        self.grpc_refusal = grpc_refusals(urls[1])
        self.lock, self.seconds = threading.Lock(), []
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []

    def one(self, number: int) -> None:
        """Request `number`: every twentieth is bad, each kind in turn; REST and gRPC alternate."""
        over_grpc = number % 2
        client = self.clients[over_grpc]
        if number % 20 != 19:
            place = number % len(self.files)
            start = time.perf_counter()
            answer = client.detect_batch([self.files[place]])[0]
            took = time.perf_counter() - start
            good = isinstance(answer, Instances)
            fault = difference(answer, self.live[place]) if good else str(answer)
            self._count("good", fault, took)
            return
        kinds = (*FILE_FAULTS, *REQUEST_FAULTS)
        turn = number // 20
        kind = kinds[turn % len(kinds)]
        over_grpc = turn // len(kinds) % 2
        if kind in FILE_FAULTS:
            (answer,) = self.clients[over_grpc].detect_batch([self.bad[kind]])
            right = isinstance(answer, ImageError) and FILE_FAULTS[kind] in str(answer)
            self._count(kind, "" if right else f"answered {answer}")
            return
        if over_grpc:
            text = self.grpc_refusal(kind, self.files[0])
        else:
            text = rest_refusal(self.urls[0], kind, self.files[0])
        self._count(kind, "" if text else "no error")

    def _count(self, kind: str, fault: str, took: float | None = None) -> None:
        with self.lock:
            self.counts[kind] += 1
            if fault:
                self.wrong.append(f"{kind}: {fault}")
            if took is not None:
                self.seconds.append(took)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--base", type=Path, required=True, help="folder of version folders")
    parser.add_argument("--images", type=Path, required=True, help="folder of JPEGs")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--distinct", type=int, default=24, help="different images")
    options = parser.parse_args()
    paths = sorted(options.images.glob("*.jpg"))[: options.distinct]
    if not paths:
        sys.exit(f"{options.images}: no *.jpg")
    live = live_answers(options.run, options.base, paths)
    base = options.base.resolve()
    command = [sys.executable, "-m", "tests.serving.stand_in", "--base", str(base)]
    command += ["--batching", str(base / "batching_parameters.txt")]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        ready = json.loads(server.stdout.readline())
        urls = (f"http://localhost:{ready['rest']}", f"grpc://localhost:{ready['grpc']}")
        load = Load(urls, [path.read_bytes() for path in paths], live)
        memory: list[int] = []
        start = time.perf_counter()

        def run(number: int) -> None:
            load.one(number)
            if number % max(options.requests // 50, 1) == 0:
                memory.append(resident(server.pid))

        with ThreadPoolExecutor(options.clients) as pool:
            for done, _ in enumerate(pool.map(run, range(options.requests)), start=1):
                if done % 1000 == 0:
                    print(f"{done} requests, server {memory[-1] >> 10} MiB", flush=True)
        took = time.perf_counter() - start
    finally:
        server.terminate()
        server.wait()
    p50, p99 = np.percentile(np.array(load.seconds) * 1000, [50, 99])
    tenth = max(len(memory) // 10, 1)
    early, late = np.median(memory[tenth : 3 * tenth]), np.median(memory[-2 * tenth :])
    report = {
        "requests": dict(load.counts),
        "wrong": len(load.wrong),
        "seconds": round(took, 1),
        "requests_per_second": round(options.requests / took, 1),
        "p50_ms": round(float(p50), 1),
        "p99_ms": round(float(p99), 1),
        "memory_MiB": {"early": int(early) >> 10, "late": int(late) >> 10},
        "memory_growth": round(float(late / early - 1), 4),
        "warm_up_requests": ready["warm_up_requests"],
    }
    print(json.dumps(report, indent=1))
    for text in itertools.islice(load.wrong, 10):
        print(text, file=sys.stderr)
    return 1 if load.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
