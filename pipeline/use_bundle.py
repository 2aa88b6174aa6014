"""What can be done with a bundle on this machine: evaluate, measure, classify."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgec.pipeline.bundle.read import Bundle, open_bundle
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.data.dataset import check_classes, open_dataset, read_image
from edgec.pipeline.forms.adapter import OnDevice, Predictor, Runner, load_adapter
from edgec.pipeline.forms.device import open_device
from edgec.pipeline.forms.measure import Cost, measure
from edgec.pipeline.forms.ort import OrtRunner
from edgec.pipeline.tasks.evaluate import BATCH_SIZE, IMAGES_PER_PUSH, Accuracy, compare, predict_all


@dataclass(frozen=True)
class Answer:
    """What a network says about one image: classes and their probabilities, most probable first."""

    image: Path
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]


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
        runners["target"], batch_size = _there(bundle, on, 1), IMAGES_PER_PUSH
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
    return _there(bundle, on, threads).cost()


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
    probe = adapter.probe(bundle.target)
    if not probe.can_run:
        raise EdgecError(
            "cannot-run-here",
            f"this machine cannot run '{bundle.target.name}' artifacts: {probe.missing}",
            "see 'edgec doctor'",
        )
    return adapter.open_runner(bundle.artifact, bundle.target, threads)


def _there(bundle: Bundle, on: str, threads: int) -> OnDevice:
    """The artifact on a device.

    Raises:
        EdgecError: ``cannot-run-there``; what ``open_device`` raises.
    """
    return load_adapter(bundle.target.compiler).on_device(open_device(on), bundle.artifact, bundle.target, threads)


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
