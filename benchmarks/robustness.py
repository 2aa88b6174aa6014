"""Attack edgec, and print what was tried and what it survived.

    python benchmarks/robustness.py                           # a whole campaign: hours
    python benchmarks/robustness.py --hours 1                 # as far as an hour gets, a share for each class
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

from attacks.campaign import KINDS, Tally, tries
from attacks.material import make_material

PRELOADED = ("numpy", "onnx", "pydantic", "PIL.Image", "rich.console", "jinja2", "onnxruntime", "zstandard")


def main() -> int:
    """Exit status 0: everything survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", default=",".join(KINDS), help="by name, with commas; all by default")
    parser.add_argument("--hours", type=float, help="of the whole campaign, an equal share for each class")
    parser.add_argument("--tries", type=int, help="of each class; what docs/security.md asks for by default")
    parser.add_argument("--seed", type=int, default=0, help="of the first try; the others follow")
    parser.add_argument("--material", type=Path, help="folder that is kept for the next campaign")
    parser.add_argument("--json", action="store_true", help="print JSON, and nothing else")
    options = parser.parse_args()
    names = options.classes.split(",")
    if unknown := sorted(set(names) - KINDS.keys()):
        parser.error(f"no class {unknown[0]!r}; known: {', '.join(KINDS)}")
    for module in PRELOADED:  # every try is a fork of this process
        __import__(module)
    with tempfile.TemporaryDirectory() as folder:
        material = make_material(options.material or Path(folder) / "material")
        tallies = {name: _tally(name, options, material, len(names)) for name in names}
    if options.json:
        print(json.dumps({name: {"tried": one.tried, "failures": one.failures} for name, one in tallies.items()}))
    else:
        print(_table(tallies))
    return 1 if any(one.failures for one in tallies.values()) else 0


def _tally(name: str, options: argparse.Namespace, material: Path, num_classes: int) -> Tally:
    kind, tally = KINDS[name], Tally()
    share_s = 3600 * options.hours / num_classes if options.hours else float("inf")
    number = options.tries or (sys.maxsize if options.hours else kind.at_least)
    for seed, wrong in tries(kind, material, range(options.seed, options.seed + number), time.monotonic() + share_s):
        tally.tried += 1
        if wrong:
            tally.failures[seed] = wrong
            print(f"{name} --seed {seed}: {wrong}", file=sys.stderr, flush=True)
    return tally


def _table(tallies: dict[str, Tally]) -> str:
    """As docs/security.md has it."""
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    lines = [f"{date.today()}, {machine}", "", "| class | what | tried | survived |", "|---|---|---|---|"]
    for name, tally in tallies.items():
        lines.append(f"| `{name}` | {KINDS[name].words} | {tally.tried:,} | {tally.survived:,} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
