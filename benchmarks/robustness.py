"""Attack edgec, and print what was tried and what it survived.

    python benchmarks/robustness.py                           # a whole campaign: hours
    python benchmarks/robustness.py --hours 1                 # as far as an hour gets, a share for each class
    python benchmarks/robustness.py --log tries.jsonl         # goes on where it was stopped; what failed is tried again
    python benchmarks/robustness.py --classes onnx,toml --tries 50 --seed 7

A failure is repeated by its class and seed: ``--classes onnx --seed 4711 --tries 1``. Commit nothing while it runs:
bundles name edgec's commit, and those of killed builds are compared with whole ones. The engine is
``tests/robustness/attacks``; the tests run a small part of it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "robustness"))

from attacks.campaign import KINDS, Field, tries
from attacks.forked import Forks, preload, write_python
from attacks.material import make_material

Outcomes = dict[int, str]
"""Of one class: what went wrong, by seed; empty where edgec survived."""


def main() -> int:
    """Exit status 0: everything survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", default=",".join(KINDS), help="by name, with commas; all by default")
    parser.add_argument("--hours", type=float, help="of the whole campaign, an equal share for each class")
    parser.add_argument(
        "--tries", help="of each class, or of some: 'onnx=50,kill=2'; what the issue asks for by default"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the first try; the others follow")
    parser.add_argument(
        "--log", type=Path, help="file that gets a line for each try; what survived in it is not repeated"
    )
    parser.add_argument("--folder", type=Path, help="for material and tries; one for temporary files by default")
    parser.add_argument("--json", action="store_true", help="print JSON, and nothing else")
    options = parser.parse_args()
    names = options.classes.split(",")
    if unknown := sorted(set(names) - KINDS.keys()):
        parser.error(f"no class {unknown[0]!r}; known: {', '.join(KINDS)}")
    preload()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.folder or temporary).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        forks = Forks(write_python(folder))
        field = Field(folder, make_material(folder / "material", forks), forks)
        outcomes = {name: _outcomes(name, options, field, len(names)) for name in names}
    print(json.dumps(outcomes) if options.json else _table(outcomes))
    return 1 if any(any(one.values()) for one in outcomes.values()) else 0


def _outcomes(name: str, options: argparse.Namespace, field: Field, num_classes: int) -> Outcomes:
    until = time.monotonic() + (3600 * options.hours / num_classes if options.hours else float("inf"))
    number = _number(name, options)
    found = _logged(name, options.log)
    seeds = (seed for seed in range(options.seed, options.seed + number) if found.get(seed) != "")
    for seed, wrong in tries(KINDS[name], field, seeds):
        found[seed] = wrong
        if wrong:
            print(f"{name} --seed {seed}: {wrong}", file=sys.stderr, flush=True)
        if options.log:
            with options.log.open("a") as log:
                log.write(json.dumps({"class": name, "seed": seed, "wrong": wrong}) + "\n")
        if time.monotonic() > until:
            break
    return found


def _number(name: str, options: argparse.Namespace) -> int:
    if not options.tries:
        return sys.maxsize if options.hours else KINDS[name].at_least
    numbers = dict(part.partition("=")[::2] for part in options.tries.split(",")) if "=" in options.tries else {}
    return int(numbers.get(name, 0) if numbers else options.tries)


def _logged(name: str, log: Path | None) -> Outcomes:
    """The last outcome of each seed."""
    lines = log.read_text().splitlines() if log and log.exists() else []
    return {line["seed"]: line["wrong"] for line in map(json.loads, lines) if line["class"] == name}


def _table(outcomes: dict[str, Outcomes]) -> str:
    """As docs/security.md has it."""
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    lines = [f"{date.today()}, {machine}", "", "| class | what | tried | survived |", "|---|---|---|---|"]
    for name, one in outcomes.items():
        survived = sum(not wrong for wrong in one.values())
        lines.append(f"| `{name}` | {KINDS[name].words} | {len(one):,} | {survived:,} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
