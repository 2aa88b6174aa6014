"""INT8 against mixed on Arm: accuracy over disjoint halves of photographs, and instructions on emulated cores.

With ``--target mcu`` on a microcontroller: its arena instead. ``--level best`` quantizes harder. With ``--scheme
tensorrt`` the QDQ file answers, as written, and nothing runs on a device.

    edgec device setup qemu --cpu cortex-a76
    python benchmarks/mixed.py --data PHOTOS --weights mobilenetv3-small=CARD.toml mobilenetv2=CARD.toml
    python benchmarks/mixed.py --data PHOTOS --weights mobilenetv3-small=CARD.toml --precisions int8 --level best

``PHOTOS`` holds ``images/`` and ``labels.csv``. Every split calibrates on one half and judges on the other; the halves
are drawn by the seed of the split. Answers of all splits are pooled; SQNR is the mean of theirs.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

TARGETS = {"cortex-a76": "rpi5", "cortex-a53": "cortex-a53"}


def main() -> None:
    """Print one Markdown row for each network and precision."""
    options = _arguments()
    heads = ("network", "precision", "top-1 float, artifact", "drop pp", "agreement %", "SQNR dB", "% of MACs finer")
    cost_of = "cost" if options.scheme else "KB of arena" if options.target else "M instructions"
    print(f"| {' | '.join(heads)} | {cost_of} |")
    print("|---|---|---|---|---|---|---|---|")
    for entry in options.weights:
        name, _, card = entry.partition("=")
        for precision in options.precisions:
            with tempfile.TemporaryDirectory() as folder:
                made = _quantized if options.scheme else _built
                found = [made(name, card, precision, options, Path(folder), split) for split in range(options.splits)]
                print(_row(name, precision, found, _cost(found, options, Path(folder))), flush=True)


def _built(
    name: str, card: str, precision: str, options: argparse.Namespace, folder: Path, split: int
) -> dict[str, Any]:
    """``result.json`` of one build, calibrated on one half and judged on the other."""
    halves = dict(_halves(options.data, folder / f"data{split}", split))
    words = [
        "build",
        name,
        "--weights",
        card,
        "--target",
        options.target or TARGETS[options.cpu],
        "--precision",
        precision,
        "--no-measure",
    ]
    words += ["--quantizer", options.level, "--calibration-data", halves["calibration"], "--test-data", halves["test"]]
    words += ["--json"]
    result: dict[str, Any] = json.loads(_edgec(*words, "--output", folder / str(split)))
    return result


def _quantized(
    name: str, card: str, precision: str, options: argparse.Namespace, folder: Path, split: int
) -> dict[str, Any]:
    """The same of the QDQ file alone: what ``edgec quantize`` says, in the words of a build."""
    halves = dict(_halves(options.data, folder / f"data{split}", split))
    words = ["quantize", name, "--weights", card, "--scheme", options.scheme, "--quantizer", options.level, "--json"]
    words += ["--calibration-data", halves["calibration"], "--test-data", halves["test"]]
    said = json.loads(_edgec(*words, "--output", folder / f"{split}.onnx"))
    reference = said["reference"]
    accuracy = {"num_images": said["num_images"], "float": said["top1_float"], "target": reference["top1"]}
    accuracy |= {key: reference[key] for key in ("agreement", "sqnr_db")}
    return {"accuracy": accuracy, "float_layers": (), "notes": said["notes"]}


def _halves(data: Path, folder: Path, seed: int) -> Iterator[tuple[str, Path]]:
    """Two folders with disjoint halves of the pictures, each with its labels."""
    with open(data / "labels.csv", newline="", encoding="utf-8") as file:
        head, *rows = list(csv.reader(file))
    order = np.random.default_rng(seed).permutation(len(rows))
    for part, places in (("calibration", order[: len(rows) // 2]), ("test", order[len(rows) // 2 :])):
        (folder / part).mkdir(parents=True)
        chosen = [rows[place] for place in sorted(places)]
        with open(folder / part / "labels.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([head, *chosen])
        for row in chosen:
            target = folder / part / row[0]
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(data / row[0], target)
        yield part, folder / part


def _cost(found: list[dict[str, Any]], options: argparse.Namespace, folder: Path) -> str:
    """Of a file that runs nowhere there is none."""
    if options.scheme:
        return "-"
    return f"{_arena(found) if options.target else _instructions(folder / '0', options.cpu):.2f}"


def _instructions(bundle: Path, cpu: str) -> float:
    """Millions of one inference on the emulated core; they repeat to the instruction."""
    return float(json.loads(_edgec("measure", bundle, "--on", f"qemu:{cpu}", "--json"))["instructions"]) / 1e6


def _arena(found: list[dict[str, Any]]) -> float:
    """KB, the largest of the splits."""
    return max(int(result["memory"]["arena_bytes"]) for result in found) / 1e3


def _edgec(*words: object) -> str:
    return subprocess.run(["edgec", *map(str, words)], check=True, stdout=subprocess.PIPE, text=True).stdout


def _row(name: str, precision: str, found: list[dict[str, Any]], cost: str) -> str:
    accuracy = [result["accuracy"] for result in found]
    weights = [entry["num_images"] for entry in accuracy]
    pooled = {
        key: float(np.average([entry[key] for entry in accuracy], weights=weights))
        for key in ("float", "target", "agreement")
    }
    told = [layer["reason"] for result in found for layer in result["float_layers"]]
    told += [note for result in found for note in result["notes"] if "compute in 16 bits" in note]
    shares = sorted({reason.split(": ")[1].split(" ")[0] for reason in told if "% of the multiplications" in reason})
    drop, sqnr = pooled["float"] - pooled["target"], np.mean([entry["sqnr_db"] for entry in accuracy])
    figures = f"{pooled['float']:.1f}, {pooled['target']:.1f} | {drop:.2f} | {pooled['agreement']:.1f} | {sqnr:.1f}"
    for note in sorted({note for result in found for note in result["notes"] if "what it learned" in note}):
        print(f"{name}: {note}", file=sys.stderr)
    return f"| {name} | {precision} | {figures} | {' or '.join(shares) or '-'} | {cost} |"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", nargs="+", required=True, metavar="MODEL=CARD.toml")
    parser.add_argument("--precisions", nargs="+", default=["int8", "mixed"])
    parser.add_argument("--level", choices=["fast", "accurate", "best"], default="fast")
    parser.add_argument("--scheme", help="quantize by it, and build nothing")
    parser.add_argument("--target", help="a microcontroller, in place of the board of --cpu")
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--cpu", choices=sorted(TARGETS), default="cortex-a76")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
