"""Mean IoU and boundary IoU against masks that were counted by hand, and the interval of a drop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgec.pipeline.data.masks import VOID
from edgec.pipeline.tasks.iou import boundary, boundary_counted, confusion, counted, drop_spread
from edgec.pipeline.tasks.resampling import mean_spread

TRUTH = np.array([[[0, 0, 1, 1], [0, 0, 1, VOID]]], np.uint8)
SAID = np.array([[[0, 1, 1, 1], [0, 0, 2, 2]]], np.uint8)


def test_a_confusion_matrix_by_hand() -> None:
    """Seven pixels count: three of four 0 right, one taken for 1; two of three 1 right, one taken for 2."""
    assert confusion(TRUTH[0], SAID[0], 4).tolist() == [[3, 1, 0, 0], [0, 2, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_iou_by_hand() -> None:
    """0: 3 of 4; 1: 2 of (3 + 3 - 2); 2 and 3 are not in the truth, and the mean is over the other two."""
    found = counted(TRUTH, SAID, 4)
    assert found.iou() == [75.0, 50.0, None, None]
    assert found.mean_iou().tolist() == [62.5]


def test_a_class_of_one_pixel_weighs_as_much_as_any_other() -> None:
    truth = np.zeros((1, 8, 8), np.uint8)
    truth[0, 3, 3] = 1
    missed = counted(truth, np.zeros_like(truth), 2)
    assert missed.iou() == [pytest.approx(100 * 63 / 64), 0.0]
    assert counted(truth, truth, 2).mean_iou().tolist() == [100.0]


def test_images_are_summed_before_they_are_divided() -> None:
    truth = np.array([[[1, 1, 1, 1]], [[0, 0, 0, 1]]], np.uint8)
    said = np.array([[[1, 1, 1, 1]], [[0, 0, 0, 0]]], np.uint8)
    found = counted(truth, said, 2)
    assert found.iou() == [75.0, 80.0]
    assert found.mean_iou(np.eye(2)).tolist() == [100.0, 37.5]


def test_an_image_that_is_all_void_says_nothing() -> None:
    truth = np.stack([TRUTH[0], np.full_like(TRUTH[0], VOID)])
    found = counted(truth, np.concatenate([SAID, SAID]), 4)
    assert found.mean_iou().tolist() == [62.5]
    assert np.isnan(found.mean_iou(np.eye(2))[1])


def test_a_mask_is_taken_at_the_size_of_the_map() -> None:
    """Of 4 x 4 at 2 x 2 the pixels whose middle lies in the middle of each quarter."""
    truth = np.arange(16, dtype=np.uint8).reshape(1, 4, 4) % 4
    assert counted(truth, truth[:, 1::2, 1::2], 4).mean_iou().tolist() == [100.0]


@given(
    hnp.arrays(np.uint8, (3, 5, 6), elements=st.sampled_from([0, 1, 2, VOID])),
    hnp.arrays(np.uint8, (3, 5, 6), elements=st.integers(0, 2)),
)
def test_iou_is_what_sets_of_pixels_say(truth: np.ndarray, said: np.ndarray) -> None:
    judged, expected = truth != VOID, []
    for index in range(3):
        one, other = (truth == index) & judged, (said == index) & judged
        expected.append(100 * (one & other).sum() / (one | other).sum() if one.any() else None)
    assert counted(truth, said, 3).iou() == pytest.approx(expected)


def test_a_boundary_by_hand() -> None:
    """2 % of the diagonal of 30 x 40 is one pixel: the frame, and one column to either side of the border."""
    classes = np.zeros((30, 40), np.uint8)
    classes[:, 20:] = 1
    expected = np.zeros((30, 40), bool)
    expected[[0, -1]] = expected[:, [0, 19, 20, 39]] = True
    assert np.array_equal(boundary(classes), expected)


def test_boundary_iou_is_the_papers_definition() -> None:
    """Each region eroded by a 3 x 3 square as often as the distance says, the picture framed by nothing."""
    from scipy.ndimage import binary_erosion

    stream = np.random.default_rng(4)
    truth, said = (np.kron(stream.integers(0, 3, (4, 5)), np.ones((20, 20))).astype(np.uint8) for _ in range(2))
    said[30:40, 45:60] = 2
    truth[7:13] = VOID
    distance, judged = round(0.02 * np.hypot(80, 100)), truth != VOID
    expected = []
    for index in range(3):
        near = []
        for classes in (truth, said):
            region = np.pad(classes == index, 1)
            near.append(region & ~binary_erosion(region, np.ones((3, 3)), distance))
        one, other = (part[1:-1, 1:-1] & judged for part in near)
        expected.append(100 * (one & other).sum() / (one | other).sum())
    found = boundary_counted(truth[None], said[None], 3)
    assert found.iou() == pytest.approx(expected)
    assert found.mean_iou()[0] < counted(truth[None], said[None], 3).mean_iou()[0]


def test_the_interval_of_a_drop_covers_what_is_true() -> None:
    """Two networks err alike on 60 images, the second on one column more; equal networks lose nothing."""
    stream = np.random.default_rng(7)
    truth = stream.integers(0, 2, (60, 8, 8)).astype(np.uint8)
    wrong = stream.random(truth.shape) < 0.2
    one = np.where(wrong, 1 - truth, truth)
    other = one.copy()
    other[:30, :, 0] = 1 - truth[:30, :, 0]
    before, after = counted(truth, one, 2), counted(truth, other, 2)
    lost = float(before.mean_iou()[0] - after.mean_iou()[0])
    spread = drop_spread(before, after)
    assert spread.low < lost < spread.high
    assert 0 < spread.error < spread.high - spread.low < 5
    same = drop_spread(before, before)
    assert (same.low, same.high, same.error) == (0.0, 0.0, 0.0)


def test_pairing_makes_the_interval_of_a_drop_narrower_than_that_of_either() -> None:
    """Scenes differ much more than the two networks do on one of them."""
    stream = np.random.default_rng(9)
    truth = stream.integers(0, 2, (80, 8, 8)).astype(np.uint8)
    hard = stream.random((80, 1, 1))
    one = np.where(stream.random(truth.shape) < hard, 1 - truth, truth)
    other = one.copy()
    other[:, 0, 0] = 1 - truth[:, 0, 0]
    before, after = counted(truth, one, 2), counted(truth, other, 2)
    alone = mean_spread(before.mean_iou(np.eye(80)))
    assert drop_spread(before, after).error < 0.5 * alone.error
