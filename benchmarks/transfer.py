"""Transfer from ImageNet to a small set of photographs, and what INT8 costs the result on every target.

    python benchmarks/transfer.py [--models mobilenetv3-small mobilenetv2] [--targets cpu arm mcu jetson] [--work DIR]

Trains each network with ``edgec train MODEL --weights CARD --data DIR``, then runs ``edgec build`` for each target;
images of train calibrate, those of test judge. Reads ``../shared/real`` (``--real``): weights cards and ``clothing``,
ten classes. ``--data`` and ``--weights`` (one for each model) take others. With ``--work`` the run can be interrupted:
it continues after the last whole epoch. Options behind ``--`` go to ``edgec train``. Prints Markdown.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from built import built_accuracy, shipped

ROOT = Path(__file__).parents[1]
CARDS = {
    "mobilenetv1": "mobilenetv1_1.0_224.toml",
    "mobilenetv2": "mobilenetv2_1.0_224.toml",
    "mobilenetv3-small": "mobilenetv3_small_1.0_224.toml",
}
USUAL = ("--px", "128", "--epochs", "6", "--head-epochs", "1")
COLUMNS = "network | target | test images | float top-1 % | INT8 top-1 % | drop pp | agree % | SQNR dB"
EDGEC = (sys.executable, "-m", "edgec.pipeline.cli")


def train(model: str, weights: Path, data: Path, work: Path, options: list[str]) -> Path:
    """The trained card; a run that ``work`` has finished is taken, one that it has begun goes on."""
    output = work / f"{model}_{data.name}.safetensors"
    if not output.with_suffix(".toml").is_file():
        started = time.perf_counter()
        where = ("--weights", str(weights), "--data", str(data), "--output", str(output))
        curve = ("--resume", "--plot", str(output.with_suffix(".svg")))
        subprocess.run([*EDGEC, "train", model, *where, *curve, *options], check=True, stdout=sys.stderr)
        print(f"{model}: trained in {(time.perf_counter() - started) / 60:.1f} minutes", file=sys.stderr)
    return output.with_suffix(".toml")


def row(model: str, target: str, found: dict[str, Any]) -> str:
    int8, answered = shipped(found)
    values = f"{found['float']:.1f} | {int8:.1f} | {found['drop_pp']:+.1f} | {found['agreement']:.1f}"
    return f"| {model} | {target}{answered} | {found['num_images']} | {values} | {found['sqnr_db']:.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["mobilenetv3-small", "mobilenetv2"])
    parser.add_argument("--targets", nargs="*", default=["cpu", "arm", "mcu", "jetson"])
    parser.add_argument("--real", type=Path, default=ROOT.parent / "shared" / "real")
    parser.add_argument("--data", type=Path, help="labelled images instead of the clothing")
    parser.add_argument("--weights", type=Path, nargs="+", help="one for each model instead of the cards")
    parser.add_argument("--work", type=Path, help="folder for weights, curves and bundles; a temporary one otherwise")
    parser.add_argument("options", nargs="*", default=USUAL, metavar="-- OPTION", help=f"[default: {' '.join(USUAL)}]")
    asked = parser.parse_args()
    data = asked.data or asked.real / "clothing"
    weights = asked.weights or [asked.real / "weights" / CARDS[model] for model in asked.models]
    with tempfile.TemporaryDirectory() as folder:
        work = asked.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        print(f"| {COLUMNS} |\n|{'---|' * (COLUMNS.count('|') + 1)}")
        for model, file in zip(asked.models, weights, strict=True):
            card = train(model, file, data, work, list(asked.options))
            for target in asked.targets:
                found = built_accuracy(model, target, work, "--weights", card, "--data", data)
                print(row(model, target, found), flush=True)


if __name__ == "__main__":
    main()
