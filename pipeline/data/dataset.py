"""Data sets of images: folder-per-class, ``labels.csv`` or unlabelled; splits; streamed batches."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.stage import Artifact, file_sha256
from edgec.pipeline.data.masks import INDICES, Coding
from edgec.pipeline.data.preprocess import Preprocess

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)
DECODED_BYTES = 160 << 20
SPLIT_SEED = 20261  # which images calibrate and which test, when one folder serves both

Purpose = Literal["calibration", "test"]
Version = tuple[int, int, int, int]
_PARTS: dict[Purpose, tuple[str, ...]] = {"calibration": ("calibration", "train"), "test": ("test", "val")}


@dataclass(frozen=True)
class Sample:
    """One image file, relative to its data set's root, with its class index and its mask's file, or None."""

    file: str
    label: int | None
    mask: str | None = None


@dataclass(frozen=True)
class Dataset:
    """Images under ``root`` in a fixed order.

    Attributes:
        samples: the images.
        classes: names by class index; empty where the set is unlabelled or has indices only.
        left_out: what lies there and is not used, counted in words.
        coding: how masks name classes.
    """

    root: Path
    samples: tuple[Sample, ...]
    classes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = field(default=(), compare=False)
    coding: Coding = INDICES

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def labels(self) -> npt.NDArray[np.int64] | None:
        """Class indices ``(N,)``, or None where any image is unlabelled."""
        if any(sample.label is None for sample in self.samples):
            return None
        return np.array([sample.label for sample in self.samples], np.int64)

    @property
    def has_masks(self) -> bool:
        """Every image has one."""
        return bool(self.samples) and all(sample.mask is not None for sample in self.samples)

    def take(self, count: int) -> Dataset:
        """The first ``count`` images of a seeded shuffle, in that order: a subset without class bias."""
        order = np.random.default_rng(SPLIT_SEED).permutation(len(self))[:count]
        return replace(self, samples=tuple(self.samples[i] for i in order))

    def halves(self) -> tuple[Dataset, Dataset]:
        """Two disjoint halves of a seeded shuffle: (calibration, test)."""
        order = np.random.default_rng(SPLIT_SEED).permutation(len(self))
        middle = len(self) // 2
        first, second = (tuple(self.samples[i] for i in sorted(part)) for part in (order[:middle], order[middle:]))
        return replace(self, samples=first), replace(self, samples=second)

    def artifact(self) -> Artifact:
        """The set as a stage's input. Its digest covers bytes, order, labels and masks, not where they lie."""
        digest = hashlib.sha256()
        for sample in self.samples:
            digest.update(f"{sample.label}\0{_read_sha256(self.root / sample.file)}\n".encode())
            if sample.mask is not None:
                digest.update(f"{_read_sha256(self.root / sample.mask)}\0{self.coding}\n".encode())
        return Artifact(self.root, digest.hexdigest())


def open_dataset(root: Path, purpose: Purpose = "test") -> Dataset:
    """The images of a folder for one purpose: all of them, or its part for that where it is parted.

    A folder holds ``labels.csv``, one folder of images per class, images with masks, or images. It is parted by folders
    ``train``, ``val``, ``test`` or ``calibration`` with any of these inside, or by a column ``split`` of
    ``labels.csv``. Images to calibrate come from ``calibration``, else ``train``; to test from ``test``, else ``val``;
    they never mix.

    Raises:
        EdgecError: ``no-such-file``, ``empty-data``, ``bad-labels``, ``class-mismatch``, ``unreadable-data``,
            ``unsafe-path``.
    """
    from edgec.pipeline.data.layouts import open_parts

    return _part(root, open_parts(root), purpose)


def split_off_deciding(test: Dataset) -> tuple[Dataset, Dataset]:
    """(deciding, test): images that may decide what is built, and those left to judge it.

    Raises:
        EdgecError: ``empty-data`` where there are fewer than two.
    """
    deciding, rest = test.halves()
    if not deciding.samples:
        message = f"'{test.root}' has one image for tests, and what is built needs another that decides"
        raise EdgecError("empty-data", message, "give more images")
    return deciding, rest


def open_splits(root: Path) -> tuple[Dataset, Dataset]:
    """(calibration, test) of one folder: its parts for these where it is parted, else two disjoint halves.

    Raises:
        EdgecError: as ``open_dataset``; ``empty-data`` where fewer than two images are there to split.
    """
    from edgec.pipeline.data.layouts import WHOLE, open_parts

    parts = open_parts(root)
    if WHOLE not in parts:
        return _part(root, parts, "calibration"), _part(root, parts, "test")
    calibration, test = parts[WHOLE].halves()
    if not calibration.samples:
        raise EdgecError("empty-data", f"'{root}' has one image, which cannot be split", "give at least two images")
    return calibration, test


