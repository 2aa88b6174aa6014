"""What can be done with a bundle on this machine: evaluate, measure, classify."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgec.pipeline.bundle.read import Bundle, open_bundle
from edgec.pipeline.data import check_classes, open_dataset, read_image
from edgec.pipeline.errors import EdgecError
from edgec.pipeline.evaluate import BATCH_SIZE, Accuracy, compare, predict_all
from edgec.pipeline.measure import Latency, measure
from edgec.pipeline.ort import OrtRunner
from edgec.targets.adapter import Predictor, Runner, load_adapter

IMAGES_PER_PUSH = 128  # a device loads the runtime once per call: few calls, yet bounded memory


@dataclass(frozen=True)
class Answer:
    """What a network says about one image: classes and their probabilities, most probable first."""

    image: Path
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class Cost:
    """What one inference costs, on this machine or on a device.

    Attributes:
        latency: measured, or the words why not.
        instructions: guest instructions of an emulated core; a deterministic cost, never a latency.
        board: facts of the device; empty for this machine.
    """

    latency: Latency
    instructions: int | None = None
    board: Mapping[str, Any] = field(default_factory=dict)


def evaluate_bundle(folder: Path, data: Path, on: str | None = None) -> Accuracy:
    """Artifact (here, or on the device ``on``), QDQ reference and float network on the images of ``data``.

    Raises:
        EdgecError: what ``open_bundle``, ``open_dataset``, ``open_runner`` and devices raise; ``class-mismatch``.
    """
    bundle, images = open_bundle(folder), open_dataset(data)
    threads = os.cpu_count() or 1
    runners: dict[str, Predictor] = {
        "float": OrtRunner(bundle.float_onnx, threads),
        "reference": OrtRunner(bundle.qdq_onnx, threads, as_written=True),
    }
    batch_size = BATCH_SIZE
    if on is None:
        runners["target"] = open_runner(bundle, threads)
    else:
        runners["target"], batch_size = _device_runner(bundle, on), IMAGES_PER_PUSH
    logits = predict_all(runners, images, bundle.preprocess, batch_size)
    check_classes(images, logits["float"].shape[1])
    return compare(logits, images.labels if bundle.manifest.origin.source.labelled else None)


def measure_bundle(folder: Path, threads: int, on: str | None = None) -> Cost:
    """Latency of the artifact on this machine or on a board; instructions on an emulated core.

    Raises:
        EdgecError: what ``open_bundle``, ``open_runner`` and devices raise.
    """
    bundle = open_bundle(folder)
    if on is None:
        return Cost(measure(open_runner(bundle, threads).single(OrtRunner(bundle.float_onnx).noise()), threads))
    from edgec.targets.devices import count_instructions, describe, measure_latency, open_device
    from edgec.targets.devices.qemu import QemuDevice

    device = open_device(on)
    if isinstance(device, QemuDevice):
        board, _ = describe(device)
        latency = Latency("not-measured", note="emulated: instructions are counted, time means nothing")
        return Cost(latency, count_instructions(device, bundle.artifact), asdict(board))
    found = measure_latency(device, bundle.artifact, threads=threads)
    states = {"before": asdict(found.before), "after": asdict(found.after)}
    return Cost(found.latency, board={**asdict(found.board), **states})


def classify(folder: Path, images: tuple[Path, ...], top: int = 5) -> list[Answer]:
    """The artifact's most probable classes for each image file.

    Raises:
        EdgecError: what ``open_bundle``, ``open_runner`` and ``read_image`` raise.
    """
    bundle = open_bundle(folder)
    runner = open_runner(bundle, os.cpu_count() or 1)
    return [_answer(image, runner, bundle, top) for image in images]


def open_runner(bundle: Bundle, threads: int) -> Runner:
    """The artifact, loaded on this machine.

    Raises:
        EdgecError: ``cannot-run-here``.
    """
    adapter = load_adapter(bundle.target.compiler)
    probe = adapter.probe()
    if not probe.can_run:
        raise EdgecError(
            "cannot-run-here",
            f"this machine cannot run '{bundle.target.name}' artifacts: {probe.missing}",
            "see 'edgec doctor'",
        )
    return adapter.open_runner(bundle.artifact, bundle.target, threads)


def _device_runner(bundle: Bundle, on: str) -> Predictor:
    """The artifact on a device.

    Raises:
        EdgecError: ``cannot-run-there``; what ``open_device`` raises.
    """
    if bundle.target.compiler != "tflite":
        message = f"'{bundle.target.name}' artifacts are not brought to devices, only .tflite files are"
        raise EdgecError("cannot-run-there", message, "leave --on out, or build for an Arm target")
    from edgec.targets.devices import open_device
    from edgec.targets.devices.device_runner import DeviceRunner

    return DeviceRunner(open_device(on), bundle.artifact)


def _answer(image: Path, runner: Runner, bundle: Bundle, top: int) -> Answer:
    logits = runner.predict(bundle.preprocess.normalise(read_image(image, bundle.preprocess)[None])).ravel()
    probabilities = _softmax(logits)
    order = np.argsort(-probabilities, kind="stable")[:top]
    labels = bundle.labels
    names = tuple(labels[i] if i < len(labels) and labels[i] else f"class {i}" for i in order)
    return Answer(image, names, tuple(float(probabilities[i]) for i in order))


def _softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    shifted = np.exp(logits.astype(np.float64) - logits.max())
    return np.asarray(shifted / shifted.sum())
