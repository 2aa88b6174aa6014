"""Masks: indices, palettes, void; the three layouts; the same place as their pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.data.dataset import Dataset, open_dataset, open_splits
from edgec.pipeline.data.mask_layouts import CITY_IDS, VOC_CLASSES, voc_color
from edgec.pipeline.data.masks import VOID, Coding, placed, read_mask, read_truth
from edgec.pipeline.data.preprocess import Preprocess

MASK = np.array([[0, 1, 2, 255], [2, 1, 0, 0]], np.uint8)


def save(path: Path, pixels: np.ndarray, palette: list[int] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    if palette is not None:
        image.putpalette(palette)
    image.save(path)


def pair(root: Path, image: str, mask: str, classes: np.ndarray = MASK) -> None:
    save(root / image, np.zeros((*classes.shape[:2], 3), np.uint8))
    save(root / mask, classes)


def refused(root: Path) -> str:
    with pytest.raises(EdgecError) as refusal:
        open_dataset(root)
    return refusal.value.code


def files(dataset: Dataset) -> list[tuple[str, str | None]]:
    return [(sample.file, sample.mask) for sample in dataset.samples]


def test_a_palette_image_holds_indices(tmp_path: Path) -> None:
    """As Pascal VOC stores them: the colours are for people."""
    save(tmp_path / "m.png", MASK, [value for index in range(256) for value in voc_color(index)])
    assert Image.open(tmp_path / "m.png").mode == "P"
    assert np.array_equal(read_mask(tmp_path / "m.png", Coding()), MASK)


def test_colours_are_found_in_the_palette(tmp_path: Path) -> None:
    colors = ((0, 0, 0), (128, 0, 0), (0, 128, 0), (224, 224, 192))
    coding = Coding((0, 1, 2, VOID), colors)
    drawn = np.array(colors, np.uint8)[np.where(MASK == 255, 3, MASK)]
    save(tmp_path / "m.png", drawn)
    assert np.array_equal(read_mask(tmp_path / "m.png", coding), MASK)
    drawn[0, 0] = 7
    save(tmp_path / "m.png", drawn)
    with pytest.raises(EdgecError, match=r"\(7, 7, 7\)") as refusal:
        read_mask(tmp_path / "m.png", coding)
    assert refusal.value.code == "bad-mask"


@pytest.mark.parametrize("index", [0, 1, 2, 15, 20])
def test_the_palette_of_pascal_voc(index: int) -> None:
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 15: (192, 128, 128), 20: (0, 64, 128)}
    assert voc_color(index) == known[index]


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\nrubbish"])
def test_a_damaged_mask_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.png").write_bytes(content)
    with pytest.raises(EdgecError, match=r"m\.png") as refusal:
        read_mask(tmp_path / "m.png", Coding())
    assert refusal.value.code == "bad-mask"


def test_masks_that_say_nothing_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "color.png", np.zeros((2, 2, 3), np.uint8))
    save(tmp_path / "wide.png", np.full((2, 2), 300, np.uint16))
    for name in ("color.png", "wide.png"):
        with pytest.raises(EdgecError) as refusal:
            read_mask(tmp_path / name, Coding())
        assert refusal.value.code == "bad-mask"


def test_a_mask_has_the_size_of_its_picture_as_that_is_shown(tmp_path: Path) -> None:
    """A camera's picture lies on its side and says so; its mask stands."""
    upright = Image.new("RGB", (4, 2))
    exif = upright.getexif()
    exif[0x0112] = 6
    upright.save(tmp_path / "turned.jpg", exif=exif)
    save(tmp_path / "stands.png", MASK.T)
    save(tmp_path / "lies.png", MASK)
    preprocess = Preprocess(resize_px=2, crop_px=2)
    read_truth(tmp_path, "turned.jpg", "stands.png", Coding(), preprocess)
    with pytest.raises(EdgecError, match="4 x 2, its picture 2 x 4"):
        read_truth(tmp_path, "turned.jpg", "lies.png", Coding(), preprocess)


