"""The bundled networks in the integer schemes: what INT8 costs them on the stored test images.

    python benchmarks/bundled.py [--models mobilenetv2 ...] [--targets cpu arm mcu jetson] [--quantizer fast]

Each build is ``edgec build MODEL --target TARGET`` on one store. OpenVINO, LiteRT and TFLite Micro answer themselves;
for a Jetson, whose engine cannot run here, the QDQ reference does. Prints Markdown: a table of the networks that
classify, on 1,000 pictures of parts, and one of those that segment, on 240 scenes.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from built import built_accuracy, shipped

from edgec.pipeline.network.models import get, names
from edgec.pipeline.network.models.weights import bundled

COLUMNS = {
    "classification": (
        "network | target | float top-1 % | INT8 top-1 % | drop pp | only INT8 / only float right (p) | agree % | "
        "SQNR dB"
    ),
    "segmentation": (
        "network | target | float mIoU % | INT8 mIoU % | drop pp | its 95 % interval | pixels that agree % | SQNR dB"
    ),
}


def row(model: str, target: str, found: dict[str, Any]) -> str:
    int8, answered = shipped(found)
    drop = found["float"] - int8
    if found["drop_spread"] is None:
        certain = f"{found['only_target_right']} / {found['only_float_right']} ({found['mcnemar_p']:.2g})"
    else:
        certain = f"{found['drop_spread']['low']:+.2f} to {found['drop_spread']['high']:+.2f}"
    values = f"{found['float']:.1f} | {int8:.1f} | {drop:+.1f} | {certain} | {found['agreement']:.1f}"
    return f"| {model} | {target}{answered} | {values} | {found['sqnr_db']:.1f} |"


def main() -> None:
    shipped_models = [name for name in names() if bundled(name)]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=shipped_models, choices=shipped_models)
    parser.add_argument("--targets", nargs="+", default=["cpu", "arm", "mcu", "jetson"])
    parser.add_argument("--quantizer", default="fast", choices=["fast", "accurate", "best"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for task, columns in COLUMNS.items():
            of_task = [model for model in options.models if (get(model).task or "classification") == task]
            if of_task:
                print(f"\n| {columns} |\n|{'---|' * (columns.count('|') + 1)}")
            for model in of_task:
                for target in options.targets:
                    found = built_accuracy(model, target, Path(folder), "--quantizer", options.quantizer)
                    print(row(model, target, found), flush=True)


if __name__ == "__main__":
    main()
