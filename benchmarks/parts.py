"""The bundled data sets and weights in figures: sizes, time to draw, float accuracy, what is confused, training curves.

python benchmarks/parts.py [--plot CURVES.svg]
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from edgec.calib_data.scenes import draw_scene, scenes_dir
from edgec.calib_data.splits import NUM_IMAGES, draw_picture, masks_dir, parts_dir
from edgec.pipeline.data.bundled import bundled_data
from edgec.pipeline.data.dataset import Dataset, batches
from edgec.pipeline.network.models import get, names
from edgec.pipeline.network.models.curve import Curve
from edgec.pipeline.network.models.spec import build_network
from edgec.pipeline.network.models.weights import Weights, bundled, load_weights, resolve_weights
from edgec.pipeline.tasks.iou import confusion
from edgec.pipeline.tasks.metrics import answers
from edgec.pipeline.train.objective import objective_of


def stored() -> None:
    """Files and bytes of the stored splits."""
    for split in ("calibration", "test"):
        files = [path for root in (parts_dir(split), masks_dir(split)) for path in root.rglob("*.*")]
        megabytes = sum(path.stat().st_size for path in files) / 1e6
        print(f"{split:<12} {NUM_IMAGES[split]:5} pictures with masks {megabytes:6.2f} MB")
        files = [path for kind in ("images", "masks") for path in (scenes_dir() / kind / split).iterdir()]
        megabytes = sum(path.stat().st_size for path in files) / 1e6
        print(f"{split:<12} {len(files) // 2:5} scenes with masks {megabytes:8.2f} MB")


def drawing(pictures: int = 64) -> None:
    """Time of one picture and of one scene on one core, before compression."""
    for kind, draw in (("picture", draw_picture), ("scene", draw_scene)):
        draw("train", 0)
        started = time.perf_counter()
        for index in range(pictures):
            draw("train", index)
        print(f"drawing      {1e3 * (time.perf_counter() - started) / pictures:5.1f} ms a {kind}, mean of {pictures}")


def accuracy(model: str, weights: Weights, test: Dataset) -> None:
    """Float figure of the bundled weights, half precision widened, and the classes that are confused most often."""
    objective = objective_of(model)
    network = build_network(weights.network_config())
    load_weights(network, weights)
    total = np.zeros((len(test.classes), len(test.classes)), np.int64)
    pairs = []
    truth = torch.split(objective.truth(test, weights.preprocess), 32)
    with torch.inference_mode():
        for right, batch in zip(truth, batches(test, weights.preprocess, 32), strict=True):
            logits = network(torch.from_numpy(batch)).numpy()
            total += confusion(right.numpy(), answers(logits), len(test.classes))
            pairs.append((right.numpy(), logits))
    figure = objective.figure(iter(pairs))
    print(f"{model:<26} {objective.metric} {figure:5.2f} % of {len(test)}; {confused(total, test.classes)}")


def confused(total: np.ndarray, classes: tuple[str, ...]) -> str:
    """The commonest of the wrong answers."""
    wrong = Counter({(classes[i], classes[j]): int(total[i, j]) for i, j in np.argwhere(total) if i != j})
    return ", ".join(f"{label} as {answer} {count:,}" for (label, answer), count in wrong.most_common(4))


def curves(found: Mapping[str, Curve], plot: Path | None) -> None:
    """The validation figure after each epoch, and its picture."""
    for model, curve in found.items():
        print(f"\n{model}: validation {curve.metric} %, by epoch")
        for px in dict.fromkeys(curve.px):
            values = [f"{v:.1f}" for size, v in zip(curve.px, curve.validation, strict=True) if size == px]
            print(f"{px:5} px  {' '.join(values)}")
    if plot is not None:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4), layout="constrained")
        panel = figure.subplots()
        for model, curve in found.items():
            panel.plot(curve.epoch, curve.validation, marker="o", markersize=3, label=f"{model}, {curve.metric}")
        panel.set_xlabel("epoch")
        panel.set_ylabel("validation, %")
        panel.legend(fontsize=8)
        figure.savefig(plot)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    stored()
    drawing()
    of_models = {name: resolve_weights(None, get(name)) for name in names() if bundled(name)}
    for name, weights in of_models.items():
        accuracy(name, weights, bundled_data(get(name).task)[1])
    curves({name: weights.curve for name, weights in of_models.items() if weights.curve is not None}, options.plot)
