"""The bundled networks in the integer schemes: what INT8 costs them on the stored test pictures and scenes.

    python benchmarks/bundled.py [--models mobilenetv2 ...] [--targets cpu arm mcu jetson] [--quantizer fast]

Each build is ``edgec build MODEL --target TARGET`` on one store. OpenVINO, LiteRT and TFLite Micro answer themselves;
for a Jetson, whose engine cannot run here, the QDQ reference does. Prints Markdown: classifiers, then networks that
segment.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from built import built_accuracy, shipped

from edgec.pipeline.network.models import get, names
from edgec.pipeline.network.models.weights import bundled

Row = Callable[[str, str, dict[str, Any]], str]

CLASSIFIED = (
    "network | target | float top-1 % | INT8 top-1 % | drop pp | only INT8 / only float right (p) | agree % | SQNR dB"
)
SEGMENTED = "network | target | float mIoU % | INT8 mIoU % | drop pp | 95 % interval | pixels alike % | SQNR dB"


def classified(model: str, target: str, found: dict[str, Any]) -> str:
    pairs = f"{found['only_target_right']} / {found['only_float_right']} ({found['mcnemar_p']:.2g})"
    return row(model, target, found, pairs)


def segmented(model: str, target: str, found: dict[str, Any]) -> str:
    spread = found["drop_spread"]
    return row(model, target, found, f"{spread['low']:+.2f} to {spread['high']:+.2f}")


def row(model: str, target: str, found: dict[str, Any], sure: str) -> str:
    """One line, with what says how sure the drop is."""
    int8, answered = shipped(found)
    values = f"{found['float']:.1f} | {int8:.1f} | {found['float'] - int8:+.2f} | {sure}"
    return f"| {model} | {target}{answered} | {values} | {found['agreement']:.1f} | {found['sqnr_db']:.1f} |"


def table(models: list[str], columns: str, line: Row, options: argparse.Namespace) -> None:
    """Build and print, row by row."""
    if not models:
        return
    print(f"| {columns} |\n|{'---|' * (columns.count('|') + 1)}")
    with tempfile.TemporaryDirectory() as folder:
        for model in models:
            for target in options.targets:
                found = built_accuracy(model, target, Path(folder), "--quantizer", options.quantizer)
                print(line(model, target, found), flush=True)
    print()


def main() -> None:
    shipped_models = [name for name in names() if bundled(name)]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=shipped_models, choices=shipped_models)
    parser.add_argument("--targets", nargs="+", default=["cpu", "arm", "mcu", "jetson"])
    parser.add_argument("--quantizer", default="fast", choices=["fast", "accurate", "best"])
    options = parser.parse_args()
    segmenting = [model for model in options.models if get(model).task == "segmentation"]
    table([model for model in options.models if model not in segmenting], CLASSIFIED, classified, options)
    table(segmenting, SEGMENTED, segmented, options)


if __name__ == "__main__":
    main()
