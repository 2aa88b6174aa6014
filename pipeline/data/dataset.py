"""Data sets of images: folder-per-class, ``labels.csv`` or unlabelled; splits; streamed batches."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.store import Artifact, file_sha256
from edgec.pipeline.data.preprocess import Preprocess

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm"})
SPLIT_SEED = 20261  # which images calibrate and which test, when one folder serves both


@dataclass(frozen=True)
class Sample:
    """One image file, relative to its data set's root, with its class index or None."""

    file: str
    label: int | None


@dataclass(frozen=True)
class Dataset:
    """Images under ``root`` in a fixed order.

    Attributes:
        samples: the images.
        classes: names by class index; empty where the set is unlabelled or has indices only.
    """

    root: Path
    samples: tuple[Sample, ...]
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def labels(self) -> npt.NDArray[np.int64] | None:
        """Class indices ``(N,)``, or None where any image is unlabelled."""
        if any(sample.label is None for sample in self.samples):
            return None
        return np.array([sample.label for sample in self.samples], np.int64)

    def take(self, count: int) -> Dataset:
        """The first ``count`` images of a seeded shuffle, in that order: a subset without class bias."""
        order = np.random.default_rng(SPLIT_SEED).permutation(len(self))[:count]
        return Dataset(self.root, tuple(self.samples[i] for i in order), self.classes)

    def halves(self) -> tuple[Dataset, Dataset]:
        """Two disjoint halves of a seeded shuffle: (calibration, test)."""
        order = np.random.default_rng(SPLIT_SEED).permutation(len(self))
        middle = len(self) // 2
        first, second = (tuple(self.samples[i] for i in sorted(part)) for part in (order[:middle], order[middle:]))
        return Dataset(self.root, first, self.classes), Dataset(self.root, second, self.classes)

    def artifact(self) -> Artifact:
        """The set as a stage's input. Its digest covers the images' bytes, order and labels, not where they lie."""
        digest = hashlib.sha256()
        for sample in self.samples:
            digest.update(f"{sample.label}\0{file_sha256(self.root / sample.file)}\n".encode())
        return Artifact(self.root, digest.hexdigest())


def open_dataset(root: Path) -> Dataset:
    """Read a folder: ``labels.csv``, one folder per class, or plain images.

    ``labels.csv`` has the columns ``file`` and ``class_index`` or ``label``.

    Raises:
        EdgecError: ``no-such-file``, ``empty-data``, ``bad-labels``.
    """
    if not root.is_dir():
        raise EdgecError("no-such-file", f"no data folder '{root}'", "give a folder of images to --data")
    if (root / "labels.csv").is_file():
        dataset = _from_csv(root)
    elif any(_images(folder) for folder in _folders(root)):
        dataset = _from_folders(root)
    else:
        dataset = Dataset(root, tuple(Sample(file, None) for file in _images(root)))
    if not dataset.samples:
        expected = "labels.csv, one folder of images per class, or images: " + " ".join(sorted(IMAGE_SUFFIXES))
        raise EdgecError("empty-data", f"no images in '{root}'", f"expected {expected}")
    return dataset


def split_off_deciding(test: Dataset) -> tuple[Dataset, Dataset]:
    """(deciding, test): images that may decide what is built, and those left to judge it.

    Raises:
        EdgecError: ``empty-data`` where there are fewer than two.
    """
    deciding, rest = test.halves()
    if not deciding.samples:
        message = f"'{test.root}' has one image for tests, and --max-drop-pp needs another that decides"
        raise EdgecError("empty-data", message, "give more images")
    return deciding, rest


def open_splits(root: Path) -> tuple[Dataset, Dataset]:
    """(calibration, test) of one folder: its ``calibration/`` and ``test/`` where they exist, else two disjoint halves.

    Raises:
        EdgecError: as ``open_dataset``; ``empty-data`` where fewer than two images are there to split.
    """
    if (root / "calibration").is_dir() and (root / "test").is_dir():
        return open_dataset(root / "calibration"), open_dataset(root / "test")
    calibration, test = open_dataset(root).halves()
    if not calibration.samples:
        raise EdgecError("empty-data", f"'{root}' has one image, which cannot be split", "give at least two images")
    return calibration, test