@given(st.integers(3, 40), st.integers(3, 40), st.integers(2, 30), st.integers(0, 20))
@settings(max_examples=60, deadline=None)
def test_a_mask_is_resized_and_cropped_as_pillow_would(width: int, height: int, crop: int, more: int) -> None:
    """But for pixels whose middle falls on a border, where Pillow rounds as its sums do."""
    mask = np.arange(width * height, dtype=np.int64).reshape(height, width).astype(np.uint8)
    resize = crop + more
    scale = resize / min(width, height)
    size = round(width * scale), round(height * scale)
    left, top = (round((side - crop) / 2) for side in size)
    expected = Image.fromarray(mask).resize(size, Image.Resampling.NEAREST).crop((left, top, left + crop, top + crop))
    found = placed(mask, Preprocess(resize_px=resize, crop_px=crop))
    sides = ((top, size[1], height), (left, size[0], width))
    rows, columns = (
        [(2 * i + 1) * length % (2 * resized) != 0 for i in range(start, start + crop)]
        for start, resized, length in sides
    )
    assert np.array_equal(found[rows][:, columns], np.asarray(expected)[rows][:, columns])


def test_mask_and_picture_go_the_same_way(tmp_path: Path) -> None:
    """A picture that shows its mask in grey still shows it after the resize, but for the borders."""
    mask = np.kron(np.random.default_rng(0).integers(0, 4, (6, 9)), np.ones((16, 16))).astype(np.uint8)
    save(tmp_path / "p.png", np.repeat(mask[..., None] * 60, 3, axis=2))
    preprocess = Preprocess(resize_px=72, crop_px=64)
    seen = np.rint(preprocess.pixels(tmp_path / "p.png")[..., 0] / 60).astype(int)
    assert np.mean(seen == placed(mask, preprocess)) > 0.9


def test_images_and_masks(tmp_path: Path) -> None:
    pair(tmp_path, "images/a.jpg", "masks/a.png")
    pair(tmp_path, "images/deep/b.png", "masks/deep/b_mask.png")
    save(tmp_path / "images/c.png", np.zeros((2, 2, 3), np.uint8))
    found = open_dataset(tmp_path)
    assert files(found) == [("images/a.jpg", "masks/a.png"), ("images/deep/b.png", "masks/deep/b_mask.png")]
    assert (found.has_masks, found.classes, found.labels) == (True, (), None)
    assert found.left_out == ("1 image without a mask, or that no list names",)


@pytest.mark.parametrize("layout", ["images/{}/x.png masks/{}/x.png", "{}/images/x.png {}/masks/x.png"])
def test_parts(layout: str, tmp_path: Path) -> None:
    image, mask = layout.split()
    for part in ("train", "val"):
        pair(tmp_path, image.format(part), mask.format(part))
    calibration, test = open_splits(tmp_path)
    assert files(calibration) == [(image.format("train"), mask.format("train"))]
    assert files(test) == [(image.format("val"), mask.format("val"))]


def test_a_class_named_void_is_none_and_those_behind_it_move_up(tmp_path: Path) -> None:
    pair(tmp_path, "images/a.png", "masks/a.png")
    (tmp_path / "classes.txt").write_text("road\nVoid\ncar\n")
    found = open_dataset(tmp_path)
    assert found.classes == ("road", "car")
    read = read_mask(tmp_path / "masks/a.png", found.coding)
    assert read.tolist() == [[0, VOID, 1, VOID], [1, VOID, 0, 0]]


