"""A bundle in Python: what it is, and what its artifact answers to images in memory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from edgec.pipeline.api.calls import call
from edgec.pipeline.api.images import Data, Pixels, as_folder, bad_images, pictures
from edgec.pipeline.bundle import read
from edgec.pipeline.bundle.manifest import Manifest
from edgec.pipeline.bundle.use import evaluate_bundle, measure_bundle, open_runner, replies
from edgec.pipeline.bundle.verify import Verified, verify
from edgec.pipeline.core.at_once import num_cores
from edgec.pipeline.core.progress import Listener
from edgec.pipeline.core.words import size_words
from edgec.pipeline.data.dataset import read_image
from edgec.pipeline.forms.compiler import Runner
from edgec.pipeline.forms.form import IMAGES_HERE
from edgec.pipeline.forms.format import Batch
from edgec.pipeline.forms.measure import Cost, Latency
from edgec.pipeline.tasks.accuracy import Accuracy, Row, rows
from edgec.pipeline.tasks.task import Reply


@dataclass(frozen=True, eq=False, repr=False)
class Bundle:
    """A finished build, every file of it checked when it was opened.

    Attributes:
        opened: the same as the rest of edgec sees it.
    """

    opened: read.Bundle

    @property
    def path(self) -> Path:
        """The folder."""
        return self.opened.folder

    @property
    def manifest(self) -> Manifest:
        """Everything that ``manifest.json`` says."""
        return self.opened.manifest

    @property
    def artifact(self) -> Path:
        """The file or folder that runs on the target."""
        return self.opened.artifact

    @property
    def size_bytes(self) -> int:
        """Of the artifact."""
        return self.manifest.size_bytes

    @property
    def accuracy(self) -> Accuracy:
        """Of the float network, the QDQ reference and the artifact on the test images; rates in percent."""
        return self.manifest.accuracy

    @property
    def latency(self) -> Latency:
        """Of one image, in milliseconds; ``status`` says whether it was measured."""
        return self.manifest.latency

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names by index; may be empty."""
        return self.opened.labels

    def predict(self, images: Any) -> dict[str, npt.NDArray[Any]]:
        """What the artifact answers here.

        Args:
            images: pixels, ``(N, H, W, C)`` uint8, or a list or an iterator of images whose sizes may differ (arrays,
                PIL images, paths): the bundle's own preprocessing makes inputs of them. Or inputs, an array of floats
                ``(N, C, H, W)`` or as ``manifest.contract.inputs`` says: they go in as they are.

        Returns:
            Arrays ``(N, ...)`` float32 in the layout of the float network, by the names of ``contract.outputs``.

        Raises:
            EdgecError: ``bad-images``, ``no-such-file``, ``unreadable-image``, ``cannot-run-here``.
        """
        with call():
            parts = [self._runner.predict(batch) for batch in self._inputs(images)]
        if not parts:
            raise bad_images("there are no images", "give one at least")
        names = [tensor.name for tensor in self.manifest.contract.outputs]
        return {name: np.concatenate(found) for name, found in zip(names, zip(*parts, strict=True), strict=True)}

    def ask(self, images: Any, top: int = 5) -> list[Reply]:
        """What ``edgec run`` says about each image: ``lines`` of class and share, or ``tensors`` by name.

        Args:
            images: pixels, as ``predict`` takes them.

        Raises:
            EdgecError: as ``predict``.
        """
        with call():
            return list(replies(self.opened, self._runner, self._pixels(images), top))

    def verify(
        self, trusted_key: Sequence[str | os.PathLike[str]] = (), *, no_run: bool = False, on: str | None = None
    ) -> Verified:
        """Prove it again, as ``edgec verify`` does: files, signatures, contract, golden vectors.

        Args:
            trusted_key: PEM files; it must be signed with each.
            no_run: leave the golden vectors.
            on: a device that runs them, instead of this machine.

        Raises:
            EdgecError: what ``edgec verify`` raises.
        """
        with call():
            return verify(self.path, [Path(key) for key in trusted_key], not no_run, on)

    def evaluate(self, data: Data, *, on: str | None = None, progress: Listener | None = None) -> Accuracy:
        """Accuracy on other images, in a folder or in memory: ``edgec evaluate``.

        Raises:
            EdgecError: ``bad-images``; what ``edgec evaluate`` raises.
        """
        with call(progress), as_folder(data) as folder:
            return evaluate_bundle(self.opened, folder, on)

    def measure(self, *, threads: int | None = None, on: str | None = None) -> Cost:
        """Latency on this machine or a device: ``edgec measure``.

        Raises:
            EdgecError: what ``edgec measure`` raises.
        """
        with call():
            return measure_bundle(self.path, threads or os.cpu_count() or 1, on)

    def report(self) -> Path:
        """``report.html``: one page for people, which needs nothing beside it."""
        return self.path / "report.html"

    @cached_property
    def _runner(self) -> Runner:
        return open_runner(self.opened, num_cores())

    def _inputs(self, images: Any) -> Iterator[Batch]:
        """``(N, C, H, W)`` float32, a few at once."""
        array = None if isinstance(images, Image.Image) or not hasattr(images, "__array__") else np.asarray(images)
        if array is not None and array.dtype.kind == "f":
            inputs = self._as_network(array)
            yield from (inputs[start : start + IMAGES_HERE] for start in range(0, len(inputs), IMAGES_HERE))
            return
        pixels = self._pixels(images if array is None else array)
        while group := list(islice(pixels, IMAGES_HERE)):
            yield self.opened.preprocess.normalise(np.stack(group))

    def _as_network(self, array: npt.NDArray[Any]) -> Batch:
        """Inputs in the contract's layout, or in the network's."""
        contract, sides = self.manifest.contract.inputs[0], self.opened.preprocess.shape
        if contract.layout == "NHWC" and array.shape[1:] == contract.shape[1:]:
            array = array.transpose(0, 3, 1, 2)
        if array.ndim != 4 or array.shape[1:] != sides:
            stated = "" if contract.layout == "NCHW" else f" or (N, {', '.join(map(str, contract.shape[1:]))})"
            message = f"inputs are {array.shape}, expected (N, {', '.join(map(str, sides))}){stated}"
            raise bad_images(message, "pixels are uint8 of any size, and are preprocessed; floats are not")
        return np.ascontiguousarray(array, np.float32)

    def _pixels(self, images: Any) -> Iterator[Pixels]:
        """Each image as the preprocessing resizes and crops it, ``(H, W, C)``."""
        preprocess = self.opened.preprocess
        if isinstance(images, str | os.PathLike):
            raise bad_images(f"'{os.fspath(images)}' is one path", "give a list of image files, or arrays")
        for image in pictures(images):
            if isinstance(image, Path):
                yield read_image(image, preprocess)
            else:
                yield preprocess.pixels_of(Image.fromarray(image).convert(preprocess.mode))

    def __repr__(self) -> str:
        """One line."""
        return f"<edgec.Bundle '{self.path}': {'; '.join(f'{name} {text}' for name, text in self._facts())}>"

    def _repr_html_(self) -> str:
        """A card for notebooks."""
        facts = "".join(f"<tr><td>{escape(name)}</td><td>{escape(text)}</td></tr>" for name, text in self._facts())
        head = "".join(f"<th>{name}</th>" for name in ("", "float", "QDQ reference", "target"))
        body = "".join(_line(row) for row in rows(self.accuracy, self.labels))
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.manifest.notes)
        listed = f"<ul>{notes}</ul>" if notes else ""
        return (
            f"<div><table>{facts}</table><table><tr>{head}</tr>{body}</table>{listed}"
            f"<code>{escape(str(self.path))}</code></div>"
        )

    @property
    def _shipped(self) -> int:
        """Where a row of accuracies has the form that answered as the shipped one."""
        return 2 if self.accuracy.shipped == "target" else 1

    def _facts(self) -> Iterator[tuple[str, str]]:
        manifest, latency = self.manifest, self.latency
        yield "model", f"{manifest.model.name} {manifest.model.version}"
        yield "target", f"{manifest.target.name} ({manifest.target.precision_words}, {manifest.target.runtime})"
        yield "artifact", f"{manifest.target.artifact}, {size_words(self.size_bytes)}"
        for row in rows(self.accuracy, self.labels)[:1]:
            shipped, before = (f"{row.cell(form)} {row.unit}".rstrip() for form in (self._shipped, 0))
            compared = "" if row.values[0] is None else f", float {before}"
            yield row.label, f"{shipped}{compared}, {self.accuracy.num_images} images"
        yield "latency", "not measured" if latency.p50_ms is None else f"p50 {latency.p50_ms:.3f} ms"


def open_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Open a bundle's folder; every file's digest is checked first.

    Raises:
        EdgecError: ``no-such-file``, ``no-bundle``, ``corrupt-bundle``, ``unsafe-path``, ``no-permission``.
    """
    with call():
        return Bundle(read.open_bundle(Path(path)))


def _line(row: Row) -> str:
    cells = (f"{row.label} {row.unit}".rstrip(), *map(row.cell, range(3)))
    return f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
