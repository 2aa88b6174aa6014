"""Segmentation as a task: what is kept, judged, written and shown."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.data.dataset import Dataset, open_dataset
from edgec.pipeline.data.masks import VOID
from edgec.pipeline.data.preprocess import Preprocess
from edgec.pipeline.gate.accuracy import judge_accuracy
from edgec.pipeline.gate.finding import Verdict
from edgec.pipeline.tasks.accuracy import Drop, rows
from edgec.pipeline.tasks.class_map import colored, difference, overlay
from edgec.pipeline.tasks.task import Kept, Shape, load_task, task_of

TASK = load_task("segmentation")
PX = 32


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Six pictures of two coloured halves, the masks with a void line between them."""
    root = tmp_path_factory.mktemp("scenes")
    for folder in ("images", "masks"):
        (root / folder).mkdir()
    for i in range(6):
        mask = np.zeros((PX, PX), np.uint8)
        mask[:, 8 + 2 * i :] = 1 + i % 2
        Image.fromarray(np.repeat(mask[..., None] * 80, 3, axis=2)).save(root / f"images/{i}.png")
        mask[:, 8 + 2 * i] = VOID
        Image.fromarray(mask).save(root / f"masks/{i}.png")
    (root / "classes.txt").write_text("floor\nbolt\nnut\n")
    return open_dataset(root)


PREPROCESS = Preprocess(resize_px=PX, crop_px=PX)


def logits(classes: np.ndarray, number: int = 3) -> np.ndarray:
    return np.asarray(np.eye(number, dtype=np.float32)[classes].transpose(0, 3, 1, 2))


def kept_of(classes: np.ndarray) -> Kept:
    return TASK.keep((logits(classes),), ["maps"])


def right(scenes: Dataset) -> np.ndarray:
    truth = TASK.truth(scenes, PREPROCESS)
    assert truth is not None
    return np.where(truth == VOID, 0, truth)


def test_which_outputs_it_takes() -> None:
    assert TASK.takes([Shape("maps", (4, 32, 32))])
    assert TASK.takes([Shape("classes", (32, 32))])
    assert not TASK.takes([Shape("scores", (4,))])
    assert not TASK.takes([Shape("a", (4, 32, 32)), Shape("b", (4, 32, 32))])
    assert task_of("segmentation", [Shape("maps", (4, 32, 32))]) is TASK


def test_no_logits_are_kept_but_a_grid(scenes: Dataset) -> None:
    kept = kept_of(right(scenes))
    assert (kept["classes"].dtype, kept["classes"].shape) == (np.uint8, (6, PX, PX))
    assert kept["logits"].shape == (6, 3, 2, 2)
    assert np.array_equal(kept["classes"], right(scenes))


def test_a_class_map_and_a_single_logit_are_answers_too() -> None:
    classes = np.array([[[0.0, 3.0], [1.0, 2.0]]], np.float32)
    assert TASK.keep((classes,), ["classes"]).keys() == {"classes"}
    assert TASK.keep((classes,), ["classes"])["classes"].tolist() == [[[0, 3], [1, 2]]]
    assert TASK.keep((classes[:, None] - 1.5,), ["logit"])["classes"].tolist() == [[[0, 1], [0, 1]]]


def test_ties_go_to_the_first_class_as_on_a_board() -> None:
    assert TASK.keep((np.ones((1, 3, 2, 2), np.float32),), ["maps"])["classes"].tolist() == [[[0, 0], [0, 0]]]


def test_more_classes_than_a_mask_can_name() -> None:
    for outputs in (np.zeros((1, 256, 2, 2), np.float32), np.full((1, 2, 2), 255, np.float32)):
        with pytest.raises(EdgecError) as refusal:
            TASK.keep((outputs,), ["maps"])
        assert refusal.value.code == "wrong-task"


