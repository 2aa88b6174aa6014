"""edgec's INT8 .tflite against other routes and its own float file: latency, Arm instructions, conversion.

    python benchmarks/tflite.py [--steps convert count time] [--models mobilenetv2 ...] [--input-px PX]
        [--routes tensorflow ...] [--cache FOLDER] [--json FILE]
    python benchmarks/tflite.py --models deeplabv3plus-mobilenetv2 --input-px 256 --routes litert_torch onnx2tf

Each step keeps what it found under ``--cache``, so that the last one can be repeated alone:

convert  Export, quantize and lower; convert by every other route in a virtual environment of its own, made once
         (several GB in all). A route that fails says why, and the others go on.
count    Guest instructions of one INT8 inference on an emulated Cortex-A76 and A53 (``edgec device setup qemu``). They
         repeat to the instruction.
time     Latency on one thread of LiteRT with XNNPACK, and the time and peak memory of edgec's lowering. Each file has a
         process of its own; they take turns, a burst each, so that what disturbs the machine disturbs all alike and
         the ratios stand. A file that XNNPACK refuses runs without it, and shows 0 delegate pieces.

Weights are untrained: latency does not depend on them. TensorFlow converts its own Keras network of the same name, the
others edgec's. Their conversion time is that of the whole process with its imports; edgec's is the lowering alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tflite_files import OWN, ROUTES, Conversion, convert_by, edgec_files, lower
from tflite_time import interleaved

CORES = ("cortex-a76", "cortex-a53")
FLOAT = OWN[1]
MODELS = ("mobilenetv1", "mobilenetv2", "mobilenetv3-small", "mobilenetv3", "xception")
SEGMENTING = ("deeplabv3plus-mobilenetv2", "deeplabv3plus-mobilenetv3", "deeplabv3plus-xception65")
STEPS = ("convert", "count", "time")
COUNT_LIMIT_S = 1800.0
WIDTHS = (8, 8, 8, 6, 6, 9, 8)


def main() -> None:
    from edgec.pipeline.network import models

    options = _arguments()
    report: dict[str, Any] = {}
    for model in options.models:
        px = options.input_px or models.get(model).input_px
        folder = options.cache / "files" / (f"{model}-{px}" if options.input_px else model)
        folder.mkdir(parents=True, exist_ok=True)
        if "convert" in options.steps:
            convert(model, px, folder, options)
        files = {route: folder / f"{route}.tflite" for route in (*OWN, *options.routes)}
        files = {route: path for route, path in files.items() if path.exists()}
        counts = instructions(files, folder / "instructions.json", counting="count" in options.steps)
        report[model] = rows(folder, files, counts, options)
        show(model, report[model])
    if options.json:
        options.json.write_text(json.dumps({**machine(), "models": report}, indent=1))


def convert(model: str, px: int, folder: Path, options: argparse.Namespace) -> None:
    """Every file that is not there yet; what failed is tried again."""
    edgec_files(model, px, folder)
    for route in options.routes:
        if not (folder / f"{route}.tflite").exists():
            print(f"{model}: converting with {route}", file=sys.stderr, flush=True)
            done = convert_by(route, model, folder, options.cache)
            (folder / f"{route}.json").write_text(json.dumps(asdict(done)))


def instructions(files: dict[str, Path], kept: Path, counting: bool) -> dict[str, dict[str, int]]:
    """Instructions of each INT8 file on each core, kept by the file's sha256."""
    from hashlib import sha256

    from edgec.pipeline.forms.device import open_device
    from edgec.targets.tflite.delegate import delegate_coverage
    from edgec.targets.tflite.inference import count_instructions

    counts = json.loads(kept.read_text()) if kept.exists() else {}
    found = {}
    for route, path in files.items():
        content = path.read_bytes()
        known = counts.setdefault(sha256(content).hexdigest(), {})
        for core in CORES:
            if counting and core not in known and route != FLOAT:
                xnnpack = delegate_coverage(content).pieces > 0
                device = open_device(f"qemu:{core}")
                known[core] = count_instructions(device, path, xnnpack=xnnpack, timeout_s=COUNT_LIMIT_S)
                kept.write_text(json.dumps(counts, indent=1))
        found[route] = known
    return found


