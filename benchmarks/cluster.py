"""A matrix on a Dask cluster whose workers are killed at random, held against one process.

    python benchmarks/cluster.py [--models mobilenetv1 ...] [--targets cpu arm ...] [--workers 2] [--kill-s 30]
        [--rounds one all killed]

Every worker is a process with a store of its own, ``edgec worker``; results travel by a shared folder. Prints Markdown:
cells that ended, stages that were made, those that were made twice and why, whether every artifact has the bytes of one
process, and how long one worker, all workers, and one process without a cluster took. The networks are the bundled
ones at ``--px`` pixels, quantized and judged on ``--images`` pictures: what is tried is the cluster.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from edgec.calib_data.splits import parts_dir
from edgec.pipeline.bundle.read import open_bundle
from edgec.pipeline.core.stage import tree_sha256
from edgec.pipeline.matrix.cluster import num_workers_of

MODELS = ("mobilenetv1", "mobilenetv2", "mobilenetv3", "mobilenetv3-small", "xception")
TARGETS = ("cpu", "onnxruntime", "arm", "rpi4", "rpi5", "mcu", "stm32h7", "cortex-m7", "jetson", "gpu")
ROUNDS = ("one", "all", "killed")
"""One worker, all of them, and all of them with one killed now and then."""

EDGEC = (sys.executable, "-m", "edgec.pipeline.cli")
MADE = re.compile(r"made ([\w ]+) ([0-9a-f]{16}), ([\d.]+) s")


class Workers:
    """Scheduler and workers, each with a folder of its own below ``work``; as many live as were asked for."""

    def __init__(self, work: Path, count: int) -> None:
        self.work, self.count, self.killed = work, count, 0
        address = work / "scheduler.json"
        there = {**os.environ, "DASK_TEMPORARY_DIRECTORY": str(work)}
        command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
        command += ["--no-dashboard", "--scheduler-file", str(address)]
        self.scheduler = subprocess.Popen(command, env=there, stderr=subprocess.DEVNULL)
        while not (address.is_file() and address.stat().st_size):
            time.sleep(0.2)
        self.address = str(json.loads(address.read_text())["address"])
        self.living = [self._start(number) for number in range(count)]
        while num_workers_of(self.address) < count:
            time.sleep(0.5)

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "EDGEC_CACHE": str(self.work / f"store{number % self.count}")}
        with (self.work / f"worker{number}.log").open("wb") as log:
            command = [*EDGEC, "worker", self.address]
            return subprocess.Popen(command, env=environment, stderr=log, start_new_session=True)

    def kill_at_random(self, mean_s: float, stop: threading.Event, draws: random.Random) -> None:
        """With everything that a worker started; another comes in its place."""
        while not stop.wait(draws.expovariate(1 / mean_s)):
            victim = draws.randrange(self.count)
            os.killpg(self.living[victim].pid, signal.SIGKILL)
            self.living[victim].wait()
            self.killed += 1
            self.living[victim] = self._start(self.count * self.killed + victim)

    def made(self) -> Counter[str]:
        """Stages by name and key, with how often each was made to the end."""
        logs = (path.read_text(errors="replace") for path in self.work.glob("worker*.log"))
        return Counter(f"{found[1]} {found[2]}" for log in logs for found in MADE.finditer(log))

    def end(self) -> None:
        for process in self.living:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.scheduler.kill()
        self.scheduler.wait()


def matrix(file: Path, output: Path, store: Path, *options: str) -> tuple[float, list[dict[str, Any]]]:
    """Seconds of one run, and its cells."""
    environment, started = {**os.environ, "EDGEC_CACHE": str(store)}, time.monotonic()
    command = [*EDGEC, "matrix", str(file), "--output", str(output), "--json", "--quiet", *options]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=False)
    cells: list[dict[str, Any]] = json.loads(done.stdout)["cells"]
    return time.monotonic() - started, cells


def on_workers(file: Path, work: Path, count: int, kill_s: float | None) -> tuple[float, list[dict[str, Any]], Workers]:
    """The matrix on ``count`` workers; one of them is killed about every ``kill_s`` seconds."""
    work.mkdir()
    os.environ["EDGEC_SHARED_CACHE"] = str(work / "shared")
    workers, stop = Workers(work, count), threading.Event()
    killer = threading.Thread(target=workers.kill_at_random, args=(kill_s or 1e9, stop, random.Random(0)), daemon=True)
    try:
        killer.start()
        seconds, cells = matrix(file, work / "out", work / "asking", "--scheduler", workers.address)
    finally:
        stop.set()
        killer.join(timeout=60)
        workers.end()
        del os.environ["EDGEC_SHARED_CACHE"]
    return seconds, cells, workers


def artifacts(output: Path) -> dict[str, str]:
    """sha256 of each cell's artifact."""
    return {path.parent.name: tree_sha256(open_bundle(path.parent).artifact) for path in output.glob("*/manifest.json")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--targets", nargs="+", default=TARGETS)
    parser.add_argument("--px", type=int, default=64)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kill-s", type=float, default=30.0, help="mean time between two kills")
    parser.add_argument("--rounds", nargs="+", default=ROUNDS, choices=ROUNDS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "images").mkdir()
        for path in sorted(parts_dir("test").glob("*/*.jpg"))[:: 1000 // options.images]:
            shutil.copy(path, work / "images")
        file = work / "all.toml"
        file.write_text(
            f"models = {json.dumps(list(options.models))}\ntargets = {json.dumps(list(options.targets))}\n"
            f"[options]\ncalibration_data = {json.dumps(str(work / 'images'))}\n"
            f"test_data = {json.dumps(str(work / 'images'))}\ninput_px = {options.px}\nmeasure = false\n"
        )
        alone_s, cells = matrix(file, work / "alone", work / "store")
        expected = artifacts(work / "alone")
        print(f"one process: {len(cells)} cells, {sum(not c['error'] for c in cells)} built, {alone_s:.0f} s\n")
        print("| workers | killed | cells built | stages made | made again | artifacts with the same bytes | s |")
        print("|---|---|---|---|---|---|---|", flush=True)
        for name in options.rounds:
            count, kill_s = 1 if name == "one" else options.workers, options.kill_s if name == "killed" else None
            seconds, cells, workers = on_workers(file, work / name, count, kill_s)
            made, found = workers.made(), artifacts(work / name / "out")
            again = sum(times - 1 for times in made.values())
            same = sum(found.get(cell) == sha256 for cell, sha256 in expected.items())
            built = sum(not cell["error"] for cell in cells)
            values = (count, workers.killed, f"{built} of {len(cells)}", len(made), again, f"{same} of {len(expected)}")
            print(f"| {' | '.join(map(str, values))} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
