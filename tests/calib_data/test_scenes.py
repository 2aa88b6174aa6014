"""Scenes of several parts: the same everywhere, one class a pixel, void where two meet."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgec.calib_data.scenes import (
    CLASSES,
    NUM_SCENES,
    STORED,
    VOID,
    SceneSplit,
    draw_scene,
    outline,
    scenes_dir,
    write_scenes,
)
from edgec.calib_data.splits import JPEG_QUALITY, draw_picture
from edgec.pipeline.data.dataset import open_splits
from edgec.pipeline.data.masks import read_mask

FEW = 6


@pytest.fixture(scope="module")
def drawn() -> list[tuple[np.ndarray, np.ndarray]]:
    return [draw_scene("test", index) for index in range(FEW)]


def test_an_outline_by_hand() -> None:
    owner = np.zeros((5, 6), np.uint8)
    owner[:, 3:] = 1
    expected = np.zeros((5, 6), bool)
    expected[:, 2:4] = True  # one pixel to either side, and nothing at the picture's edge
    assert np.array_equal(outline(owner), expected)


def test_every_scene_has_parts_in_front_of_a_table(drawn: list[tuple[np.ndarray, np.ndarray]]) -> None:
    seen = set[int]()
    for pixels, classes in drawn:
        assert (pixels.shape, pixels.dtype) == ((224, 224, 3), np.uint8)
        found = set(np.unique(classes).tolist())
        assert found <= {*range(len(CLASSES)), VOID}
        assert {0, VOID} < found
        assert 0.005 < np.mean(classes == VOID) < 0.25
        seen |= found
    assert len(seen) > 6


def test_classes_meet_nowhere_but_in_void(drawn: list[tuple[np.ndarray, np.ndarray]]) -> None:
    for _, classes in drawn:
        for one, other in ((classes[1:], classes[:-1]), (classes[:, 1:], classes[:, :-1])):
            assert not ((one != other) & (one != VOID) & (other != VOID)).any()


def test_a_scene_is_drawn_again(drawn: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """In any order, and apart from the other splits and from the pictures of single parts."""
    pixels, classes = draw_scene("test", 3)
    assert np.array_equal(pixels, drawn[3][0])
    assert np.array_equal(classes, drawn[3][1])
    others = (draw_scene("calibration", 3)[0], draw_picture("test", 3)[0])
    assert not any(np.array_equal(pixels, other) for other in others)


def test_what_is_written_is_a_data_set(tmp_path: Path, drawn: list[tuple[np.ndarray, np.ndarray]]) -> None:
    for split in STORED:
        write_scenes(tmp_path, split, 2, processes=1)
    calibration, test = open_splits(tmp_path)
    assert (len(calibration), len(test)) == (2, 2)
    assert calibration.classes == test.classes == CLASSES
    for sample, (_, classes) in zip(test.samples, drawn, strict=False):
        assert np.array_equal(read_mask(tmp_path / str(sample.mask), test.coding), classes)
    with Image.open(tmp_path / str(test.samples[0].mask)) as mask:
        assert mask.mode == "P"
    size = sum(path.stat().st_size for path in tmp_path.rglob("*.*")) / 4
    assert size * sum(NUM_SCENES[split] for split in STORED) < 5e6


@pytest.mark.parametrize("split", STORED)
def test_stored_scenes_are_what_the_generator_draws(split: SceneSplit) -> None:
    for index in range(0, NUM_SCENES[split], 16):
        pixels, classes = draw_scene(split, index)
        with Image.open(scenes_dir() / "images" / split / f"{index:05d}.jpg") as stored:
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "JPEG", quality=JPEG_QUALITY)
            with Image.open(file) as compressed:  # JPEG codecs differ between Pillow versions
                assert np.abs(np.asarray(stored, int) - np.asarray(compressed, int)).mean() < 0.5
        with Image.open(scenes_dir() / "masks" / split / f"{index:05d}.png") as mask:
            assert np.array_equal(np.asarray(mask), classes)


def test_stored_scenes_are_whole_and_have_every_class() -> None:
    calibration, test = open_splits(scenes_dir())
    assert (len(calibration), len(test)) == (NUM_SCENES["calibration"], NUM_SCENES["test"])
    masks = [read_mask(scenes_dir() / str(sample.mask), test.coding) for sample in test.samples]
    seen = np.bincount(np.concatenate([mask.ravel() for mask in masks]), minlength=256)
    assert {*np.flatnonzero(seen).tolist()} == {*range(len(CLASSES)), VOID}
    assert seen[1 : len(CLASSES)].min() > 0.03 * seen[1 : len(CLASSES)].max()  # a spring is mostly gaps
    assert 0.5 < seen[0] / seen[:VOID].sum() < 0.85
