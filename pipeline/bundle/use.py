"""What can be done with a bundle on this machine: evaluate, measure, ask."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgec.pipeline.bundle.float_network import float_network
from edgec.pipeline.bundle.read import Bundle, open_bundle
from edgec.pipeline.core.at_once import num_cores
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.data.dataset import Dataset, open_dataset, read_image
from edgec.pipeline.data.folders import Folder
from edgec.pipeline.forms.answer import ask, judged, output_shapes
from edgec.pipeline.forms.compiler import OnDevice, Runner, load_compiler
from edgec.pipeline.forms.device import open_device
from edgec.pipeline.forms.first_answer import first_answer
from edgec.pipeline.forms.form import (
    FLOAT,
    REFERENCE,
    TARGET,
    Form,
    HereForm,
    float_form,
    here,
    reference_form,
    there,
)
from edgec.pipeline.forms.format import Batch
from edgec.pipeline.forms.measure import Cost, measure
from edgec.pipeline.forms.score import scored
from edgec.pipeline.forms.spec import float_settings
from edgec.pipeline.tasks.accuracy import Accuracy, Drop
from edgec.pipeline.tasks.task import Kept, Pairs, Reply, Task, load_task, metrics_of


@dataclass(frozen=True)
class Answered:
    """What the artifact says about one image."""

    image: Path
    reply: Reply


def evaluate_bundle(bundle: Bundle, data: Path, on: str | None = None) -> Accuracy:
    """Artifact (here, or on the device ``on``), QDQ reference and float network on the images of ``data``.

    Raises:
        EdgecError: ``cannot-run-here``, ``float-left-out``; what opening data and devices raises; ``class-mismatch``.
    """
    images = open_dataset(data)
    task = task_of_bundle(bundle)
    form = there(bundle.target.compiler, bundle.settings, on, bundle.artifact) if on else form_here(bundle)
    images = judged(images, task, output_shapes(bundle.qdq_onnx))
    kept = {
        FLOAT: _ask(float_form(), float_network(bundle), bundle, images, task),
        REFERENCE: _ask(reference_form(), bundle.qdq_onnx, bundle, images, task),
        TARGET: _ask(form, bundle.artifact, bundle, images, task),
    }
    task.check(images, kept[FLOAT])
    labels = task.truth(images, bundle.preprocess) if bundle.manifest.origin.source.labelled else None
    return scored(task, kept, labels, metrics_of(task.name))


def paired(before: Bundle, after: Bundle, data: Path) -> Pairs | Drop | None:
    """Run both artifacts, each with its own preprocessing, over labelled images.

    Returns:
        None without labels or right answers, or where the two are for different tasks.

    Raises:
        EdgecError: ``cannot-run-here``; what ``open_dataset`` raises.
    """
    images, task = open_dataset(data), task_of_bundle(after)
    images = judged(images, task, output_shapes(after.qdq_onnx))
    labels = task.truth(images, after.preprocess)
    if labels is None or task_of_bundle(before) != task:
        return None
    kept = [_ask(form_here(bundle, 1), bundle.artifact, bundle, images, task) for bundle in (before, after)]
    return task.pairs(kept[0], kept[1], labels)


def measure_bundle(folder: Path, threads: int, on: str | None = None) -> Cost:
    """Latency of the artifact on this machine or on a board; instructions on an emulated core.

    An artifact for another device is measured here all the same, and the latency says so.

    Raises:
        EdgecError: what ``open_bundle``, ``open_runner`` and devices raise.
    """
    bundle = open_bundle(folder)
    if on is None:
        image = _noise(bundle)
        latency = measure(open_runner(bundle, threads).single(image), threads)
        first = first_answer(bundle.target, bundle.artifact, image, threads)
        latency = replace(latency, load_ms=first.load_ms, peak_rss_bytes=first.peak_rss_bytes)
        if bundle.target.device.is_this_machine:
            return Cost(latency)
        note = f"on this machine, which is no '{bundle.target.name}': measure there with --on"
        return Cost(replace(latency, note=note), on_target=False)
    return on_device(bundle, on, threads).cost()


def artifact_file(folder: Path) -> Path:
    """The one file of a bundle's artifact that says which operators there are.

    Raises:
        EdgecError: what ``open_bundle`` raises.
    """
    artifact = open_bundle(folder).artifact
    inside = (artifact / name for name in ("model.xml", "model.onnx"))
    return next((path for path in inside if path.is_file()), artifact)


def images_in(given: Sequence[Path]) -> list[Path]:
    """Image files: those that are given, and of a folder all in it and below, sorted.

    Raises:
        EdgecError: ``empty-data`` for a folder without images, ``unreadable-data``, ``unsafe-path``.
    """
    found: list[Path] = []
    for path in given:
        if not path.is_dir():
            found.append(path)
            continue
        inside = [folder.path / name for folder in Folder(path, path).walk() for name in folder.listing.images]
        if not inside:
            raise EdgecError("empty-data", f"no images in '{path}'", "give image files, or a folder of them")
        found += sorted(inside)
    return found


def ask_bundle(folder: Path, images: Sequence[Path], top: int = 5) -> list[Answered]:
    """The artifact's answer to each image file.

    Raises:
        EdgecError: what ``open_bundle``, ``open_runner`` and ``read_image`` raise.
    """
    bundle = open_bundle(folder)
    pixels = (read_image(image, bundle.preprocess) for image in images)
    found = replies(bundle, open_runner(bundle, num_cores()), pixels, top)
    return [Answered(image, reply) for image, reply in zip(images, found, strict=True)]


def replies(bundle: Bundle, runner: Runner, pixels: Iterable[npt.NDArray[np.uint8]], top: int) -> Iterator[Reply]:
    """The artifact's answer to each image, ``(H, W, C)`` as the preprocessing resizes and crops it.

    Args:
        runner: of the artifact.
        top: classes per image.
    """
    task, names = task_of_bundle(bundle), [shape.name for shape in output_shapes(bundle.qdq_onnx)]
    for one in pixels:
        kept = task.keep(runner.predict(bundle.preprocess.normalise(one[None])), names)
        yield task.reply(kept, 0, bundle.labels, top, bundle.preprocess.rgb(one))


def save_tensors(folder: Path, answered: Sequence[Answered]) -> None:
    """One ``.npz`` for each image with its tensors by their names, and its pictures as ``.png`` each.

    They are named as the image is, and numbered where several have one name.

    Raises:
        EdgecError: ``output-not-writable``.
    """
    from PIL import Image

    try:
        folder.mkdir(parents=True, exist_ok=True)
        for one, stem in zip(answered, _apart([one.image.stem for one in answered]), strict=True):
            tensors: dict[str, Any] = dict(one.reply.tensors)
            np.savez(folder / f"{stem}.npz", **tensors)
            for name, picture in one.reply.pictures.items():
                Image.fromarray(picture).save(folder / f"{stem}.{name}.png")
    except OSError as error:
        message = f"cannot write into '{folder}': {error.strerror}"
        raise EdgecError("output-not-writable", message, "choose another --output") from error


def _apart(names: Sequence[str]) -> list[str]:
    """The names, with a number behind what was there before."""
    found: list[str] = []
    taken = set(names)
    for name in names:
        number, apart = 1, name
        while apart in found or (number > 1 and apart in taken):
            number += 1
            apart = f"{name}-{number}"
        found.append(apart)
    return found


def task_of_bundle(bundle: Bundle) -> Task:
    """The task that the manifest names.

    Raises:
        EdgecError: ``unknown-task``.
    """
    return load_task(bundle.manifest.accuracy.task)


def form_here(bundle: Bundle, threads: int | None = None) -> HereForm:
    """The artifact on this machine.

    Raises:
        EdgecError: ``cannot-run-here``.
    """
    found = here(bundle.target.compiler, bundle.settings, threads)
    if found is None:
        missing = load_compiler(bundle.target.compiler).probe(bundle.settings).missing
        message = f"this machine cannot run '{bundle.target.name}' artifacts: {missing}"
        raise EdgecError("cannot-run-here", message, "see 'edgec doctor'")
    return found


def open_runner(bundle: Bundle, threads: int) -> Runner:
    """The artifact, loaded on this machine.

    Raises:
        EdgecError: ``cannot-run-here``.
    """
    form_here(bundle)
    return load_compiler(bundle.target.compiler).open_runner(bundle.artifact, bundle.settings, threads)


def open_float(bundle: Bundle, artifact: Path, threads: int) -> Runner:
    """What ``float_artifact`` gave, loaded on this machine.

    Raises:
        EdgecError: ``cannot-run-here``.
    """
    form_here(bundle)
    compiler = load_compiler(bundle.target.compiler)
    return compiler.open_runner(artifact, float_settings(bundle.target), threads)


def on_device(bundle: Bundle, on: str, threads: int) -> OnDevice:
    """The artifact on a device.

    Raises:
        EdgecError: ``cannot-run-there``; what ``open_device`` raises.
    """
    compiler = load_compiler(bundle.target.compiler)
    return compiler.on_device(open_device(on), bundle.artifact, bundle.settings, threads)


def _noise(bundle: Bundle) -> Batch:
    """One standard normal input: no artifact is faster on a picture than on that."""
    return np.random.default_rng(0).standard_normal((1, *bundle.preprocess.shape)).astype(np.float32)


def _ask(form: Form, network: Path, bundle: Bundle, images: Dataset, task: Task) -> Kept:
    outputs = output_shapes(bundle.qdq_onnx)
    return ask(form.open(network), images, bundle.preprocess, task, outputs, form.batch_size)