def test_a_palette_file(tmp_path: Path) -> None:
    colors = np.array([[[9, 9, 9], [200, 0, 0]], [[0, 0, 0], [9, 9, 9]]], np.uint8)
    pair(tmp_path, "images/a.png", "masks/a.png", colors)
    (tmp_path / "palette.csv").write_text("name,red,green,blue\nfloor,9,9,9\nvoid,0,0,0\nbolt,200,0,0\n")
    found = open_dataset(tmp_path)
    assert found.classes == ("floor", "bolt")
    assert read_mask(tmp_path / "masks/a.png", found.coding).tolist() == [[0, 1], [VOID, 0]]
    for wrong in ("name,r,g,b\n", "name,red,green,blue\na,1,2\n", "name,red,green,blue\na,1,2,256\n",
                  "name,red,green,blue\na,1,2,3\nb,1,2,3\n"):  # fmt: skip
        (tmp_path / "palette.csv").write_text(wrong)
        assert refused(tmp_path) == "bad-labels"


def test_pascal_voc(tmp_path: Path) -> None:
    for name in ("2007_1", "2007_2", "2007_3"):
        pair(tmp_path, f"JPEGImages/{name}.jpg", f"SegmentationClass/{name}.png")
    lists = tmp_path / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2007_3\n")
    (lists / "val.txt").write_text("2007_2\n2007_1\n")
    calibration, test = open_splits(tmp_path)
    assert [sample.file for sample in calibration.samples] == ["JPEGImages/2007_3.jpg"]
    assert [sample.mask for sample in test.samples] == ["SegmentationClass/2007_2.png", "SegmentationClass/2007_1.png"]
    assert test.classes == VOC_CLASSES
    assert len(VOC_CLASSES) == 21
    assert np.array_equal(read_mask(tmp_path / "SegmentationClass/2007_1.png", test.coding), MASK)
    drawn = np.array([voc_color(15), (224, 224, 192)], np.uint8)[None]
    save(tmp_path / "drawn.png", drawn)
    assert read_mask(tmp_path / "drawn.png", test.coding).tolist() == [[15, VOID]]
    (lists / "val.txt").write_text("absent\n")
    assert refused(tmp_path) == "bad-labels"


@pytest.mark.parametrize(("kind", "expected"), [("labelIds", [0, 18, VOID]), ("labelTrainIds", [7, 33, 0])])
def test_cityscapes(kind: str, expected: list[int], tmp_path: Path) -> None:
    for part in ("train", "val"):
        stem = f"{part}/ulm/ulm_000_019"
        stored = np.array([[7, 33, 0]], np.uint8)
        pair(tmp_path, f"leftImg8bit/{stem}_leftImg8bit.png", f"gtFine/{stem}_gtFine_{kind}.png", stored)
        save(tmp_path / f"gtFine/{stem}_gtFine_color.png", np.zeros((1, 3, 3), np.uint8))
    _, test = open_splits(tmp_path)
    assert files(test)[0][1] == f"gtFine/val/ulm/ulm_000_019_gtFine_{kind}.png"
    assert read_mask(tmp_path / files(test)[0][1], test.coding).tolist() == [expected]
    assert (len(test.classes), test.classes[0], test.classes[18]) == (19, "road", "bicycle")
    assert sorted(value for value in CITY_IDS if value != VOID) == list(range(19))


def test_nothing_that_belongs_together(tmp_path: Path) -> None:
    pair(tmp_path, "images/a.png", "masks/b.png")
    assert refused(tmp_path) == "empty-data"
    pair(tmp_path / "city", "leftImg8bit/test/u/u_leftImg8bit.png", "gtFine/test/u/other.png")
    assert refused(tmp_path / "city") == "empty-data"


def test_a_set_is_known_by_its_masks_and_their_coding(tmp_path: Path) -> None:
    pair(tmp_path, "images/a.png", "masks/a.png")
    before = open_dataset(tmp_path)
    digest = before.artifact().sha256
    assert replace(before, coding=Coding((1, 0))).artifact().sha256 != digest
    save(tmp_path / "masks/a.png", MASK + 1)
    assert before.artifact().sha256 != digest
