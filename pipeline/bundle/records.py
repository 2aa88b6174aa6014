"""``accuracy.json``, ``latency.json`` and other records of a bundle, checked field by field as they are read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgec.pipeline.bundle.manifest import corrupt
from edgec.pipeline.core.toml_file import validate
from edgec.pipeline.forms.measure import Latency
from edgec.pipeline.tasks.evaluate import Accuracy

ACCURACY, LATENCY = "accuracy.json", "latency.json"
QUANTIZATION, SENSITIVITY = "quantization.json", "sensitivity.json"


@dataclass(frozen=True)
class FloatLayer:
    """A layer that quantization left in float, and why."""

    layer: str
    reason: str


@dataclass(frozen=True)
class HeldDrop:
    """What layers in float left of the drop, in points of top-1 on the deciding images."""

    max_drop_pp: float
    drop_pp: float
    num_images: int


@dataclass(frozen=True)
class QuantizationRecord:
    """``quantization.json``.

    Attributes:
        layer_sqnr_db: of each quantized layer's output, the network quantized up to there.
        fallback: None where no drop had to be held.
    """

    float_layers: tuple[FloatLayer, ...]
    layer_sqnr_db: Mapping[str, float | None]
    fallback: HeldDrop | None = None


def read_accuracy(folder: Path) -> Accuracy:
    """What the build found on the test images.

    Raises:
        EdgecError: ``corrupt-bundle``.
    """
    return validate(Accuracy, read_record(folder / ACCURACY), folder / ACCURACY, "corrupt-bundle")


def read_latency(folder: Path) -> Latency:
    """What the build, or a recorded check, measured.

    Raises:
        EdgecError: ``corrupt-bundle``.
    """
    return validate(Latency, read_record(folder / LATENCY), folder / LATENCY, "corrupt-bundle")


def read_quantization(folder: Path) -> QuantizationRecord:
    """What quantization did, layer by layer.

    Raises:
        EdgecError: ``corrupt-bundle``.
    """
    path = folder / QUANTIZATION
    return validate(QuantizationRecord, read_record(path), path, "corrupt-bundle")


def read_sensitivity(folder: Path) -> dict[str, float]:
    """Output SQNR in dB with one layer alone quantized, by layer; empty where nobody ranked them.

    Raises:
        EdgecError: ``corrupt-bundle``.
    """
    path = folder / SENSITIVITY
    return validate(dict[str, float], read_record(path), path, "corrupt-bundle") if path.is_file() else {}


def read_record(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        EdgecError: ``corrupt-bundle``.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise corrupt(f"'{path}' cannot be read: {error}") from error
    if not isinstance(data, dict):
        raise corrupt(f"'{path}' is no JSON object")
    return data
