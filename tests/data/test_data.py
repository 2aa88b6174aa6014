"""Data sets: the three layouts, splits, streaming, and every way in which images can be wrong."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import TINY_PX

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.data import dataset as dataset_module
from edgec.pipeline.data.dataset import batches, check_classes, open_dataset, open_splits
from edgec.pipeline.data.preprocess import Preprocess
from edgec.pipeline.recipe import describe_onnx

SMALL = Preprocess(resize_px=TINY_PX + 4, crop_px=TINY_PX)


def picture(path: Path, side: int = 40) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (side, side + 6), (10, 20, 30)).save(path)


def refused(root: Path) -> EdgecError:
    with pytest.raises(EdgecError) as caught:
        open_dataset(root)
    return caught.value


def test_folder_per_class_in_name_order(tiny_images: Path) -> None:
    dataset = open_dataset(tiny_images)
    assert dataset.classes == ("blue", "green", "red")
    assert dataset.labels is not None
    assert dataset.labels.tolist() == [0] * 8 + [1] * 8 + [2] * 8


def test_classes_txt_gives_the_order(tmp_path: Path) -> None:
    picture(tmp_path / "a" / "1.png")
    picture(tmp_path / "b" / "1.png")
    (tmp_path / "classes.txt").write_text("b\nabsent\na\n")
    dataset = open_dataset(tmp_path)
    assert dataset.classes == ("b", "absent", "a")
    assert [(sample.file, sample.label) for sample in dataset.samples] == [("b/1.png", 0), ("a/1.png", 2)]


def test_labels_csv_with_indices_or_names(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "1.png")
    picture(tmp_path / "2.png")
    (tmp_path / "labels.csv").write_text("file,class_index,label\n1.png,4,cat\n2.png,0,dog\n")
    dataset = open_dataset(tmp_path)
    assert [sample.file for sample in dataset.samples] == ["images/1.png", "2.png"]
    assert dataset.classes == ("dog", "", "", "", "cat")
    (tmp_path / "labels.csv").write_text("file,label\n1.png,dog\n2.png,cat\n")
    assert [sample.label for sample in open_dataset(tmp_path).samples] == [1, 0]


def test_plain_images_have_no_labels(tmp_path: Path) -> None:
    picture(tmp_path / "1.png")
    (tmp_path / "notes.md").write_text("not an image")
    dataset = open_dataset(tmp_path)
    assert dataset.labels is None
    assert len(dataset) == 1


@pytest.mark.parametrize(
    ("labels", "fragment"),
    [
        ("name,class_index\n1.png,0\n", "has columns name, class_index"),
        ("file,class_index\n1.png,one\n", "line 2: class_index 'one'"),
        ("file,class_index\ngone.png,0\n", "names 'gone.png'"),
    ],
)
def test_bad_labels_are_named(tmp_path: Path, labels: str, fragment: str) -> None:
    picture(tmp_path / "1.png")
    (tmp_path / "labels.csv").write_text(labels)
    error = refused(tmp_path)
    assert error.code == "bad-labels"
    assert fragment in error.message


def test_a_folder_missing_in_classes_txt_is_named(tmp_path: Path) -> None:
    picture(tmp_path / "new" / "1.png")
    (tmp_path / "classes.txt").write_text("old\n")
    assert "folder 'new'" in refused(tmp_path).message


def test_missing_and_empty_folders(tmp_path: Path) -> None:
    assert refused(tmp_path / "nowhere").code == "no-such-file"
    assert refused(tmp_path).code == "empty-data"
    picture(tmp_path / "1.png")
    with pytest.raises(EdgecError) as caught:
        open_splits(tmp_path)
    assert caught.value.code == "empty-data"


def test_halves_are_disjoint_whole_and_repeatable(tiny_images: Path) -> None:
    calibration, test = open_splits(tiny_images)
    first, second = ({sample.file for sample in part.samples} for part in (calibration, test))
    assert not first & second
    assert len(first | second) == 24
    assert open_splits(tiny_images) == (calibration, test)


def test_own_splits_are_taken_as_they_are(tmp_path: Path) -> None:
    picture(tmp_path / "calibration" / "c.png")
    picture(tmp_path / "test" / "t.png")
    calibration, test = open_splits(tmp_path)
    assert [sample.file for part in (calibration, test) for sample in part.samples] == ["c.png", "t.png"]


def test_digest_follows_content_order_and_labels_not_place(tmp_path: Path) -> None:
    for root in ("here", "there"):
        picture(tmp_path / root / "a" / "1.png")
        picture(tmp_path / root / "b" / "2.png", side=50)
    here, there = (open_dataset(tmp_path / root).artifact().sha256 for root in ("here", "there"))
    assert here == there
    picture(tmp_path / "there" / "b" / "2.png", side=51)
    assert open_dataset(tmp_path / "there").artifact().sha256 != here


@pytest.mark.parametrize("batch_size", [1, 5, 24, 100])
def test_batches_keep_order_for_every_size(tiny_images: Path, batch_size: int) -> None:
    dataset = open_dataset(tiny_images)
    parts = list(batches(dataset, SMALL, batch_size))
    together = np.concatenate(parts)
    assert together.shape == (24, 3, TINY_PX, TINY_PX)
    assert together.dtype == np.float32
    alone = [SMALL.normalise(SMALL.pixels(dataset.root / sample.file)[None])[0] for sample in dataset.samples]
    np.testing.assert_array_equal(together, np.stack(alone))


def test_an_image_is_decoded_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []
    plain = dataset_module.read_image

    def counted(path: Path, preprocess: Preprocess) -> np.ndarray:
        decoded.append(path.name)
        return plain(path, preprocess)

    monkeypatch.setattr(dataset_module, "read_image", counted)
    for index in range(5):
        picture(tmp_path / f"{index}.png", side=40 + index)
    images = open_dataset(tmp_path)
    first = np.concatenate(list(batches(images, SMALL, 2)))
    again = np.concatenate(list(batches(images.take(3), SMALL, 2)))
    assert sorted(decoded) == [f"{index}.png" for index in range(5)]
    np.testing.assert_array_equal(again, np.stack([first[images.samples.index(s)] for s in images.take(3).samples]))
    before = (tmp_path / "2.png").stat()
    picture(tmp_path / "2.png", side=42)
    Image.new("RGB", (42, 48), (30, 20, 10)).save(tmp_path / "2.png")
    os.utime(tmp_path / "2.png", ns=(before.st_atime_ns, before.st_mtime_ns))  # as 'cp -p' leaves it
    changed = np.concatenate(list(batches(images, SMALL, 2)))
    assert decoded[5:] == ["2.png"]
    np.testing.assert_array_equal(changed[2], SMALL.normalise(SMALL.pixels(tmp_path / "2.png")[None])[0])
    list(batches(images, replace(SMALL, color="BGR"), 2))
    assert len(decoded) == 11, "another preprocessing decodes anew"


def test_what_does_not_fit_is_decoded_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(4):
        picture(tmp_path / f"{index}.png", side=50 + index)
    pixels = SMALL.pixels(tmp_path / "0.png")
    monkeypatch.setattr(dataset_module, "DECODED_BYTES", 2 * pixels.nbytes)
    kept = dataset_module._Decoded(tmp_path, SMALL)
    for index in range(4):
        kept.pixels(f"{index}.png")
    assert len(kept._kept) == 2
    np.testing.assert_array_equal(kept.pixels("3.png"), SMALL.pixels(tmp_path / "3.png"))


def test_one_broken_image_among_good_ones_is_named(tmp_path: Path) -> None:
    for index in range(5):
        picture(tmp_path / f"{index}.png")
    whole = (tmp_path / "3.png").read_bytes()
    (tmp_path / "3.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EdgecError) as caught:
        list(batches(open_dataset(tmp_path), SMALL, 2))
    assert caught.value.code == "unreadable-image"
    assert "3.png" in caught.value.message


def test_labels_beyond_the_network_are_refused(tiny_images: Path) -> None:
    check_classes(open_dataset(tiny_images), 3)
    with pytest.raises(EdgecError) as caught:
        check_classes(open_dataset(tiny_images), 2)
    assert caught.value.code == "class-mismatch"
    assert "'red'" in caught.value.message


def test_preprocess_resizes_the_short_side_crops_the_centre_and_normalises(tmp_path: Path) -> None:
    ramp = np.tile(np.arange(64, dtype=np.uint8)[None, :, None], (32, 1, 3))
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    keep = Preprocess(resize_px=32, crop_px=32, mean=(1.0, 2.0, 3.0), std=(2.0, 4.0, 8.0))
    pixels = keep.pixels(tmp_path / "ramp.png")
    np.testing.assert_array_equal(pixels[0, :, 0], np.arange(16, 48))
    values = keep.normalise(pixels[None])
    assert values.shape == (1, 3, 32, 32)
    np.testing.assert_allclose(values[0, :, 0, 0], [(16 - 1) / 2, (16 - 2) / 4, (16 - 3) / 8])


def test_bgr_turns_the_channels_round(tmp_path: Path) -> None:
    Image.new("RGB", (32, 32), (1, 2, 3)).save(tmp_path / "p.png")
    assert Preprocess(color="BGR", resize_px=32, crop_px=32).pixels(tmp_path / "p.png")[0, 0].tolist() == [3, 2, 1]


MODEL = """onnx = "tiny.onnx"
labels = ["blue", "green", "red"]
[preprocess]
resize_px = 40
crop_px = 32
"""


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (("crop_px = 32", 'crop_px = 32\ncolor = "rgb"'), "preprocess: color is 'rgb', did you mean 'RGB'?"),
        (("resize_px = 40", "resize_px = -1"), "resize_px is -1"),
        (("resize_px = 40", "resize_px = 31"), "resize_px 31 is smaller"),
        (("crop_px = 32", "crop_px = 24"), "crop_px 24, and"),
        (("crop_px = 32", "crop_px = 32\nmean = [nan, 1.0, 1.0]"), "preprocess.mean.0 is nan"),
        (("crop_px = 32", "crop_px = 32\nstd = [0.0, 1.0, 1.0]"), "std"),
        (("crop_px = 32", "crop_px = 32\nresize = 40"), "preprocess.resize"),
        (('"red"', '"red\\n"'), "class name"),
    ],
)
def test_model_toml_says_what_can_be_meant(
    tiny_onnx: Path, tmp_path: Path, change: tuple[str, str], named: str
) -> None:
    (tmp_path / "tiny.onnx").write_bytes(tiny_onnx.read_bytes())
    (tmp_path / "model.toml").write_text(MODEL)
    assert describe_onnx(tmp_path / "model.toml").preprocess == Preprocess(resize_px=40, crop_px=32)
    (tmp_path / "model.toml").write_text(MODEL.replace(*change))
    with pytest.raises(EdgecError) as caught:
        describe_onnx(tmp_path / "model.toml")
    assert caught.value.code == "bad-model-file"
    assert named in caught.value.message


def test_a_digest_sees_a_file_that_kept_its_time_and_size(tmp_path: Path) -> None:
    path = tmp_path / "one.bmp"
    Image.new("RGB", (32, 32), (10, 20, 30)).save(path)
    before, digest = path.stat(), open_dataset(tmp_path).artifact().sha256
    Image.new("RGB", (32, 32), (30, 20, 10)).save(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert open_dataset(tmp_path).artifact().sha256 != digest
