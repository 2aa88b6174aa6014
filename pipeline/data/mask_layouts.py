"""How people lay out pictures with masks: ``images/`` and ``masks/``, Pascal VOC, Cityscapes; whole or parted."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import PurePosixPath

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.data.dataset import Dataset, Sample
from edgec.pipeline.data.folders import Folder, check_inside, counted
from edgec.pipeline.data.labels import CLASSES, SPLITS, read_classes, read_text
from edgec.pipeline.data.masks import VOID, VOID_NAMES, Coding

IMAGES, MASKS, PALETTE = "images", "masks", "palette.csv"
MASK_SUFFIXES = ("", "_mask")

VOC_PICTURES, VOC_MASKS, VOC_LISTS = "JPEGImages", "SegmentationClass", "ImageSets/Segmentation"
VOC_CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
VOC_VOID_COLOR = (224, 224, 192)

CITY_PICTURES, CITY_MASKS = "leftImg8bit", "gtFine"
CITY_CLASSES = {
    **{"road": 7, "sidewalk": 8, "building": 11, "wall": 12, "fence": 13, "pole": 17, "traffic light": 19},
    **{"traffic sign": 20, "vegetation": 21, "terrain": 22, "sky": 23, "person": 24, "rider": 25, "car": 26},
    **{"truck": 27, "bus": 28, "train": 31, "motorcycle": 32, "bicycle": 33},
}
"""The 19 judged classes of Cityscapes (arXiv 1604.01685) with their label ids; their order is that of the train ids."""
CITY_IDS = tuple({stored: i for i, stored in enumerate(CITY_CLASSES.values())}.get(value, VOID) for value in range(34))


def open_masked_parts(whole: Folder) -> dict[str, Dataset] | None:
    """The parts of a data set with masks; None where the folder has none of the three layouts.

    Raises:
        EdgecError: ``empty-data``, ``bad-labels``, ``unsafe-path``, ``unreadable-data``.
    """
    names = whole.inner.keys()
    if {VOC_PICTURES, VOC_MASKS} <= names:
        return _voc(whole)
    if {CITY_PICTURES, CITY_MASKS} <= names:
        return _cityscapes(whole)
    if {IMAGES, MASKS} <= names:
        return _plain(whole)
    if parted := {SPLITS[n.lower()]: f for n, f in whole.inner.items() if n.lower() in SPLITS and _has_masks(f)}:
        coding, classes = _described(whole)
        return {
            part: _dataset(whole, _pairs(folder.inner[IMAGES], folder.inner[MASKS], whole), classes, coding)
            for part, folder in parted.items()
        }
    return None


def voc_color(index: int) -> tuple[int, int, int]:
    """The colour of a class in the palette of Pascal VOC: its bits, in turn to red, green and blue from the top."""
    channels = [0, 0, 0]
    for place in range(8):
        for channel in range(3):
            channels[channel] |= (index >> (3 * place + channel) & 1) << (7 - place)
    return channels[0], channels[1], channels[2]


def _has_masks(folder: Folder) -> bool:
    return {IMAGES, MASKS} <= folder.inner.keys()


def _plain(whole: Folder) -> dict[str, Dataset]:
    coding, classes = _described(whole)
    pictures, masks = whole.inner[IMAGES], whole.inner[MASKS]
    named = {SPLITS[n.lower()]: n for n in pictures.inner if n.lower() in SPLITS and n in masks.inner}
    if not named:
        return {"": _dataset(whole, _pairs(pictures, masks, whole), classes, coding)}
    return {
        part: _dataset(whole, _pairs(pictures.inner[name], masks.inner[name], whole), classes, coding)
        for part, name in named.items()
    }


def _voc(whole: Folder) -> dict[str, Dataset]:
    """Only the pictures that a list names; all that have masks where there are no lists."""
    coding, classes = _described(whole)
    if not classes:
        colors = (*map(voc_color, range(len(VOC_CLASSES))), VOC_VOID_COLOR)
        coding, classes = Coding((*range(len(VOC_CLASSES)), VOID), colors), VOC_CLASSES
    pairs = _pairs(whole.inner[VOC_PICTURES], whole.inner[VOC_MASKS], whole)
    found: dict[str, Dataset] = {}
    for part in ("train", "val", "test"):
        path = whole.path / VOC_LISTS / f"{part}.txt"
        if not os.path.lexists(path):
            continue
        check_inside(path, whole.base)
        stems = {PurePosixPath(pair.file).stem: pair for pair in pairs}
        listed = [line.split()[0] for line in read_text(path).split("\n") if line.strip()]
        missing = next((name for name in listed if name not in stems), None)
        if missing is not None:
            message = f"'{path}' names '{missing[:80]}', which has no picture with a mask"
            raise EdgecError("bad-labels", message, "remove the line or add picture and mask")
        found[part] = _dataset(whole, [stems[name] for name in listed], classes, coding)
    return found or {"": _dataset(whole, pairs, classes, coding)}


def _cityscapes(whole: Folder) -> dict[str, Dataset]:
    """Train ids where they were made, else label ids; a part whose masks are held back is left out."""
    found: dict[str, Dataset] = {}
    pictures, masks = whole.inner[CITY_PICTURES], whole.inner[CITY_MASKS]
    for name in ("train", "val", "test"):
        if name not in pictures.inner or name not in masks.inner:
            continue
        stored = _files(masks.inner[name])
        train_ids = any(file.endswith("_labelTrainIds.png") for file in stored)
        ending = f"_{CITY_MASKS}_{'labelTrainIds' if train_ids else 'labelIds'}.png"
        by_stem = {stem.removesuffix(ending): file for stem, file in ((file, stored[file]) for file in stored)}
        samples = [
            Sample(_relative(file, whole), None, _relative(by_stem[stem], whole))
            for key, file in _files(pictures.inner[name]).items()
            if (stem := key.rpartition("_leftImg8bit")[0]) in by_stem
        ]
        if samples:
            coding = Coding() if train_ids else Coding(CITY_IDS)
            found[name] = _dataset(whole, samples, tuple(CITY_CLASSES), coding)
    if not found:
        message = f"'{whole.path}' has no picture of {CITY_PICTURES} with a mask in {CITY_MASKS}"
        raise EdgecError("empty-data", message, "unpack gtFine beside leftImg8bit")
    return found


def _files(folder: Folder) -> dict[str, str]:
    """Every image below, by its path in the folder."""
    return {
        os.path.relpath(inner.path / name, folder.path): str(inner.path / name)
        for inner in folder.walk()
        for name in inner.listing.images
    }


def _relative(file: str, whole: Folder) -> str:
    return PurePosixPath(os.path.relpath(file, whole.path)).as_posix()


def _pairs(pictures: Folder, masks: Folder, whole: Folder) -> list[Sample]:
    """Pictures with the masks of their names, in folders of the same names."""
    by_stem = {os.path.splitext(key)[0]: file for key, file in _files(masks).items()}
    found = []
    for key, file in _files(pictures).items():
        stem = os.path.splitext(key)[0]
        mask = next((by_stem[stem + suffix] for suffix in MASK_SUFFIXES if stem + suffix in by_stem), None)
        if mask is not None:
            found.append(Sample(_relative(file, whole), None, _relative(mask, whole)))
    if not found:
        message = f"no picture of '{pictures.path}' has a mask in '{masks.path}'"
        raise EdgecError("empty-data", message, "give both the same name: images/a.jpg, masks/a.png")
    return found


def _dataset(whole: Folder, samples: list[Sample], classes: tuple[str, ...], coding: Coding) -> Dataset:
    used = {sample.file for sample in samples}
    folders = {PurePosixPath(name).parent for name in used}
    beside = sum(
        PurePosixPath(parent, name).as_posix() not in used
        for parent in folders
        for name in Folder(whole.path / parent, whole.base).listing.images
    )
    notes = counted(beside, "image", "without a mask, or that no list names")
    return Dataset(whole.path, tuple(samples), classes, notes, coding)


def _described(whole: Folder) -> tuple[Coding, tuple[str, ...]]:
    """What ``palette.csv``, else ``classes.txt``, says of the masks: a line named void is no class."""
    palette, listed = whole.path / PALETTE, whole.path / CLASSES
    if os.path.lexists(palette):
        check_inside(palette, whole.base)
        colors = _palette(read_text(palette), str(palette))
        coding, classes = _numbered(colors)
        stored = coding.classes or tuple(range(len(colors)))
        return replace(coding, classes=stored, colors=tuple(colors.values())), classes
    if os.path.lexists(listed):
        check_inside(listed, whole.base)
        return _numbered(read_classes(listed))
    return Coding(), ()


def _numbered(names: Iterable[str]) -> tuple[Coding, tuple[str, ...]]:
    """Classes in order without void, those behind it move up."""
    given = tuple(names)
    classes = tuple(name for name in given if name.lower() not in VOID_NAMES)
    if len(classes) >= VOID:
        raise EdgecError("bad-labels", f"{len(classes)} classes, expected fewer than {VOID}", "masks have 8 bits")
    if len(classes) == len(given):
        return Coding(), classes
    index = {name: i for i, name in enumerate(classes)}
    return Coding(tuple(index.get(name, VOID) for name in given)), classes


def _palette(text: str, path: str) -> Mapping[str, tuple[int, int, int]]:
    """Colours by class name, in order."""
    found: dict[str, tuple[int, int, int]] = {}
    rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text)) if any(row)]
    if not rows or [name.lower() for name in rows[0]] != ["name", "red", "green", "blue"]:
        raise EdgecError("bad-labels", f"'{path}' has other columns than name,red,green,blue", "add the header line")
    for line, row in enumerate(rows[1:], 2):
        values = [int(cell) for cell in row[1:] if cell.isascii() and cell.isdigit() and len(cell) < 4]
        if len(row) != 4 or not row[0] or len(values) != 3 or max(values) > 255:
            message = f"'{path}' line {line}: expected a name and three numbers from 0 to 255"
            raise EdgecError("bad-labels", message, "mend the line")
        color = values[0], values[1], values[2]
        if row[0] in found or color in found.values():
            message = f"'{path}' line {line} has the name or the colour of an earlier line"
            raise EdgecError("bad-labels", message, "each once")
        found[row[0]] = color
    return found