def test_the_record(scenes: Dataset) -> None:
    truth = right(scenes)
    worse = truth.copy()
    worse[:3, :4] = 2  # three images lose four rows, an eighth
    kept = {"float": kept_of(truth), "reference": kept_of(worse), "target": kept_of(worse)}
    labels = TASK.truth(scenes, PREPROCESS)
    found = TASK.score(kept, labels)
    assert (found.metric, found.float, found.num_images) == ("miou", 100.0, 6)
    assert found.target == found.reference < 95
    assert found.drop_pp == pytest.approx(100 - (found.target or 0))
    assert found.drop_spread is not None
    assert found.drop_spread.low < found.drop_pp < found.drop_spread.high
    wrong = np.mean(worse != truth)
    assert found.agreement == pytest.approx(100 * (1 - wrong))
    assert found.target_agreement == 100.0
    assert found.interval(found.agreement) is None
    assert found.class_iou["float"] == (100.0, 100.0, 100.0)
    assert set(found.metrics) == {"mIoU with the float network %", "boundary mIoU %"}
    shown = [row.label for row in rows(found, scenes.classes)]
    assert shown[0] == "mIoU"
    assert "IoU of 'nut'" in shown


def test_without_masks_there_is_the_agreement_alone(scenes: Dataset) -> None:
    kept = {name: kept_of(right(scenes)) for name in ("float", "reference")}
    found = TASK.score(kept, None)
    assert (found.metric, found.float, found.drop_pp, found.agreement) == ("agreement", None, None, 100.0)
    assert judge_accuracy("pixel_agreement", 99.0, found).verdict is Verdict.PASS
    finding = judge_accuracy("miou_drop_pp", 1.0, found)
    assert (finding.verdict, "no masks" in finding.reason) == (Verdict.INCONCLUSIVE, True)


def test_class_maps_have_no_ratio_in_db(scenes: Dataset) -> None:
    kept = {name: {"classes": right(scenes).astype(np.uint8)} for name in ("float", "reference")}
    found = TASK.score(kept, TASK.truth(scenes, PREPROCESS))
    assert "SQNR" not in [row.label for row in rows(found)]
    assert judge_accuracy("sqnr_db", 10.0, found).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("limit", "bound", "verdict"),
    [
        ("miou_drop_pp", 50.0, Verdict.PASS),
        ("miou_drop_pp", -1.0, Verdict.FAIL),
        ("pixel_agreement", 50.0, Verdict.PASS),
        ("pixel_agreement", 99.9, Verdict.FAIL),
        ("drop_pp", 1.0, Verdict.INCONCLUSIVE),
        ("agreement", 1.0, Verdict.INCONCLUSIVE),
    ],
)
def test_limits(limit: str, bound: float, verdict: Verdict, scenes: Dataset) -> None:
    """A limit of classification is none of segmentation, and is not passed by being passed over."""
    truth = right(scenes)
    worse = truth.copy()
    worse[:, :4] = 2
    found = TASK.score({"float": kept_of(truth), "reference": kept_of(worse)}, TASK.truth(scenes, PREPROCESS))
    finding = judge_accuracy(limit, bound, found)
    assert finding.verdict is verdict
    if verdict is not Verdict.INCONCLUSIVE:
        assert finding.low is not None
        assert finding.low <= (finding.value or 0) <= (finding.high or 0)


def test_limits_of_pixels_are_none_of_a_classifier() -> None:
    values = np.eye(3, dtype=np.float32)
    found = load_task("classification").score({"float": {"logits": values}, "reference": {"logits": values}}, None)
    for limit in ("miou_drop_pp", "pixel_agreement"):
        assert judge_accuracy(limit, 1.0, found).verdict is Verdict.INCONCLUSIVE


def test_two_networks_are_compared_on_the_same_images(scenes: Dataset) -> None:
    truth, labels = right(scenes), TASK.truth(scenes, PREPROCESS)
    worse = truth.copy()
    worse[:, :4] = 2
    drop = TASK.pairs(kept_of(truth), kept_of(worse), labels)
    assert isinstance(drop, Drop)
    assert 0 < drop.spread.low < drop.drop_pp < drop.spread.high


