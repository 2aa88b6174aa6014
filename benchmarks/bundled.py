"""The bundled networks in the integer schemes: what INT8 costs them on the 1,000 stored test pictures.

    python benchmarks/bundled.py [--models mobilenetv2 ...] [--targets cpu arm mcu jetson] [--quantizer fast]

Each build is ``edgec build MODEL --target TARGET`` on one store. OpenVINO, LiteRT and TFLite Micro answer themselves;
for a Jetson, whose engine cannot run here, the QDQ reference does. Prints Markdown.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from built import built_accuracy, shipped

from edgec.pipeline.network.models import names
from edgec.pipeline.network.models.weights import bundled

COLUMNS = (
    "network | target | float top-1 % | INT8 top-1 % | drop pp | only INT8 / only float right (p) | agree % | SQNR dB"
)


def row(model: str, target: str, found: dict[str, Any]) -> str:
    int8, answered = shipped(found)
    drop = found["float"] - int8
    pairs = f"{found['only_target_right']} / {found['only_float_right']} ({found['mcnemar_p']:.2g})"
    values = (
        f"{found['float']:.1f} | {int8:.1f} | {drop:+.1f} | {pairs} | {found['agreement']:.1f} | {found['sqnr_db']:.1f}"
    )
    return f"| {model} | {target}{answered} | {values} |"


def main() -> None:
    shipped_models = [name for name in names() if bundled(name)]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=shipped_models, choices=shipped_models)
    parser.add_argument("--targets", nargs="+", default=["cpu", "arm", "mcu", "jetson"])
    parser.add_argument("--quantizer", default="fast", choices=["fast", "accurate", "best"])
    options = parser.parse_args()
    print(f"| {COLUMNS} |\n|{'---|' * (COLUMNS.count('|') + 1)}")
    with tempfile.TemporaryDirectory() as folder:
        for model in options.models:
            for target in options.targets:
                found = built_accuracy(model, target, Path(folder), "--quantizer", options.quantizer)
                print(row(model, target, found), flush=True)


if __name__ == "__main__":
    main()
