"""The bundled data set and weights in figures: size, time to draw a picture, float top-1 and the commonest confusions.

python benchmarks/parts.py
"""

from __future__ import annotations

import time
from collections import Counter

import numpy as np
import torch

from edgec.calib_data.splits import LABELS, NUM_IMAGES, draw_picture, masks_dir, parts_dir
from edgec.pipeline.data.dataset import Dataset, batches, open_dataset
from edgec.pipeline.network.models import get
from edgec.pipeline.network.models.spec import build_network
from edgec.pipeline.network.models.weights import load_weights, resolve_weights

MODELS = ("mobilenetv3", "mobilenetv3-small")


def stored() -> None:
    """Files and bytes of the stored splits."""
    for split in ("calibration", "test"):
        files = [path for root in (parts_dir(split), masks_dir(split)) for path in root.rglob("*.*")]
        megabytes = sum(path.stat().st_size for path in files) / 1e6
        print(f"{split:<12} {NUM_IMAGES[split]:5} pictures with masks {megabytes:6.2f} MB")


def drawing(pictures: int = 64) -> None:
    """Time of one picture on one core, before compression."""
    draw_picture("train", 0)
    started = time.perf_counter()
    for index in range(pictures):
        draw_picture("train", index)
    print(f"drawing      {1e3 * (time.perf_counter() - started) / pictures:5.1f} ms a picture, mean of {pictures}")


def accuracy(model: str, test: Dataset) -> None:
    """Float top-1 of the bundled weights, half precision widened, on the stored test pictures."""
    weights = resolve_weights("parts", get(model))
    network = build_network(weights.network_config())
    load_weights(network, weights)
    labels = np.array([sample.label for sample in test.samples])
    with torch.inference_mode():
        logits = [network(torch.from_numpy(batch)).numpy() for batch in batches(test, weights.preprocess, 64)]
    answers = np.concatenate(logits).argmax(axis=1)
    wrong = Counter(
        (LABELS[label], LABELS[answer]) for label, answer in zip(labels, answers, strict=True) if label != answer
    )
    commonest = ", ".join(f"{label} as {answer} {count}" for (label, answer), count in wrong.most_common(4))
    print(f"{model:<18} top-1 {100 * np.mean(answers == labels):5.2f} % of {len(test)}; {commonest}")


if __name__ == "__main__":
    stored()
    drawing()
    for name in MODELS:
        accuracy(name, open_dataset(parts_dir("test")))
