"""The gate's proof: false alarms, caught slowdowns, coverage, and a naive gate beside it. Prints Markdown.

    python benchmarks/gate.py simulate                     noise known by construction; minutes, any machine
    python benchmarks/gate.py record BUNDLE POOL           live processes under three loads, kept in the folder POOL
    python benchmarks/gate.py replay POOL                  decisions on the recorded processes
    python benchmarks/gate.py live BUNDLE                  whole decisions, measured one after the other

The limit is ``max_slowdown = 0.01`` throughout: a gate that is asked to catch 3 % has to be told to allow less. The
naive gate compares the means of 100 runs of each artifact and fails above 5 %, as benchmark actions do by default.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from gate_noise import NOISES, Noise, simulate

from edgec.pipeline.gate.finding import Finding
from edgec.pipeline.gate.fingerprint import Fingerprint
from edgec.pipeline.gate.latency import Limits, judge
from edgec.pipeline.gate.sampling import Contestants, MeasurementFailed, Process, Sampler, on_this_machine, run_process
from edgec.pipeline.gate.worker import Request

LIMIT = 0.01
NAIVE_RUNS, NAIVE_BAND = 100, 0.05
INJECTED = (0.0, 0.03, 0.05)
LOADS = ("quiet", "other core loaded", "bursts of load")
CONTESTANTS = (1.0, 1.0, 1.0, 1.03, 1.05)  # three times the same, and two that are slower on purpose
COLUMNS = "runs | fail | pass | inconclusive | coverage % | naive fails % | processes"


@dataclass
class Tally:
    """Decisions of one setting."""

    verdicts: Counter[str]
    covered: int = 0
    naive_fails: int = 0
    num_processes: int = 0

    def add(self, finding: Finding, injected: float, naive: bool) -> None:
        self.verdicts[finding.verdict.value] += 1
        self.covered += finding.low is not None and finding.low <= injected <= (finding.high or 0.0)
        self.naive_fails += naive
        self.num_processes += finding.num_processes

    def row(self) -> str:
        runs = self.verdicts.total()
        shares = " | ".join(f"{100 * self.verdicts[name] / runs:.1f} %" for name in ("fail", "pass", "inconclusive"))
        cover, naive = 100 * self.covered / runs, 100 * self.naive_fails / runs
        return f"{runs} | {shares} | {cover:.1f} | {naive:.1f} | {self.num_processes / runs:.1f}"


def naive_fails(candidate: np.ndarray, baseline: np.ndarray) -> bool:
    """The mean of 100 runs against the mean of 100 runs."""
    ours, theirs = (samples.reshape(-1)[:NAIVE_RUNS].mean() for samples in (candidate, baseline))
    return bool(ours > theirs * (1 + NAIVE_BAND))


def simulated(noise: Noise, injected: float, runs: int, seed: int) -> Tally:
    """Whole decisions on simulated processes; the naive gate sees two processes of its own."""
    tally = Tally(Counter())
    for run in range(runs):
        stream = np.random.default_rng((seed, run))

        def source(count: int, stream: np.random.Generator = stream) -> list[Process]:
            return [simulate(noise, (injected, 0.0, 0.0), stream) for _ in range(count)]

        finding = judge(Limits((("max_slowdown", LIMIT),)), source).findings[0]
        ours, theirs = simulate(noise, (injected,), stream), simulate(noise, (0.0,), stream)
        tally.add(finding, injected, naive_fails(ours.blocks[0], theirs.blocks[0]))
    return tally


def run_simulations(runs: int) -> None:
    print(f"| noise | injected | {COLUMNS} |\n|{'---|' * 9}")
    for name, noise in NOISES.items():
        for injected in INJECTED:
            print(f"| {name} | {100 * injected:g} % | {simulated(noise, injected, runs, seed=1).row()} |", flush=True)


def record(bundle: Path, pool: Path, per_load: int) -> None:
    """Processes with five contestants under each load, one JSON file each; those there already are kept."""
    pool.mkdir(parents=True, exist_ok=True)
    for load in LOADS:
        for index in range(per_load):
            path = pool / f"{load.replace(' ', '-')}-{index:02}.json"
            if path.exists():
                continue
            request = Request((str(bundle),) * len(CONTESTANTS), CONTESTANTS, 1, turn_s=3.5, reverse=index % 2 == 1)
            try:
                with under(load):
                    process = run_process(request)
            except MeasurementFailed as failure:
                print(f"{path.name}: {failure}", file=sys.stderr)
                continue
            blocks = [np.round(own, 6).tolist() for own in process.blocks]
            path.write_text(json.dumps({"load": load, "blocks": blocks, "fingerprint": asdict(process.fingerprint)}))


def read_pool(pool: Path) -> dict[str, list[Process]]:
    """Recorded processes by load."""
    found: dict[str, list[Process]] = {load: [] for load in LOADS}
    for path in sorted(pool.glob("*.json")):
        kept = json.loads(path.read_text())
        blocks = tuple(np.array(own) for own in kept["blocks"])
        found[kept["load"]].append(Process(blocks, Fingerprint.of(kept["fingerprint"]), spikes=(0,) * len(blocks)))
    return found


def replayed(processes: Sequence[Process], injected: float, runs: int) -> Tally:
    """Decisions on random orders of recorded processes; the three equal contestants swap their roles."""
    tally, slow = Tally(Counter()), {0.03: 3, 0.05: 4}
    for run in range(runs):
        stream = np.random.default_rng(run)
        order, roles = stream.permutation(len(processes)), stream.permutation(3)
        candidate = slow.get(injected, int(roles[2]))
        drawn = iter([_cast(processes[i], (candidate, int(roles[0]), int(roles[1]))) for i in order])
        finding = judge(Limits((("max_slowdown", LIMIT),)), _drawing(drawn)).findings[0]
        naive = naive_fails(processes[order[0]].blocks[candidate], processes[order[-1]].blocks[int(roles[0])])
        tally.add(finding, injected, naive)
    return tally


def _drawing(drawn: Iterator[Process]) -> Callable[[int], list[Process]]:
    def source(count: int) -> list[Process]:
        return [process for process, _ in zip(drawn, range(count), strict=False)]

    return source


def _cast(process: Process, roles: tuple[int, int, int]) -> Process:
    """The process with other contestants as candidate, baseline, and baseline again."""
    return Process(tuple(process.blocks[role] for role in roles), process.fingerprint, spikes=(0,) * 3)


def run_replay(pool: Path, runs: int) -> None:
    print(f"| load | injected | {COLUMNS} |\n|{'---|' * 9}")
    for load, processes in read_pool(pool).items():
        for injected in INJECTED if processes else ():
            print(f"| {load} | {100 * injected:g} % | {replayed(processes, injected, runs).row()} |", flush=True)
    every = [process for processes in read_pool(pool).values() for process in processes]
    print(f"\n{len(every)} processes; {every[0].fingerprint}" if every else "the pool is empty")


def run_live(bundle: Path, runs: int) -> None:
    """Decisions as ``edgec check`` makes them, with the seconds that each took."""
    print(f"| load | injected | {COLUMNS} | longest s |\n|{'---|' * 10}")
    for load in LOADS:
        for injected in INJECTED:
            tally, longest = Tally(Counter()), 0.0
            for _ in range(runs):
                started = time.perf_counter()
                with under(load):
                    sampler = Sampler(on_this_machine(Contestants((bundle,) * 3), (1 + injected, 1.0, 1.0)))
                    outcome = judge(Limits((("max_slowdown", LIMIT),)), sampler)
                longest = max(longest, time.perf_counter() - started)
                p = outcome.processes
                naive = len(p) > 1 and naive_fails(p[0].blocks[0], p[1].blocks[1])
                tally.add(outcome.findings[0], injected, naive)
            print(f"| {load} | {100 * injected:g} % | {tally.row()} | {longest:.0f} |", flush=True)


@contextmanager
def under(load: str) -> Iterator[None]:
    """Keep the machine busy in a process of its own while the block runs."""
    if load == "quiet":
        yield
        return
    busy = multiprocessing.Process(target=_work, args=(load,), daemon=True)
    busy.start()
    try:
        yield
    finally:
        busy.terminate()
        busy.join()


def _work(load: str) -> None:
    """Matrix products on the first core all the time, or on any core in bursts of 50 to 500 ms."""
    allowed = sorted(os.sched_getaffinity(0))
    if load == "other core loaded":
        os.sched_setaffinity(0, allowed[:1])
    stream, matrix = np.random.default_rng(), np.ones((256, 256))
    while True:
        until = time.perf_counter() + stream.uniform(0.05, 0.5)
        while time.perf_counter() < until:
            matrix @ matrix
        if load == "bursts of load":
            time.sleep(stream.uniform(0.2, 2.0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    for part, places in {
        "simulate": (),
        "record": ("bundle", "pool"),
        "replay": ("pool",),
        "live": ("bundle",),
    }.items():
        sub = parts.add_parser(part)
        for place in places:
            sub.add_argument(place, type=Path)
        sub.add_argument("--runs", type=int, default={"simulate": 300, "record": 20, "replay": 300, "live": 1}[part])
    given = parser.parse_args()
    if given.part == "simulate":
        run_simulations(given.runs)
    elif given.part == "record":
        record(given.bundle, given.pool, given.runs)
    elif given.part == "replay":
        run_replay(given.pool, given.runs)
    else:
        run_live(given.bundle, given.runs)


if __name__ == "__main__":
    main()