def _part(root: Path, parts: Mapping[str, Dataset], purpose: Purpose) -> Dataset:
    name = _first(parts, purpose)
    if name is None:
        message = f"'{root}' has only the parts {', '.join(sorted(parts))}, and none for {purpose}"
        raise EdgecError("empty-data", message, f"add images of {' or '.join(_PARTS[purpose])}")
    used = {_first(parts, each) for each in _PARTS}
    unused = tuple(f"{len(parts[part]):,} images of {part}" for part in sorted(parts.keys() - used - {name}))
    return replace(parts[name], left_out=parts[name].left_out + unused)


def _first(parts: Mapping[str, Dataset], purpose: Purpose) -> str | None:
    return next((name for name in ("", *_PARTS[purpose]) if name in parts), None)


def batches(dataset: Dataset, preprocess: Preprocess, batch_size: int = 16) -> Iterator[npt.NDArray[np.float32]]:
    """The images in order as ``(N, C, H, W)`` float32, decoded on two threads; one batch is read ahead.

    Raises:
        EdgecError: ``unreadable-image`` names the file.
    """
    from concurrent.futures import Future, ThreadPoolExecutor

    decoded = _decoded_of(dataset.root, preprocess)

    def read(sample: Sample) -> npt.NDArray[np.uint8]:
        return decoded.pixels(sample.file)[None]

    starts = range(0, len(dataset), batch_size)
    with ThreadPoolExecutor(2) as pool:
        ahead: list[Future[npt.NDArray[np.uint8]]] = []
        for start in starts:
            ahead += [pool.submit(read, s) for s in dataset.samples[start + len(ahead) : start + 2 * batch_size]]
            now, ahead = ahead[:batch_size], ahead[batch_size:]
            yield np.concatenate(list(pool.map(preprocess.normalise, [future.result() for future in now])))


class _Decoded:
    """Pixels of one set of images: each is decoded once, and kept while all that are kept fit into ``DECODED_BYTES``.

    Calibration, bias correction and three forms of a network read the same images one after another.
    """

    def __init__(self, root: Path, preprocess: Preprocess) -> None:
        self._root, self._preprocess = root, preprocess
        self._kept: dict[tuple[str, Version], npt.NDArray[np.uint8]] = {}
        self._room = DECODED_BYTES

    def pixels(self, file: str) -> npt.NDArray[np.uint8]:
        """As ``read_image``; a file that has changed since is decoded again."""
        path = self._root / file
        key = (file, _version(path))
        if key in self._kept:
            return self._kept[key]
        pixels = read_image(path, self._preprocess)
        if pixels.nbytes <= self._room:
            self._kept[key] = pixels
            self._room -= pixels.nbytes
        return pixels


@lru_cache(maxsize=1)
def _decoded_of(root: Path, preprocess: Preprocess) -> _Decoded:
    """The set that was asked for last is the one that is kept."""
    return _Decoded(root, preprocess)


def _read_sha256(path: Path) -> str:
    """Of a file that a build asks for several times; read once until it changes."""
    return _sha256_of(path, _version(path))


@lru_cache(maxsize=20_000)
def _sha256_of(path: Path, version: Version) -> str:
    return file_sha256(path)


def _version(path: Path) -> Version:
    """By which a file that was written again is known, whatever time it was given; zeros where there is none."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0, 0, 0
    return status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_size


def read_image(path: Path, preprocess: Preprocess) -> npt.NDArray[np.uint8]:
    """One image as ``(H, W, C)`` uint8 pixels, resized and cropped.

    Raises:
        EdgecError: ``no-such-file``, ``unreadable-image``.
    """
    if not os.path.isfile(path):
        raise EdgecError("no-such-file", f"no image '{path}'", "check the path")
    return preprocess.pixels(path)


def check_classes(dataset: Dataset, num_classes: int) -> None:
    """Refuse labels that the network cannot answer.

    Raises:
        EdgecError: ``class-mismatch``.
    """
    labels = dataset.labels
    if labels is not None and len(labels) and int(labels.max()) >= num_classes:
        named = f" ('{dataset.classes[int(labels.max())]}')" if dataset.classes else ""
        raise EdgecError(
            "class-mismatch",
            f"'{dataset.root}' has class index {int(labels.max())}{named}, expected fewer than {num_classes} classes",
            "use weights trained for these classes, or a data set of the network's classes",
        )
