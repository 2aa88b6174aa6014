"""The data set is the same everywhere: what is stored is what the generator draws."""

import io
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgec.calib_data import generate, splits
from edgec.calib_data.drawn import drawn_once
from edgec.calib_data.splits import LABELS, NUM_IMAGES, STORED, draw_picture, generated_dir, masks_dir, parts_dir
from edgec.pipeline.data.dataset import open_dataset

SAMPLE = range(0, 256, 21)


def decoded(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def compressed(pixels: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=splits.JPEG_QUALITY)
    return np.asarray(Image.open(file))


@pytest.mark.parametrize("split", STORED)
@pytest.mark.parametrize("index", SAMPLE)
def test_stored_picture_is_what_the_generator_draws(split: splits.StoredSplit, index: int) -> None:
    pixels, mask = draw_picture(split, index)
    name = f"{splits.label_of(index)}/{index:05d}"
    stored = decoded(parts_dir(split) / f"{name}.jpg").astype(int)
    assert np.abs(stored - compressed(pixels)).mean() < 0.5  # JPEG codecs differ between Pillow versions
    assert np.array_equal(decoded(masks_dir(split) / f"{name}.png"), mask)


@pytest.mark.parametrize("split", STORED)
def test_stored_split_is_whole_and_balanced(split: splits.StoredSplit) -> None:
    dataset = open_dataset(parts_dir(split))
    assert len(dataset) == NUM_IMAGES[split]
    assert dataset.classes == LABELS
    counts = Counter(sample.label for sample in dataset.samples)
    assert max(counts.values()) - min(counts.values()) <= 1
    images, masks = (
        {path.relative_to(root).with_suffix("") for path in root.rglob("*.*")}
        for root in (parts_dir(split), masks_dir(split))
    )
    assert images == masks


def test_stored_files_are_small() -> None:
    files = [path for path in parts_dir("test").parent.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 12e6


def test_classes_are_listed_in_the_order_of_the_logits() -> None:
    listed = (parts_dir("test").parent / "classes.txt").read_text().split()
    assert tuple(listed) == LABELS == tuple(sorted(LABELS))
    assert len(LABELS) == 16


def test_mask_is_binary_and_shows_the_part() -> None:
    for index in range(32):
        _, mask = draw_picture("train", index)
        assert mask.dtype == np.uint8
        assert set(np.unique(mask)) == {0, 1}
        assert mask.mean() > 0.01


def test_picture_depends_on_seed_split_and_index_alone() -> None:
    first, _ = draw_picture("train", 5)
    draw_picture("train", 6)
    again, _ = draw_picture("train", 5)
    assert np.array_equal(first, again)
    others = [draw_picture("validation", 5), draw_picture("train", 21), draw_picture("train", 5, seed=1)]
    assert all(not np.array_equal(first, other) for other, _ in others)


def test_generated_split_is_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    folder = generated_dir("train", tmp_path, num_images=16, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (16, 16)
    assert open_dataset(folder).classes == LABELS
    expected = compressed(draw_picture("train", 3)[0]).astype(int)
    assert np.abs(decoded(folder / LABELS[3] / "00003.jpg") - expected).mean() < 0.5
    monkeypatch.setattr(splits, "write_split", lambda *_: pytest.fail("drawn again"))
    assert generated_dir("train", tmp_path, num_images=16) == folder


def test_failed_drawing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(split: str, images: Path, *_: object) -> None:
        (images / "half.jpg").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(splits, "write_split", fail)
    with pytest.raises(KeyboardInterrupt):
        generated_dir("train", tmp_path, num_images=16)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["edgec-store.json"]


def test_a_killed_drawing_is_swept_by_the_next_run_and_the_finished_one_stays(tmp_path: Path) -> None:
    drawing = """
import os, signal, sys
from pathlib import Path
from edgec.calib_data.drawn import drawn_once
def draw(folder):
    (folder / "half.jpg").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
drawn_once(Path(sys.argv[1]), "parts/train", draw)
"""
    done = subprocess.run([sys.executable, "-c", drawing, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert list(tmp_path.rglob("half.jpg"))
    assert not (tmp_path / "parts").exists()
    folder = drawn_once(tmp_path, "parts/other", lambda folder: (folder / "whole.jpg").touch())
    assert not list(tmp_path.rglob("half.jpg"))
    assert [path.name for path in folder.iterdir()] == ["whole.jpg"]


def test_changed_generator_draws_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splits, "write_split", lambda *_: None)
    before = generated_dir("train", tmp_path, num_images=16)
    monkeypatch.setattr(splits, "generator_digest", lambda: "another source")
    assert generated_dir("train", tmp_path, num_images=16) != before


def test_generator_writes_the_stored_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splits, "NUM_IMAGES", {**NUM_IMAGES, "calibration": 16, "test": 16})
    generate.write_stored(tmp_path)
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert len(files) == 2 * 2 * 16 + 1
    assert {"classes.txt", "test/bolt/00001.jpg", "masks/test/bolt/00001.png"} <= files
    assert generate.contact_sheet(tmp_path / "calibration", rows_per_class=1, cell_px=32).size == (256, 64)
