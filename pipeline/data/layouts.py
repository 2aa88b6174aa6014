"""How people lay out pictures: class folders, ``labels.csv``, masks, plain images; whole, or parted.

Parts are train, val, test and calibration. Nothing outside the folder is read: links and names that leave it are
refused. What is not used is counted.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path, PurePosixPath

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.data.dataset import IMAGE_SUFFIXES, Dataset, Sample
from edgec.pipeline.data.folders import Folder, check_inside, counted, left_over
from edgec.pipeline.data.labels import CLASSES, LABELS, SPLITS, Row, check_labels, read_classes, read_rows
from edgec.pipeline.data.mask_layouts import open_masked_parts

WHOLE = ""
"""The one part of a folder that is not parted."""


def open_parts(root: Path) -> dict[str, Dataset]:
    """The data set's parts by ``train``, ``val``, ``test`` and ``calibration``, or ``WHOLE`` where it is not parted.

    Raises:
        EdgecError: ``no-such-file``, ``unreadable-data``, ``empty-data``, ``bad-labels``, ``unsafe-path``,
            ``class-mismatch``.
    """
    if not os.path.isdir(root):
        what = "is no folder" if os.path.lexists(root) else "does not exist"
        raise EdgecError("no-such-file", f"the data '{str(root)[:300]}' {what}", "give a folder of images to --data")
    whole = Folder(root, root)
    if os.path.lexists(root / LABELS):
        parts = _from_csv(whole)
    elif masked := open_masked_parts(whole):
        parts = masked
    elif folders := _part_folders(whole):
        parts = _from_parts(whole, folders)
    else:
        parts = {WHOLE: _from_folder(whole, _order(whole))}
    for dataset in parts.values():
        _check_names(dataset)
    return parts


def is_parted(names: Iterable[str | None]) -> bool:
    """Whether there is a part to learn or calibrate from and one to judge by."""
    found = set(names)
    return bool({"train", "calibration"} & found) and bool({"val", "test"} & found)


# Folders.


def _part_folders(whole: Folder) -> dict[str, Folder]:
    """Folders that part the set, whatever lies beside them; empty where they do not."""
    named = [(SPLITS[name.lower()], folder) for name, folder in whole.inner.items() if name.lower() in SPLITS]
    filled = [(part, folder) for part, folder in named if folder.num_images]
    found = dict(filled if is_parted(part for part, _ in filled) else named)
    if not is_parted(found):
        return {}
    if len(found) < len(filled):
        message = f"'{whole.path}' has two folders for one part: {', '.join(folder.path.name for _, folder in filled)}"
        raise EdgecError("bad-labels", message, "keep one of them")
    return found


def _from_parts(whole: Folder, folders: dict[str, Folder]) -> dict[str, Dataset]:
    """A part may lack a class: the index is the same in all of them."""
    names = sorted({name for folder in folders.values() if folder.has_classes for name in folder.inner})
    order = _order(whole)
    parts = {part: _one_part(folder, order or _order(folder) or tuple(names)) for part, folder in folders.items()}
    if len({dataset.classes for dataset in parts.values() if dataset.classes}) > 1:
        message = f"the parts of '{whole.path}' order their classes differently"
        raise EdgecError("class-mismatch", message, f"keep one {CLASSES}, in '{whole.path}'")
    others = [folder for folder in whole.inner.values() if folder not in folders.values()]
    beside = len(whole.listing.images) + sum(folder.num_images for folder in others)
    notes = counted(beside, "image", f"beside {', '.join(parts)}")
    return {part: replace(dataset, left_out=dataset.left_out + notes) for part, dataset in parts.items()}


def _one_part(folder: Folder, order: tuple[str, ...]) -> Dataset:
    if not os.path.lexists(folder.path / LABELS):
        return _from_folder(folder, order)
    parts = _from_csv(folder)
    if WHOLE not in parts:
        message = f"'{folder.path / LABELS}' parts a folder that is a part already"
        raise EdgecError("bad-labels", message, "leave the column split out")
    return parts[WHOLE]


def _from_folder(folder: Folder, order: tuple[str, ...]) -> Dataset:
    """One folder of images per class, by name where there is no ``order``, or plain images."""
    here, inner = folder.listing.images, folder.inner
    if folder.has_classes:
        classes = order or tuple(inner)
        if unknown := sorted(inner.keys() - {*classes}):
            message = f"folder '{unknown[0]}' of '{folder.path}' is not in '{CLASSES}'"
            raise EdgecError("bad-labels", message, "add it there, or remove the folder")
        files = [
            (index, name, file)
            for index, name in enumerate(classes)
            if name in inner
            for file in inner[name].listing.images
        ]
        samples = [Sample(f"{name}/{file}", index) for index, name, file in files]
        notes = counted(len(here), "image", "beside the class folders")
        deeper = [below for each in inner.values() for below in each.inner.values()]
        used = [folder, *inner.values()]
    else:
        classes, notes, deeper, used = (), (), list(inner.values()), [folder]
        samples = [Sample(file, None) for file in here]
    if not samples:
        raise _empty(folder)
    notes += counted(sum(below.num_images for below in deeper), "image", "in deeper folders") + left_over(used)
    return Dataset(folder.path, tuple(samples), classes, notes)


def _order(folder: Folder) -> tuple[str, ...]:
    path = folder.path / CLASSES
    if not os.path.lexists(path):
        return ()
    check_inside(path, folder.base)
    return read_classes(path)


def _empty(folder: Folder) -> EdgecError:
    deeper = next((inner.path for inner in folder.walk() if inner.listing.images), None)
    expected = "expected labels.csv, one folder of images per class, or images: " + " ".join(sorted(IMAGE_SUFFIXES))
    hint = expected if deeper is None else f"there are some in '{deeper}': give the folder of the class folders"
    return EdgecError("empty-data", f"no images in '{folder.path}'", hint)


# labels.csv.


def _from_csv(whole: Folder) -> dict[str, Dataset]:
    """Files that the lines name, beside ``labels.csv`` or in ``images/``, parted by the column ``split``.

    Without that column, files that all lie in folders called train, test and so on are parted by these.
    """
    root, path = whole.path, whole.path / LABELS
    check_inside(path, root)
    rows = read_rows(path)
    by_index = any(row.class_index is not None for row in rows)
    labelled = [row for row in rows if (row.class_index is not None if by_index else row.label)] or rows
    named = _named_files(labelled, whole)
    if not named:
        raise _empty(whole)
    classes = _numbered(labelled, path) if by_index else tuple(sorted({row.label for row in labelled if row.label}))
    indices = {name: index for index, name in enumerate(classes)}
    parts: dict[str, list[Sample]] = {}
    for (file, row), part in zip(named.items(), _parts(list(named.values())), strict=True):
        label = row.class_index if by_index else indices.get(row.label)
        parts.setdefault(part, []).append(Sample(file, label))
    folders = [Folder(Path(folder), root) for folder in {str(root), *(str((root / file).parent) for file in named)}]
    images = {os.path.relpath(folder.path / name, root) for folder in folders for name in folder.listing.images}
    notes = (
        *counted(len(rows) - len(labelled), "line", f"of {LABELS} without a label"),
        *counted(len(labelled) - len(named), "line", f"of {LABELS} that repeat a file"),
        *counted(len(images - named.keys()), "image", f"that {LABELS} does not name"),
        *left_over(folders),
    )
    return {part: Dataset(root, tuple(samples), classes, notes) for part, samples in parts.items()}


def _named_files(rows: list[Row], whole: Folder) -> dict[str, Row]:
    """The lines by the file that each names, below the root; one that says the same twice is kept once."""
    found: dict[str, Row] = {}
    checked: set[str] = set()
    for row in rows:
        file = next((name for name in (row.file, f"images/{row.file}") if os.path.isfile(whole.path / name)), None)
        where = f"'{whole.path / LABELS}' line {row.line}"
        if file is None:
            message = f"{where} names '{row.file[:200]}', which is not there"
            hint = "write / between folders" if "\\" in row.file else "remove the line or add the image"
            raise EdgecError("bad-labels", message, hint)
        path = str(whole.path / file)
        folder = os.path.dirname(path)
        if folder not in checked or os.path.islink(path):
            check_inside(path, whole.base)
            checked.add(folder)
        first = found.setdefault(file, row)
        if (first.class_index, first.label, first.split) != (row.class_index, row.label, row.split):
            message = f"{where} says otherwise of '{row.file}' than line {first.line}"
            raise EdgecError("bad-labels", message, "keep one of the two lines")
    return found


def _numbered(rows: list[Row], path: Path) -> tuple[str, ...]:
    """Class names by ``class_index``, empty where an index has none; nothing where no line names its class."""
    names: dict[int, str] = {}
    for row in rows:
        if row.class_index is not None and row.label:
            first = names.setdefault(row.class_index, row.label)
            if first != row.label:
                message = f"'{path}' line {row.line}: class {row.class_index} is '{row.label}', before it was '{first}'"
                raise EdgecError("bad-labels", message, "one name for each class_index")
    return tuple(names.get(index, "") for index in range(max(names, default=-1) + 1))


def _parts(rows: list[Row]) -> list[str]:
    """The part of every line."""
    if any(row.split is not None for row in rows):
        return [row.split or WHOLE for row in rows]
    parts = [SPLITS.get(PurePosixPath(row.file).parts[0].lower()) for row in rows]
    return [part or WHOLE for part in parts] if None not in parts and is_parted(parts) else [WHOLE] * len(rows)


def _check_names(dataset: Dataset) -> None:
    """Class names go into text files of a bundle, and file names into its records."""
    try:
        check_labels(dataset.classes)
    except ValueError as error:
        raise EdgecError("bad-labels", f"'{dataset.root}': {error}", "rename the class") from error
    for sample in dataset.samples:
        if not sample.file.isascii() and any("\ud800" <= letter <= "\udfff" for letter in sample.file):
            message = f"'{dataset.root}' has the file {sample.file!a}, whose name is not UTF-8"
            raise EdgecError("unreadable-data", message, "rename it")