def batches(dataset: Dataset, preprocess: Preprocess, batch_size: int = 16) -> Iterator[npt.NDArray[np.float32]]:
    """The images in order as ``(N, 3, H, W)`` float32, decoded on two threads; one batch is read ahead.

    Raises:
        EdgecError: ``unreadable-image`` names the file.
    """
    from concurrent.futures import Future, ThreadPoolExecutor

    def read(sample: Sample) -> npt.NDArray[np.uint8]:
        return read_image(dataset.root / sample.file, preprocess)

    starts = range(0, len(dataset), batch_size)
    with ThreadPoolExecutor(2) as pool:
        ahead: list[Future[npt.NDArray[np.uint8]]] = []
        for start in starts:
            ahead += [pool.submit(read, s) for s in dataset.samples[start + len(ahead) : start + 2 * batch_size]]
            now, ahead = ahead[:batch_size], ahead[batch_size:]
            yield preprocess.normalise(np.stack([future.result() for future in now]))


def read_image(path: Path, preprocess: Preprocess) -> npt.NDArray[np.uint8]:
    """One image as ``(H, W, 3)`` uint8 pixels, resized and cropped.

    Raises:
        EdgecError: ``no-such-file``, ``unreadable-image``.
    """
    try:
        return preprocess.pixels(path)
    except FileNotFoundError:
        raise EdgecError("no-such-file", f"no image '{path}'", "check the path") from None
    except (OSError, SyntaxError, ValueError) as error:  # what PIL raises for a damaged file, by format
        raise EdgecError(
            "unreadable-image", f"cannot read the image '{path}': {error}", "replace or remove this file"
        ) from error


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


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _images(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())


def _from_folders(root: Path) -> Dataset:
    folders = _folders(root)
    order = root / "classes.txt"
    names = order.read_text().split("\n") if order.is_file() else [folder.name for folder in folders]
    classes = tuple(name.strip() for name in names if name.strip())
    unknown = sorted({folder.name for folder in folders} - set(classes))
    if unknown:
        raise EdgecError(
            "bad-labels", f"folder '{unknown[0]}' is not in '{order}'", "add it there, or remove the folder"
        )
    samples = [
        Sample(f"{name}/{file}", i)
        for i, name in enumerate(classes)
        if (root / name).is_dir()
        for file in _images(root / name)
    ]
    return Dataset(root, tuple(samples), classes)


def _from_csv(root: Path) -> Dataset:
    path = root / "labels.csv"
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = set(rows[0]) if rows else set()
    if "file" not in columns or not columns & {"class_index", "label"}:
        found = ", ".join(sorted(columns)) or "nothing"
        raise EdgecError(
            "bad-labels", f"'{path}' has columns {found}, expected file and class_index or label", "add a header line"
        )
    if "class_index" not in columns:
        classes = tuple(sorted({row["label"] for row in rows}))
        indices = {name: i for i, name in enumerate(classes)}
        return Dataset(
            root,
            tuple(Sample(_file(root, row["file"], n), indices[row["label"]]) for n, row in enumerate(rows, 2)),
            classes,
        )
    samples = []
    for line, row in enumerate(rows, 2):
        if not row["class_index"].strip().isdecimal():
            raise EdgecError(
                "bad-labels", f"'{path}' line {line}: class_index '{row['class_index']}', expected a number from 0", ""
            )
        samples.append(Sample(_file(root, row["file"], line), int(row["class_index"])))
    named = {int(row["class_index"]): row.get("label") or "" for row in rows}
    classes = tuple(named.get(i, "") for i in range(max(named) + 1)) if any(named.values()) else ()
    return Dataset(root, tuple(samples), classes)


def _file(root: Path, file: str, line: int) -> str:
    """Images lie beside ``labels.csv`` or in ``images/``."""
    for name in (file, f"images/{file}"):
        if (root / name).is_file():
            return name
    raise EdgecError(
        "bad-labels",
        f"'{root / 'labels.csv'}' line {line} names '{file}', which is not there",
        "remove the line or add the image",
    )
