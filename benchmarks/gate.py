"""The gate's proof: false alarms, caught slowdowns, coverage, and a naive gate beside it. Prints Markdown.

    python benchmarks/gate.py simulate                     noise known by construction; minutes, any machine
    python benchmarks/gate.py record POOL BUNDLE...        live processes under three loads, kept in the folder POOL
    python benchmarks/gate.py pack POOL POOL.npz           the same as one small file
    python benchmarks/gate.py replay POOL.npz              decisions on the recorded processes; measures nothing
    python benchmarks/gate.py live BUNDLE                  whole decisions, measured one after the other
    python benchmarks/gate.py blocks BUNDLE                how long a block should be on this machine

The limit is ``max_slowdown = 0.01``: a gate that is asked to catch 2 % has to be told to allow less. Artifacts that are
the same are also held against 0.05. Recorded processes time one artifact three times, as the gate does; in a replay
the candidate's times are multiplied, ``live`` has a candidate that waits on purpose. Coverage is of the ratio that the
whole pool has: two instances of one artifact need not be the same on average.

Three rules of others stand beside the gate (``gate_rules.py``). What the constant work before each block would take
out of the noise stands in a table of its own (``gate_control.py``); the processes of 2026-11-28 in ``gate_pool.npz``
have none, and three contestants more that waited on purpose.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice, product
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from gate_control import show_control
from gate_noise import NOISES, Noise, simulate
from gate_rules import BEFORE_AND_AFTER, RULES, other_rules

from edgec.pipeline.bundle.read import open_bundle
from edgec.pipeline.forms.measure import warm_up
from edgec.pipeline.gate.finding import Finding
from edgec.pipeline.gate.fingerprint import Fingerprint, read_fingerprint
from edgec.pipeline.gate.latency import MOST_PROCESSES, Limits, judge
from edgec.pipeline.gate.sampling import Contestants, Process, Sampler, on_this_machine
from edgec.pipeline.gate.worker import BLOCK_MS, Request, load_contestants, pin, time_turns

WORKER = Path(__file__).with_name("gate_worker.py")
BUDGET_S, BLOCKS_S = 120.0, 8.0
LIMIT, LOOSE_LIMIT = 0.01, 0.05
INJECTED = (0.0, 0.02, 0.03, 0.05)
LOADS = ("quiet", "other core loaded", "bursts of load")
NUM_CONTESTANTS = 3
COLUMNS = (
    "runs | fails % | passes % | open % | coverage % | naive fails % | criterion fails % | change point % | processes"
)
NUM_COLUMNS = COLUMNS.count("|") + 1


@dataclass
class Tally:
    """Decisions of one setting."""

    verdicts: Counter[str] = field(default_factory=Counter)
    covered: int = 0
    others: Counter[str] = field(default_factory=Counter)
    num_processes: int = 0

    def add(self, finding: Finding, truth: float, others: Mapping[str, bool]) -> None:
        self.verdicts[finding.verdict.value] += 1
        self.covered += finding.low is not None and finding.low <= truth <= (finding.high or 0.0)
        self.others.update(name for name, fails in others.items() if fails)
        self.num_processes += finding.num_processes

    @property
    def shares(self) -> list[float]:
        """In percent: fails, passes, inconclusive, covered, and what each other rule fails."""
        counts = [self.verdicts[name] for name in ("fail", "pass", "inconclusive")] + [self.covered]
        return [100 * count / self.verdicts.total() for count in (*counts, *(self.others[name] for name in RULES))]

    def row(self) -> str:
        runs = self.verdicts.total()
        shares = " | ".join(f"{share:.1f}" for share in self.shares)
        return f"{runs} | {shares} | {self.num_processes / runs:.1f}"


def print_summary(found: Mapping[tuple[float, float], Sequence[Tally]]) -> None:
    """One row for each setting, over all cells."""
    print(f"\n| injected | limit | {COLUMNS} |\n|{'---|' * (NUM_COLUMNS + 2)}")
    for (injected, limit), tallies in found.items():
        print(f"| {100 * injected:g} % | {100 * limit:g} % | {summary(tallies)} |")


def summary(tallies: Sequence[Tally]) -> str:
    """The mean over cells, and the least and the most of any."""
    columns = zip(*(tally.shares for tally in tallies), strict=True)
    shares = " | ".join(f"{np.mean(column):.1f} ({min(column):.0f} to {max(column):.0f})" for column in columns)
    runs = sum(tally.verdicts.total() for tally in tallies)
    return f"{runs:,} | {shares} | {sum(tally.num_processes for tally in tallies) / runs:.1f}"


def simulated(noise: Noise, injected: float, limit: float, runs: int, seed: int) -> Tally:
    """Whole decisions on simulated processes; the other rules see processes of their own."""
    tally = Tally()
    for run in range(runs):
        stream = np.random.default_rng((seed, run))

        def source(count: int, stream: np.random.Generator = stream) -> list[Process]:
            return [simulate(noise, (injected, 0.0, 0.0), stream) for _ in range(count)]

        finding = judge(Limits((("max_slowdown", limit),)), source).findings[0]
        tally.add(finding, injected, other_rules(source(2 * BEFORE_AND_AFTER), 0, 1))
    return tally


def settings() -> Iterator[tuple[float, float]]:
    """(injected slowdown, limit)."""
    yield from ((injected, LIMIT) for injected in INJECTED)
    yield 0.0, LOOSE_LIMIT


def head(first: str) -> str:
    """Of each table."""
    return f"| {first} | injected | limit | {COLUMNS} |\n|{'---|' * (NUM_COLUMNS + 3)}"


def run_simulations(runs: int) -> None:
    print(head("noise"))
    found: dict[tuple[float, float], list[Tally]] = {setting: [] for setting in settings()}
    for name, noise in NOISES.items():
        for (injected, limit), tallies in found.items():
            tallies.append(simulated(noise, injected, limit, runs, seed=1))
            print(f"| {name} | {100 * injected:g} % | {100 * limit:g} % | {tallies[-1].row()} |", flush=True)
    print_summary(found)


def record(pool: Path, bundles: Sequence[Path], per_cell: int) -> None:
    """Processes with all contestants of each bundle under each load, one JSON file each; those there already are kept.

    Bundles and loads take turns, so that an hour in which the machine is busier meets all of them.
    """
    pool.mkdir(parents=True, exist_ok=True)
    for index, bundle, load in product(range(per_cell), bundles, LOADS):
        path = pool / f"{bundle.name}-{load.replace(' ', '-')}-{index:03}.json"
        if path.exists():
            continue
        thrice = (str(bundle),) * NUM_CONTESTANTS
        request = Request(thrice, (1.0,) * NUM_CONTESTANTS, 1, Contestants((bundle,)).turn_s, index % 2 == 1)
        with tempfile.TemporaryDirectory() as folder, under(load):
            asked = Path(folder, "request.json")
            asked.write_text(json.dumps(asdict(request)))
            done = subprocess.run(
                [sys.executable, str(WORKER), str(asked)], capture_output=True, text=True, check=False
            )
        if done.returncode:
            print(f"{path.name}: {done.stderr.strip()[-200:]}", file=sys.stderr)
            continue
        kept = {"model": open_bundle(bundle).manifest.model.name, "load": load}
        path.write_text(json.dumps({**kept, **json.loads(done.stdout.splitlines()[-1])}))


def pack(pool: Path, packed: Path) -> None:
    """All processes of a folder in one compressed file.

    Float32 times of each process, ``(contestants, blocks, 1 + calls)``: the constant work before a block, its calls.
    """
    kept = [json.loads(path.read_text()) for path in sorted(pool.glob("*.json"))]
    index = [{"kernel": True, **{name: one[name] for name in ("model", "load", "fingerprint")}} for one in kept]
    times = {}
    for i, one in enumerate(kept):
        times[str(i)] = np.concatenate([np.array(one["kernel"])[..., None], np.array(one["blocks"])], 2).astype(
            np.float32
        )
    np.savez_compressed(packed, index=np.array(json.dumps(index)), **times)
    print(f"{len(kept)} processes, {packed.stat().st_size / 1e6:.1f} MB")


Pool = dict[tuple[str, str], list[tuple[Process, np.ndarray | None]]]
"""Recorded processes by (model, load), each with the constant work before its blocks, ``(contestants, blocks)`` ms."""


def read_pool(packed: Path) -> Pool:
    found: Pool = {}
    with np.load(packed) as kept:
        for i, one in enumerate(json.loads(str(kept["index"]))):
            times = kept[str(i)].astype(np.float64)[:NUM_CONTESTANTS]
            blocks, kernel = (times[..., 1:], times[..., 0]) if one.get("kernel") else (times, None)
            process = Process(tuple(blocks), Fingerprint.of(one["fingerprint"]), spikes=(0,) * NUM_CONTESTANTS)
            found.setdefault((one["model"], one["load"]), []).append((process, kernel))
    return found


def replayed(processes: Sequence[Process], injected: float, limit: float, runs: int) -> Tally:
    """Decisions on processes drawn, with replacement, of the recorded ones; the three equal contestants swap roles."""
    tally = Tally()
    for run in range(runs):
        stream = np.random.default_rng(run)
        order = stream.integers(0, len(processes), MOST_PROCESSES)
        roles = [int(role) for role in stream.permutation(NUM_CONTESTANTS)]
        truth = np.mean([np.median(process.turn_log_ratios(*roles[:2])) for process in processes])
        drawn = [_cast(processes[i], roles, injected) for i in order]
        finding = judge(Limits((("max_slowdown", limit),)), _drawing(iter(drawn))).findings[0]
        tally.add(finding, (1 + injected) * np.exp(truth) - 1, other_rules(drawn, 0, 1))
    return tally


def _drawing(drawn: Iterator[Process]) -> Callable[[int], list[Process]]:
    def source(count: int) -> list[Process]:
        return list(islice(drawn, count))

    return source


def _cast(process: Process, roles: Sequence[int], injected: float) -> Process:
    """The process with other contestants as candidate, baseline, and baseline again, and a candidate that is slower."""
    candidate, *others = (process.blocks[role] for role in roles)
    return Process(((1 + injected) * candidate, *others), process.fingerprint, spikes=(0,) * NUM_CONTESTANTS)


def run_replay(packed: Path, runs: int) -> None:
    """One row for each model, load and setting, and what the noise is made of."""
    pool = read_pool(packed)
    print(head("model | load").replace("|---|", "|---|---|", 1))
    found: dict[tuple[float, float], list[Tally]] = {setting: [] for setting in settings()}
    for (model, load), recorded in pool.items():
        processes = [process for process, _ in recorded]
        for (injected, limit), tallies in found.items():
            tallies.append(replayed(processes, injected, limit, runs))
            row = tallies[-1].row()
            print(f"| {model} | {load} | {100 * injected:g} % | {100 * limit:g} % | {row} |", flush=True)
    print_summary(found)
    heads = ("model", "load", "processes", "turns of each", "between processes %", "one turn %", "p50 ms")
    print(f"\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for (model, load), recorded in pool.items():
        processes = [process for process, _ in recorded]
        ratios = [p.turn_log_ratios(0, 1) for p in processes]
        between = 100 * np.std([np.median(own) for own in ratios], ddof=1)
        turn = 100 * np.median([np.subtract(*np.quantile(own, (0.75, 0.25))) / 1.349 for own in ratios])
        p50 = np.median([np.median(p.blocks[0]) for p in processes])
        turns = np.median([len(own) for own in ratios])
        print(f"| {model} | {load} | {len(processes)} | {turns:.0f} | {between:.2f} | {turn:.1f} | {p50:.2f} |")
    show_control(pool)
    every = [process for recorded in pool.values() for process, _ in recorded]
    print(f"\n{len(every)} processes; {every[0].fingerprint}")


def run_live(bundle: Path, runs: int) -> None:
    """Decisions as ``edgec check`` makes them, with the seconds that each took."""
    print("| load | injected | fail | pass | inconclusive | processes | longest s |\n|---|---|---|---|---|---|---|")
    for load, injected in product(LOADS, INJECTED):
        verdicts, count, longest = Counter[str](), 0, 0.0
        for _ in range(runs):
            started = time.perf_counter()
            with under(load):
                sampler = Sampler(on_this_machine(Contestants((bundle,) * 3), (1 + injected, 1.0, 1.0)), BUDGET_S)
                finding = judge(Limits((("max_slowdown", LIMIT),)), sampler).findings[0]
            longest = max(longest, time.perf_counter() - started)
            verdicts[finding.verdict.value] += 1
            count += finding.num_processes
        shares = " | ".join(f"{100 * verdicts[name] / runs:.0f} %" for name in ("fail", "pass", "inconclusive"))
        print(f"| {load} | {100 * injected:g} % | {shares} | {count / runs:.1f} | {longest:.0f} |", flush=True)


def run_blocks(bundle: Path, runs: int) -> None:
    """The same artifact three times in one process, by turns of longer and longer blocks, ``BLOCKS_S`` for each."""
    pin(1)
    loaded = load_contestants(Request((str(bundle),) * 3, (1.0,) * 3, 1, BLOCKS_S))
    heads = ("calls in a block", "block ms", "turns", "one turn %", "standard error of their median %")
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for _, calls in product(range(runs), (1, 2, 8)):
        last_ms = [warm_up(invoke, 1.0).last_ms for invoke in loaded]
        blocks = time_turns(loaded, [BLOCK_MS / calls] * 3, BLOCKS_S)
        found = Process(tuple(np.array(own) for own in blocks), read_fingerprint(1))
        ratios, stream = found.turn_log_ratios(0, 1), np.random.default_rng(0)
        medians = np.median(ratios[stream.integers(0, len(ratios), (1000, len(ratios)))], axis=1)
        spread = f"{100 * ratios.std():.1f} | {100 * medians.std():.2f}"
        print(f"| {calls} | {calls * np.mean(last_ms):.1f} | {len(ratios)} | {spread} |", flush=True)


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
    usual = {"simulate": 300, "record": 20, "pack": 0, "replay": 300, "live": 1, "blocks": 3}
    places = {"record": ("pool",), "pack": ("pool", "packed"), "replay": ("packed",)}
    places |= dict.fromkeys(("live", "blocks"), ("bundle",))
    for part, runs in usual.items():
        sub = parts.add_parser(part)
        for place in places.get(part, ()):
            sub.add_argument(place, type=Path)
        if part == "record":
            sub.add_argument("bundles", type=Path, nargs="+")
        sub.add_argument("--runs", type=int, default=runs)
    given = parser.parse_args()
    if given.part == "simulate":
        run_simulations(given.runs)
    elif given.part == "record":
        record(given.pool, given.bundles, given.runs)
    elif given.part == "pack":
        pack(given.pool, given.packed)
    elif given.part == "replay":
        run_replay(given.packed, given.runs)
    elif given.part == "blocks":
        run_blocks(given.bundle, given.runs)
    else:
        run_live(given.bundle, given.runs)


if __name__ == "__main__":
    main()