def test_data_of_more_classes_are_refused(scenes: Dataset) -> None:
    two = TASK.keep((logits(np.zeros((6, PX, PX), np.int64), 2),), ["maps"])
    with pytest.raises(EdgecError) as refusal:
        TASK.check(scenes, two)
    assert refusal.value.code == "class-mismatch"
    with pytest.raises(EdgecError) as refusal:
        TASK.score({"float": two, "reference": two}, TASK.truth(scenes, PREPROCESS))
    assert refusal.value.code == "class-mismatch"


def test_masks_of_0_and_255_are_taken_for_void_and_refused(tmp_path: Path) -> None:
    """Everything would be right that is background."""
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "images/a.png")
    Image.fromarray(np.array([[0, 255]] * 2, np.uint8).repeat(2, 0).repeat(2, 1)).save(tmp_path / "masks/a.png")
    with pytest.raises(EdgecError, match="255 is void") as refusal:
        TASK.truth(open_dataset(tmp_path), Preprocess(resize_px=4, crop_px=4))
    assert refusal.value.code == "bad-mask"
    (tmp_path / "palette.csv").write_text("name,red,green,blue\nfloor,0,0,0\ncrack,255,255,255\n")
    truth = TASK.truth(open_dataset(tmp_path), Preprocess(resize_px=4, crop_px=4))
    assert truth is not None
    assert set(np.unique(truth)) == {0, 1}


def test_what_is_written(scenes: Dataset, tmp_path: Path) -> None:
    truth = right(scenes)
    worse = truth.copy()
    worse[0, :4] = 2
    kept = {"float": kept_of(truth), "reference": kept_of(worse), "target": kept_of(worse)}
    TASK.write(tmp_path / "predictions.csv", kept, scenes, PREPROCESS, True)
    with (tmp_path / "predictions.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["file"] for line in lines] == [sample.file for sample in scenes.samples]
    assert lines[1]["target_miou"] == "100.0000"
    assert float(lines[0]["target_miou"]) < float(lines[0]["float_miou"]) == 100
    assert float(lines[0]["target_pixel_agreement"]) == pytest.approx(100 * np.mean(worse[0] == truth[0]), abs=1e-3)
    strips = sorted((tmp_path / "examples").iterdir())
    assert len(strips) == 4
    with Image.open(strips[0]) as strip:
        assert strip.size == (5 * 160, 160)
        red = np.asarray(strip)[:, 4 * 160 :] == np.array([255, 64, 64])
    assert red.all(axis=-1).mean() == pytest.approx(np.mean(worse[0] != truth[0]))


def test_an_overlay_leaves_the_background_alone() -> None:
    picture = np.full((4, 4, 3), 100, np.uint8)
    classes = np.array([[0, 1], [0, 1]], np.uint8)
    found = overlay(picture, classes)
    assert (found[:, :2] == 100).all()
    assert found[0, 3].tolist() == [round(0.4 * 100 + 0.6 * 128), 40, 40]
    assert colored(np.array([[VOID]])).tolist() == [[[255, 255, 255]]]
    assert difference(classes, classes[:, ::-1])[0, 0].tolist() == [255, 64, 64]


def test_a_reply_counts_pixels(scenes: Dataset) -> None:
    kept = kept_of(right(scenes))
    reply = TASK.reply(kept, 0, ("floor", "bolt", "nut"), 5, np.zeros((PX, PX, 3), np.uint8))
    assert [name for name, _ in reply.lines] == ["bolt", "floor"]
    assert sum(share for _, share in reply.lines) == pytest.approx(1.0)
    assert set(reply.pictures) == {"classes", "overlay"}
    assert np.array_equal(reply.tensors["classes"], kept["classes"][0])
