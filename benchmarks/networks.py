"""Public networks by both torch exporters for four targets: built, refused by name, or a fault; and how near to float.

    pip install torchvision timm onnxscript      # beside edgec and its runtimes
    python benchmarks/networks.py                # everything: hours, a cell in some seconds
    python benchmarks/networks.py --only resnet18,googlenet --targets cpu,arm --exporters dynamo

Figures are kept in ``--json`` after every cell: a run that was stopped goes on, and ``--again`` makes the chosen cells
anew. ``docs/networks.md`` is written from them; ``--rivals`` adds what NNCF and ONNX Runtime's own quantizer make of
the same files with the same pictures.

Weights are seeded and calibrated, not trained (``network_parts/definitions.py``). The signal to noise of an artifact is
counted in its runtime without edgec's own code (``network_parts/answers.py``) on pictures that nothing was calibrated
with. For Jetson it is that of the QDQ file that engines are built of.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent / "network_parts"))

from definitions import EXPORTERS, NETWORKS
from table import TARGETS, write_table

ROOT = Path(__file__).resolve().parents[1]
PARTS = ROOT / "benchmarks" / "network_parts"
TIME_LIMIT_S = 3600

Figures = dict[str, Any]


def main() -> int:
    """Exit status 1 where a cell ended in a traceback or was refused after quantization."""
    options = _arguments()
    figures: Figures = json.loads(options.json.read_text()) if options.json.is_file() else {}
    for name in options.only:
        for exporter in options.exporters:
            done = {} if options.again else figures
            for key, cell in chain(_cells(name, exporter, options, done), _rivals(name, exporter, options, done)):
                figures[key] = cell
                options.json.write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n")
                print(f"{time.strftime('%H:%M:%S')} {key}: {_words(cell)}", flush=True)
    write_table(figures, options.doc)
    chosen = [figures[key] for key in figures if key.split()[0] in options.only]
    return int(any(cell.get("outcome") in ("traceback", "crash") or cell.get("late") for cell in chosen))


def _cells(name: str, exporter: str, options: argparse.Namespace, done: Figures) -> Iterator[tuple[str, Figures]]:
    """(key, cell) of every target that is still to be done; a process that dies loses one cell."""
    left = [target for target in options.targets if f"{name} {exporter} {target}" not in done]
    source, pictures = _source(name, exporter, options), _pictures(options)
    if left and not source.is_file() and (failed := _exported(name, exporter, options, source)):
        yield from ((f"{name} {exporter} {target}", failed) for target in left)
        return
    while left:
        facts = json.loads(source.with_suffix(".json").read_text())
        for cell in _lines("cell.py", source, *pictures, options.work / "bundles", *left):
            if left:
                yield f"{name} {exporter} {left.pop(0)}", cell | facts


def _rivals(name: str, exporter: str, options: argparse.Namespace, done: Figures) -> Iterator[tuple[str, Figures]]:
    """(key, cell) of the other quantizers on the same file, where there is one."""
    source = _source(name, exporter, options)
    if not options.rivals or not source.is_file() or f"{name} {exporter} nncf" in done:
        return
    with tempfile.TemporaryDirectory() as folder:
        for cell in _lines("rivals.py", source, *_pictures(options), folder, options.rivals):
            yield f"{name} {exporter} {cell.get('tool', 'nncf')}", cell


def _source(name: str, exporter: str, options: argparse.Namespace) -> Path:
    return Path(options.work / f"{name}-{exporter}-{_side(name, options)}.onnx")


def _side(name: str, options: argparse.Namespace) -> int:
    return max(int(options.px), NETWORKS[name].least_px)


def _exported(name: str, exporter: str, options: argparse.Namespace, source: Path) -> Figures | None:
    """Why there is no file; None where it was written."""
    last = list(_lines("definitions.py", name, exporter, _side(name, options), _pictures(options)[0], source))
    return None if source.is_file() else last[-1] | {"outcome": "not exported"}


def _lines(script: str, *arguments: object) -> Iterator[Figures]:
    """What a process tells in JSON, line by line; last, what ended it where it did not end by itself."""
    started, command = time.perf_counter(), [sys.executable, str(PARTS / script), *map(str, arguments)]
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        timer = threading.Timer(TIME_LIMIT_S, process.kill)
        timer.start()
        for line in process.stdout or ():
            if line.startswith("{"):
                yield json.loads(line)
        status = process.wait()
        timer.cancel()
        errors.seek(0)
        last = (errors.read().strip().splitlines() or [f"exit status {status}"])[-1]
    if status:
        outcome = "traceback" if status == 1 else "crash"
        yield {"outcome": outcome, "words": last[:300], "seconds": time.perf_counter() - started}


def _pictures(options: argparse.Namespace) -> tuple[Path, Path]:
    """Folders of ``--images`` pictures to calibrate with, and as many to test with: no picture in both."""
    if options.data:
        paths = sorted(path for path in options.data.rglob("*.jpg"))[: 2 * options.images]
        chosen = {"calibration": paths[::2], "test": paths[1::2]}
    else:
        parts = ROOT / "calib_data" / "parts"
        every = {part: sorted((parts / part).rglob("*.jpg")) for part in ("calibration", "test")}
        chosen = {part: paths[:: max(1, len(paths) // options.images)] for part, paths in every.items()}
    for part, paths in chosen.items():
        folder = options.work / f"{part}-{options.images}"
        if not folder.is_dir():
            folder.mkdir(parents=True)
            for number, path in enumerate(paths[: options.images]):
                shutil.copyfile(path, folder / f"{number:04d}.jpg")
    return options.work / f"calibration-{options.images}", options.work / f"test-{options.images}"


def _words(cell: Figures) -> str:
    if "outcome" not in cell:
        return f"{cell['db']:.1f} dB" if "db" in cell else str(cell["words"])
    if cell["outcome"] != "built":
        return f"{cell['outcome']} {cell.get('code') or ''} {'late ' if cell.get('late') else ''}{cell['words'][:200]}"
    return f"{cell['db']:.1f} dB (said {cell['said_db'] or float('inf'):.1f}), {cell['seconds']:.0f} s"


def _arguments() -> argparse.Namespace:
    from platformdirs import user_cache_path

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, known in (("only", tuple(NETWORKS)), ("targets", TARGETS), ("exporters", EXPORTERS)):
        parser.add_argument(f"--{name}", default=",".join(known), help="by name, with commas; all by default")
    parser.add_argument("--px", type=int, default=96, help="side of the input; more where a network needs it")
    parser.add_argument("--images", type=int, default=16, help="that calibrate, and as many that test")
    parser.add_argument("--data", type=Path, help="folder of photographs instead of the bundled pictures")
    parser.add_argument(
        "--rivals", metavar="PYTHON", help="also NNCF, in the environment of this interpreter, and ONNX Runtime"
    )
    parser.add_argument("--again", action="store_true", help="make cells that are there anew")
    parser.add_argument("--work", type=Path, default=user_cache_path("edgec") / "benchmarks" / "networks")
    parser.add_argument("--json", type=Path, help="figures of this and earlier runs; in --work by default")
    parser.add_argument("--doc", type=Path, default=ROOT / "docs" / "networks.md")
    options = parser.parse_args()
    for name, known in (("only", NETWORKS), ("targets", TARGETS), ("exporters", EXPORTERS)):
        setattr(options, name, getattr(options, name).split(","))
        if unknown := [one for one in getattr(options, name) if one not in known]:
            parser.error(f"--{name}: no '{unknown[0]}'; known: {', '.join(known)}")
    options.work.mkdir(parents=True, exist_ok=True)
    options.json = options.json or options.work / "networks.json"
    return options


if __name__ == "__main__":
    sys.exit(main())
