"""A float network together with what calibrated it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from edgec.pipeline.quantize.calibrate import Calibration, collect


@dataclass(frozen=True, eq=False)
class Calibrated:
    """A float network, the images that calibrated it, and what they showed."""

    model: onnx.ModelProto
    images: np.ndarray
    calibration: Calibration

    def batches(self) -> Iterator[np.ndarray]:
        return iter([self.images[:5], self.images[5:]])


def calibrate(path: Path, images: np.ndarray) -> Calibrated:
    return Calibrated(onnx.load(path), images, collect(path, lambda: iter([images[:5], images[5:]])))
