"""Real ImageNet weights on real photographs: float top-1 as stated beside them, within 0.5 points."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from places import REAL

from edgec.pipeline.network import models
from edgec.pipeline.network.models.spec import build_network
from edgec.pipeline.network.models.weights import load_weights, resolve_weights

pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason="../shared/real is absent")


@pytest.mark.parametrize(
    ("model", "card", "every", "top1"),
    [
        ("mobilenetv3-small", "mobilenetv3_small_1.0_224", 1, 80.00),  # all 400: the README's figure
        ("mobilenetv2", "mobilenetv2_1.0_224", 4, 83.00),  # every fourth; all 400: 85.00, README 84.75
        ("mobilenetv1", "mobilenetv1_1.0_224", 4, 78.00),  # every fourth; all 400: 84.25, as the README
    ],
)
def test_float_top1_is_the_stated_one(model: str, card: str, every: int, top1: float) -> None:
    weights = resolve_weights(str(REAL / "weights" / f"{card}.toml"), models.get(model))
    network = build_network(weights.network_config())
    load_weights(network, weights)
    with (REAL / "imagenet" / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))[::every]
    correct = 0
    for start in range(0, len(rows), 25):
        batch = rows[start : start + 25]
        pixels = np.stack([weights.preprocess.pixels(REAL / "imagenet" / row["file"]) for row in batch])
        with torch.no_grad():
            answers = network(torch.from_numpy(weights.preprocess.normalise(pixels))).argmax(1)
        correct += sum(int(answer) == int(row["class_index"]) for answer, row in zip(answers, batch, strict=True))
    assert 100 * correct / len(rows) == pytest.approx(top1, abs=0.5)
