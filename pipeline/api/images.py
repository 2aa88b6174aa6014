"""Images from memory: lossless files for the time of one call, which all below reads as any others."""

from __future__ import annotations

import csv
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.scratch import scratch
from edgec.pipeline.data.labels import LABELS, check_labels

Pixels = npt.NDArray[np.uint8]
MISSING: Any = object()
LABEL_HINT = "give all labels as class indices, or all as names"


@dataclass(frozen=True, eq=False)
class Images:
    """Pictures in memory, and what is right of them.

    Attributes:
        images: ``(N, H, W, C)`` or ``(N, H, W)`` uint8, or a list or an iterator of ``(H, W, C)`` or ``(H, W)``, whose
            sizes may differ, or of PIL images. C is 1, 3 (red, green, blue) or 4 (alpha). An iterator is read once.
        labels: for each image its class, all as indices or all as names; None where it is not known.
        classes: names by index; with names alone the sorted ones.
    """

    images: Iterable[Any]
    labels: Iterable[int] | Iterable[str] | None = None
    classes: Sequence[str] = ()


Data = str | os.PathLike[str] | Images | Iterable[Any]
"""A folder as ``--data`` takes it, ``Images``, or what ``Images.images`` takes."""


@contextmanager
def as_folder(data: Data) -> Iterator[Path]:
    """A folder with the images; those from memory go with the block.

    Raises:
        EdgecError: ``bad-images``; what ``scratch`` raises.
    """
    if isinstance(data, str | os.PathLike):
        yield Path(data)
        return
    with scratch("images") as folder:
        _write(data if isinstance(data, Images) else Images(data), folder)
        yield folder


def folder_or_none(data: Data | None) -> AbstractContextManager[Path | None]:
    """The same of an argument that may be left away."""
    return nullcontext() if data is None else as_folder(data)


def _write(given: Images, folder: Path) -> None:
    """Numbered PNG files, and ``labels.csv`` where there are labels."""
    if given.labels is None:
        for number, pixels in enumerate(pictures(given.images)):
            _save(pixels, folder / _file(number))
        _some(folder)
        return
    classes, kinds = _class_names(given.classes), set[bool]()
    with (folder / LABELS).open("w", newline="", encoding="utf-8") as table:
        rows = csv.writer(table, lineterminator="\n")
        rows.writerow(["file", "class_index", "label"])
        pairs: Iterable[tuple[Any, Any]] = itertools.zip_longest(
            pictures(given.images), given.labels, fillvalue=MISSING
        )
        for number, (pixels, label) in enumerate(pairs):
            if pixels is MISSING or label is MISSING:
                less, more = ("images", "labels") if pixels is MISSING else ("labels", "images")
                raise bad_images(f"{number} {less}, and more {more} than that", "give one label for each image")
            kinds.add(isinstance(label, str))
            if len(kinds) > 1:
                raise bad_images(
                    f"image {number} has {label!r:.40} as its label, and others are of another kind", LABEL_HINT
                )
            _save(pixels, folder / _file(number))
            rows.writerow([_file(number), *_label(label, classes, number)])
    _some(folder)


def _some(folder: Path) -> None:
    if not (folder / _file(0)).exists():
        raise bad_images("there are no images", "an iterator gives its images once: make a new one, or a list")


def _save(pixels: Pixels | Path, file: Path) -> None:
    if isinstance(pixels, Path):
        raise bad_images(f"'{pixels}' is a path between images from memory", "give the folder of the images, as data")
    Image.fromarray(pixels).save(file)


def _file(number: int) -> str:
    return f"{number:08d}.png"


def _class_names(classes: Sequence[str]) -> dict[str, int]:
    """Index by name."""
    try:
        check_labels(classes)
    except ValueError as error:
        raise bad_images(str(error), "rename the class") from error
    found = {name: index for index, name in enumerate(classes)}
    if len(found) < len(classes):
        raise bad_images(f"{len(classes)} classes have {len(found)} names", "name each class once")
    return found


def _label(label: Any, classes: dict[str, int], number: int) -> tuple[int | str, str]:
    """(class_index, label) as ``labels.csv`` keeps them; what is not known stays empty."""
    if isinstance(label, str):
        if not label.strip() or (classes and label not in classes):
            raise bad_images(f"image {number} has the label {label[:40]!a}, which is no class", "mend the label")
        return classes.get(label, ""), label
    names = tuple(classes)
    try:
        index = label.__index__()
    except (AttributeError, TypeError) as error:
        message = f"image {number} has a {type(label).__name__} as its label"
        raise bad_images(message, LABEL_HINT) from error
    if index < 0 or (names and index >= len(names)):
        expected = f"0 to {len(names) - 1}" if names else "0 or more"
        raise bad_images(f"image {number} has class {index}, expected {expected}", "number the classes from 0")
    return index, names[index] if names else ""


def pictures(images: Iterable[Any]) -> Iterator[Pixels | Path]:
    """Each image as ``(H, W)`` or ``(H, W, C)`` uint8, C 3 or 4, or as the path that stands for it.

    Raises:
        EdgecError: ``bad-images`` names the image, by its number from 0.
    """
    shape = getattr(images, "shape", None)
    if shape is not None and len(shape) not in (3, 4):
        raise bad_images(f"an array {tuple(shape)}, expected (N, H, W, C) or (N, H, W)", "one image is a list of one")
    if shape is not None and len(shape) == 3 and shape[-1] in (3, 4):
        raise bad_images(f"an array {tuple(shape)} is one image", "give a list of one: [image]")
    if not isinstance(images, Iterable):
        raise bad_images(f"{type(images).__name__} is no array, list or iterator of images", "see docs/python.md")
    for number, image in enumerate(images):
        yield Path(image) if isinstance(image, str | os.PathLike) else _pixels(image, number)


def _pixels(image: Any, number: int) -> Pixels:
    if isinstance(image, Image.Image):
        image = image if image.mode in ("L", "RGB", "RGBA") else image.convert("RGB")
    try:
        pixels = np.asarray(image)
    except (TypeError, ValueError, RuntimeError) as error:  # a tensor on a GPU, a ragged list
        raise bad_images(f"image {number} is no array: {error}", "give NumPy arrays or PIL images") from error
    if pixels.dtype != np.uint8:
        message = f"image {number} has values of {pixels.dtype}, expected uint8 pixels of 0 to 255"
        raise bad_images(message, "give pixels as they are read: the preprocessing is the network's")
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[-1] not in (3, 4)) or not pixels.size:
        message = f"image {number} is {pixels.shape}, expected (H, W, C) with 1, 3 or 4 channels, or (H, W)"
        raise bad_images(message, "put the channels last")
    return np.ascontiguousarray(pixels)


def bad_images(message: str, hint: str) -> EdgecError:
    """The refusal of images from memory."""
    return EdgecError("bad-images", message, hint)
