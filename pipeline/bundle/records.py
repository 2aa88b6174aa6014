"""``accuracy.json``, ``latency.json`` and other records of a bundle, checked field by field as they are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgec.pipeline.bundle.manifest import RESULT
from edgec.pipeline.core.json_file import read_record
from edgec.pipeline.forms.measure import Latency
from edgec.pipeline.network.models.curve import Curve
from edgec.pipeline.quantize.record import QuantizationRecord
from edgec.pipeline.tasks.accuracy import Accuracy

ACCURACY, LATENCY = "accuracy.json", "latency.json"
QUANTIZATION, SENSITIVITY = "quantization.json", "sensitivity.json"
TRAINING = "training.json"


def read_accuracy(folder: Path) -> Accuracy:
    """What the build found on the test images.

    Raises:
        EdgecError: ``corrupt-bundle``.
    """
    return read_record(Accuracy, folder / ACCURACY, "corrupt-bundle")


def read_latency(folder: Path) -> Latency:
    """What the build, or a recorded check, measured.

    Raises:
        EdgecError: ``corrupt-bundle``.
    """
    return read_record(Latency, folder / LATENCY, "corrupt-bundle")


def read_quantization(folder: Path) -> QuantizationRecord:
    """What quantization did, layer by layer.

    Raises:
        EdgecError: ``corrupt-bundle``.
    """
    return read_record(QuantizationRecord, folder / QUANTIZATION, "corrupt-bundle")


def read_sensitivity(folder: Path) -> dict[str, float | None]:
    """Output SQNR in dB with one layer alone quantized, by layer, None where exact; empty where nobody ranked them.

    Raises:
        EdgecError: ``corrupt-bundle``.
    """
    path = folder / SENSITIVITY
    return read_record(dict[str, float | None], path, "corrupt-bundle") if path.is_file() else {}


def read_training(folder: Path) -> Curve | None:
    """How the weights were trained; None where their card does not say.

    Raises:
        EdgecError: ``corrupt-bundle``.
    """
    path = folder / TRAINING
    return read_record(Curve, path, "corrupt-bundle") if path.is_file() else None


def read_instructions(folder: Path) -> int | None:
    """Of one inference, as the log of the build counted them; None without log or count.

    Raises:
        EdgecError: ``corrupt-bundle``.
    """
    path = folder / RESULT
    return read_record(_Counted, path, "corrupt-bundle").instructions if path.is_file() else None


@dataclass(frozen=True)
class _Counted:
    """What is read of ``result.json``, whose other fields are left alone."""

    instructions: int | None = None
