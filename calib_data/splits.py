"""The parts data set: which pictures there are, the stored ones, and the ones generated on demand.

A picture depends on ``(SEED, split, index)`` alone, so every split can be drawn again, in any order and by any number
of processes. Its class is ``index modulo 16``: every split is balanced.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib import resources
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from edgec.calib_data.drawn import drawn_once
from edgec.calib_data.scene import compose
from edgec.calib_data.shapes import SHAPES

SplitName = Literal["train", "validation", "calibration", "test"]
StoredSplit = Literal["calibration", "test"]

SEED = 2024
NUM_IMAGES: dict[SplitName, int] = {"train": 10_000, "validation": 1_000, "calibration": 256, "test": 1_000}
"""Pictures per split; the position in this table is the split's random stream, so never reorder it."""

STORED: tuple[StoredSplit, ...] = ("calibration", "test")
LABELS: tuple[str, ...] = tuple(SHAPES)
JPEG_QUALITY = 80
"""The same for every split: a network must not learn from cleaner pictures than it is tested on."""


def parts_dir(split: StoredSplit) -> Path:
    """Folder of a stored split, one sub-folder per class, as it lies in the installed package."""
    return Path(str(resources.files("edgec.calib_data"))) / "parts" / split


def masks_dir(split: StoredSplit) -> Path:
    """Folder of the masks of a stored split, ``<class>/<index>.png``: 1 where the part is visible, 0 elsewhere."""
    return parts_dir("test").parent / "masks" / split


def draw_picture(split: SplitName, index: int, seed: int = SEED) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Picture ``index`` of ``split`` before compression: pixels ``(224, 224, 3)``, mask ``(224, 224)`` of 0 and 1."""
    stream = np.random.SeedSequence((seed, list(NUM_IMAGES).index(split), index))
    return compose(SHAPES[label_of(index)], np.random.Generator(np.random.Philox(stream)))


def label_of(index: int) -> str:
    """Class of picture ``index``, in every split."""
    return LABELS[index % len(LABELS)]


def write_picture(index: int, split: SplitName, images: Path, masks: Path | None) -> None:
    """Store one picture as ``images/<class>/<index>.jpg`` and, where ``masks`` is given, its mask as a 1-bit PNG."""
    pixels, mask = draw_picture(split, index)
    name = f"{label_of(index)}/{index:05d}"
    Image.fromarray(pixels).save(images / f"{name}.jpg", quality=JPEG_QUALITY, optimize=True)
    if masks is not None:
        picture = Image.fromarray(mask, mode="P")
        picture.putpalette([0, 0, 0, 255, 255, 255])
        picture.save(masks / f"{name}.png", optimize=True, bits=1)


def write_split(
    split: SplitName,
    images: Path,
    masks: Path | None = None,
    num_images: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Draw a split into ``images`` (and ``masks``), a folder per class, with one process per core.

    Args:
        split: the split.
        images: folder to fill; made where it is missing.
        masks: parallel folder for the masks, or None for none.
        num_images: the first so many only; None for the whole split.
        progress: called with (done, total).
    """
    total = NUM_IMAGES[split] if num_images is None else num_images
    for root in (images, masks):
        for label in LABELS if root else ():
            Path(root or "", label).mkdir(parents=True, exist_ok=True)
    write = partial(write_picture, split=split, images=images, masks=masks)
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        for done, _ in enumerate(pool.map(write, range(total), chunksize=16), start=1):
            if progress is not None:
                progress(done, total)


def generated_dir(
    split: SplitName,
    cache: Path,
    num_images: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Folder of a split drawn on demand and kept under ``cache``; drawn anew when the generator's source changes.

    Args:
        split: the split, usually ``"train"`` or ``"validation"``.
        cache: root of the store.
        num_images: the first so many only; None for the whole split.
        progress: called with (done, total) while the pictures are drawn.
    """
    total = NUM_IMAGES[split] if num_images is None else num_images
    name = f"parts-{generator_digest()[:16]}/{split}-{total}"
    return drawn_once(cache, name, lambda folder: write_split(split, folder, None, total, progress))


def generator_digest() -> str:
    """sha256 of the source that decides what the pictures look like."""
    source = hashlib.sha256()
    for module in ("shapes", "render", "scene", "splits"):
        source.update((resources.files("edgec.calib_data") / f"{module}.py").read_bytes())
    return source.hexdigest()