def rows(
    folder: Path, files: dict[str, Path], counts: dict[str, dict[str, int]], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """What is known of each route's file."""
    from edgec.targets.tflite.delegate import delegate_coverage

    timing = "time" in options.steps
    lowered = {route: lower(folder, route) for route in OWN} if timing else {}
    p50_ms = interleaved(files, options.budget_s) if timing else {}
    found = []
    for route in (*OWN, *options.routes):
        kept = folder / f"{route}.json"
        made = lowered.get(route) or (Conversion(**json.loads(kept.read_text())) if kept.exists() else Conversion())
        row: dict[str, Any] = {"route": route, **asdict(made), "p50_ms": p50_ms.get(route)}
        if route in files:
            content = files[route].read_bytes()
            row |= {"size_bytes": len(content), "pieces": delegate_coverage(content).pieces, **counts[route]}
        found.append(row)
    return found


def show(model: str, found: list[dict[str, Any]]) -> None:
    """A table, and the ratios that count: edgec over the best other route."""
    print(
        f"\n{model:<16} {'p50 ms':>8} {'A76 M':>8} {'A53 M':>8} {'pieces':>6} {'MB':>6} {'convert s':>9} {'peak MB':>8}"
    )
    for row in found:
        if row["error"]:
            print(f"  {row['route']:<14} failed: {row['error']}")
            continue
        known = [row["p50_ms"], *map(row.get, CORES), row["pieces"], row["size_bytes"], row["seconds"], row["peak_mb"]]
        numbers = map(_number, known, (1, 1e6, 1e6, 1, 1e6, 1, 1), WIDTHS, (3, 1, 1, 0, 2, 2, 0))
        print(f"  {row['route']:<14}", *numbers)
    mine, own_float, *others = found
    print(f"  INT8 / own float: {_ratio(mine, [own_float], 'p50_ms')}")
    for what, key in (("latency", "p50_ms"), *((f"instructions {core}", core) for core in CORES)):
        print(f"  {what}, INT8 / best other route: {_ratio(mine, others, key)}", flush=True)


def _number(value: float | None, unit: float, width: int, digits: int) -> str:
    return f"{'-':>{width}}" if value is None else f"{value / unit:{width}.{digits}f}"


def _ratio(mine: dict[str, Any], others: list[dict[str, Any]], key: str) -> str:
    known = [row for row in others if row.get(key)]
    if not known or not mine.get(key):
        return "-"
    best = min(known, key=lambda row: row[key])
    return f"{mine[key] / best[key]:.3f} ({best['route']})"


def machine() -> dict[str, str]:
    """Where, when and with what."""
    from edgec.pipeline.forms.measure import cpu_model

    names = ("edgec", "ai-edge-litert", "numpy")
    others = {route: " ".join(requirements) for route, requirements in ROUTES.items()}
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    return {"machine": cpu_model(), "date": time.strftime("%Y-%m-%d"), "versions": versions, **others}


def _arguments() -> argparse.Namespace:
    from platformdirs import user_cache_path

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS)
    parser.add_argument("--models", nargs="+", choices=(*MODELS, *SEGMENTING), default=MODELS)
    parser.add_argument("--input-px", type=int, help="side of the input instead of the network's own")
    parser.add_argument("--routes", nargs="*", choices=sorted(ROUTES), default=sorted(ROUTES))
    parser.add_argument("--budget-s", type=float, default=40.0, help="seconds of timing for each network")
    parser.add_argument("--cache", type=Path, default=user_cache_path("edgec") / "benchmarks")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.cache = options.cache.resolve()
    return options


if __name__ == "__main__":
    main()
