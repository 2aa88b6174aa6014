"""Several parts on one table, with the class of every pixel: the parts data set for segmentation.

A scene depends on ``(SEED, split, index)`` alone, as the pictures of single parts do, and on streams of its own.
"""

from __future__ import annotations

import hashlib
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
from scipy import ndimage

from edgec.calib_data.drawn import drawn_once
from edgec.calib_data.render import Light, Mask, Pixels, Pose, draw
from edgec.calib_data.scene import CLUTTER, SIDE_PX, lay_clutter, photograph, random_light, random_material, table
from edgec.calib_data.shapes import SHAPES, Random
from edgec.calib_data.splits import JPEG_QUALITY, SEED, generator_digest

SceneSplit = Literal["train", "val", "test", "calibration"]

NUM_SCENES: dict[SceneSplit, int] = {"train": 4_000, "val": 200, "test": 240, "calibration": 64}
"""Scenes by split; the position in this table is the split's stream, so never reorder it."""

FAMILIES: dict[str, tuple[str, ...]] = {
    "bearing": ("ball_bearing", "roller_bearing"),
    "gear": ("gear_10", "gear_8"),
    "nut": ("flange_nut", "hex_nut", "square_nut"),
    "ring": ("retaining_ring",),
    "screw": ("bolt", "cap_screw", "countersunk_screw", "stud"),
    "spring": ("spring",),
    "washer": ("lock_washer", "tooth_washer", "washer"),
}
"""Kinds that a scene does not tell apart: of a bolt under a nut nobody sees the head."""

CLASSES = ("table", *FAMILIES)
CLASS_OF_KIND = tuple(1 + [kind in kinds for kinds in FAMILIES.values()].index(True) for kind in SHAPES)
VOID = 255
VOID_PX = 1
"""To either side of a part's outline: a pixel there shows both."""

STORED: tuple[SceneSplit, ...] = ("calibration", "test")

STREAM = 1_000
"""Apart from the streams of single parts."""

LEAST_PX = 60
"""Of a part that is still seen; below, what is left of it is void."""

PALETTE = tuple(value for i in range(256) for value in ((37 * i) % 256, (83 * i + 60) % 256, (151 * i + 120) % 256))
"""For people alone: masks hold indices."""


def scenes_dir() -> Path:
    """Folder of the stored splits, ``images/`` and ``masks/``, as it lies in the installed package."""
    return Path(str(resources.files("edgec.calib_data"))) / "scenes"


def compose_scene(random: Random) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Two to six parts, clutter under and over them.

    Returns:
        ``(224, 224, 3)`` RGB pixels and the ``(224, 224)`` class of each: 0 for the table and what lies on it, from 1
        on the families of the parts, and ``VOID`` along their outlines.
    """
    light = random_light(random)
    canvas = table(light, random)
    classes = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
    for _ in range(int(random.integers(0, 3))):
        lay_clutter(canvas, light, random)
    owner = np.zeros((SIDE_PX, SIDE_PX), np.uint8)  # the part that is on top, from 1
    kinds = random.integers(0, len(SHAPES), int(random.integers(2, 7)))
    for number, kind in enumerate(kinds.tolist(), start=1):
        shape = tuple(SHAPES.values())[kind]
        covered = draw(canvas, shape, scene_pose(random), random_material(random), light, random)
        owner[covered], classes[covered] = number, CLASS_OF_KIND[kind]
    for _ in range(int(random.integers(0, 2))):
        hidden = lay_over(canvas, light, random)
        owner[hidden], classes[hidden] = 0, 0
    for number in range(1, len(kinds) + 1):
        if (owner == number).sum() < LEAST_PX:
            classes[owner == number] = VOID
    classes[outline(owner)] = VOID
    return photograph(canvas, random), classes


def lay_over(canvas: Pixels, light: Light, random: Random) -> Mask:
    """Lay one piece of clutter anywhere; returns what it covers."""
    x, y = random.uniform(0, SIDE_PX, 2)
    pose = Pose(x, y, random.uniform(12, 60), random.uniform(0, 2 * np.pi))
    shape = CLUTTER[random.integers(len(CLUTTER))]
    return draw(canvas, shape, pose, random_material(random), light, random)


def scene_pose(random: Random) -> Pose:
    """Anywhere, also across the edge; a third to three quarters of the picture wide."""
    x, y = random.uniform(0.08 * SIDE_PX, 0.92 * SIDE_PX, 2)
    angle, tilt_axis = random.uniform(0, 2 * np.pi, 2)
    return Pose(x, y, random.uniform(40, 80), angle, random.uniform(0, 0.55), tilt_axis)


def outline(owner: npt.NDArray[np.uint8]) -> Mask:
    """Pixels within ``VOID_PX`` of another part or of the table; the picture's edge is no outline."""
    size = 2 * VOID_PX + 1
    around = ndimage.maximum_filter(owner, size, mode="nearest") != ndimage.minimum_filter(owner, size, mode="nearest")
    return np.asarray(around)


def draw_scene(split: SceneSplit, index: int, seed: int = SEED) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Scene ``index`` of ``split`` before compression."""
    stream = np.random.SeedSequence((seed, STREAM + list(NUM_SCENES).index(split), index))
    return compose_scene(np.random.Generator(np.random.Philox(stream)))


def write_scene(index: int, split: SceneSplit, folder: Path) -> None:
    """One scene as ``images/<split>/<index>.jpg`` and ``masks/<split>/<index>.png`` below ``folder``."""
    pixels, classes = draw_scene(split, index)
    Image.fromarray(pixels).save(folder / "images" / split / f"{index:05d}.jpg", quality=JPEG_QUALITY, optimize=True)
    mask = Image.fromarray(classes)
    mask.putpalette(PALETTE)
    mask.save(folder / "masks" / split / f"{index:05d}.png", optimize=True)


def write_scenes(
    folder: Path,
    split: SceneSplit,
    num_scenes: int | None = None,
    processes: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Draw a split below ``folder``, in the plain layout of ``images/`` and ``masks/``, and ``classes.txt``.

    Args:
        num_scenes: the first so many only; None for all.
        processes: at most; one for each core where None, and this process alone where 1.
        progress: called with (done, total) where there are several processes.
    """
    for kind in ("images", "masks"):
        (folder / kind / split).mkdir(parents=True, exist_ok=True)
    (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n", encoding="utf-8")
    write, wanted = partial(write_scene, split=split, folder=folder), range(num_scenes or NUM_SCENES[split])
    if processes == 1:
        for index in wanted:
            write(index)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for done, _ in enumerate(pool.map(write, wanted, chunksize=8), start=1):
            if progress is not None:
                progress(done, len(wanted))


def generated_scenes(
    cache: Path, num_train: int | None = None, progress: Callable[[int, int], None] | None = None
) -> Path:
    """Folder with train, val and test, drawn on demand and kept under ``cache``; anew when the source changes.

    Args:
        cache: root of the store.
        num_train: of train the first so many only; None for all.
    """
    total = num_train or NUM_SCENES["train"]

    def draw(folder: Path) -> None:
        write_scenes(folder, "train", total, progress=progress)
        for split in ("val", "test"):
            write_scenes(folder, split)

    return drawn_once(cache, f"scenes-{scenes_digest()[:16]}/train-{total}", draw)


def scenes_digest() -> str:
    """sha256 of the source that decides what scenes look like."""
    own = (resources.files("edgec.calib_data") / "scenes.py").read_bytes()
    return hashlib.sha256(generator_digest().encode() + own).hexdigest()
