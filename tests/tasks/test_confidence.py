"""What a network says of its own certainty: against hand-worked figures, and as limits of a budget."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgec.pipeline.gate.accuracy import judge_accuracy
from edgec.pipeline.gate.finding import Verdict
from edgec.pipeline.tasks.accuracy import Accuracy, rows
from edgec.pipeline.tasks.classification import score_logits
from edgec.pipeline.tasks.confidence import calibration_error, confidence
from edgec.pipeline.tasks.task import load_task

LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1])
LOGITS = np.random.default_rng(0).normal(0, 2, (8, 7)).astype(np.float32)


def scored(after: np.ndarray, before: np.ndarray = LOGITS, labels: np.ndarray | None = LABELS) -> Accuracy:
    return score_logits({"float": before, "reference": after, "target": after}, labels)


def test_a_form_that_is_the_float_network_differs_in_nothing() -> None:
    found = scored(LOGITS).confidence
    assert found is not None
    assert found.kl_divergence.value == 0
    assert (found.top5_agreement.value if found.top5_agreement else None) == 100
    assert found.calibration_error == found.float_calibration_error
    assert found.calibration_rise is not None
    assert found.calibration_rise.value == 0


def test_divergence_by_hand() -> None:
    before, after = np.array([[0.75, 0.25]]), np.array([[0.5, 0.5]])
    found = confidence(before, after, (np.array([0]), np.array([0])), None)
    assert found.kl_divergence.value == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert found.top5_agreement is None
    assert found.calibration_error is None


def test_calibration_error_by_hand() -> None:
    """Two bins: 0.9 sure and right half of the time, 0.6 sure and always right."""
    sure = np.array([0.9, 0.9, 0.6, 0.6])
    right = np.array([True, False, True, True])
    assert calibration_error(sure, right) == pytest.approx(100 * (0.5 * 0.4 + 0.5 * 0.4))
    assert calibration_error(np.ones(3), np.ones(3, bool)) == 0
    assert calibration_error(np.ones(3), np.zeros(3, bool)) == 100


def test_certainty_alone_can_be_lost() -> None:
    """Every answer stays, and no probability does."""
    found = scored(LOGITS / 8)
    assert found.agreement == 100
    assert found.confidence is not None
    assert found.confidence.kl_divergence.value > 0.5
    assert found.confidence.top5_agreement is not None
    assert found.confidence.top5_agreement.value == 100


def test_five_first_classes_by_hand() -> None:
    before = np.array([[6, 5, 4, 3, 2, 1, 0]], np.float32)
    after = np.array([[6, 5, 4, 3, 0, 1, 2]], np.float32)
    found = scored(after, before, np.array([0])).confidence
    assert found is not None
    assert found.top5_agreement is not None
    assert found.top5_agreement.value == pytest.approx(80)


def test_a_softmax_inside_the_network_is_not_taken_twice() -> None:
    shares = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
    steps = np.float32(1 / 256) * np.rint(shares * 256).astype(np.float32)  # as an int8 file has them
    by_shares, by_logits = (scored(after, before).confidence for after, before in ((steps, shares), (LOGITS, LOGITS)))
    assert by_shares is not None
    assert by_logits is not None
    assert by_shares.float_calibration_error == pytest.approx(by_logits.float_calibration_error or 0.0, abs=1e-4)
    assert 0 < by_shares.kl_divergence.value < 0.05


@given(arrays.arrays(np.float32, (6, 9), elements=st.floats(-30, 30, width=32)))
def test_no_logits_make_a_figure_that_is_none(after: np.ndarray) -> None:
    before = np.random.default_rng(1).normal(0, 3, (6, 9)).astype(np.float32)
    found = scored(after, before, np.arange(6)).confidence
    assert found is not None
    assert found.kl_divergence.value >= -1e-9
    assert 0 <= (found.calibration_error or 0) <= 100
    assert math.isfinite(found.kl_divergence.value + found.kl_divergence.spread.error)
    assert found.calibration_rise is not None
    assert math.isfinite(found.calibration_rise.value + found.calibration_rise.spread.error)


def test_one_logit_has_two_shares() -> None:
    found = scored(LOGITS[:, :1], LOGITS[:, :1], LABELS % 2).confidence
    assert found is not None
    assert found.top5_agreement is None
    assert found.kl_divergence.value == 0


def test_tables_show_them() -> None:
    labels = [row.label for row in rows(scored(LOGITS / 8))]
    for wanted in ("first five that float names too", "KL divergence from float, nats", "calibration error, points"):
        assert wanted in labels


@pytest.mark.parametrize(
    ("limit", "bound", "verdict"),
    [
        ("kl_divergence", 5.0, Verdict.PASS),
        ("kl_divergence", 0.01, Verdict.FAIL),
        ("top5_agreement", 10.0, Verdict.PASS),
        ("top5_agreement", 100.0, Verdict.FAIL),
        ("calibration_rise", 100.0, Verdict.PASS),
        ("calibration_rise", -100.0, Verdict.FAIL),
    ],
)
def test_limits_are_judged(limit: str, bound: float, verdict: Verdict) -> None:
    noise = np.random.default_rng(5).normal(0, 2, LOGITS.shape).astype(np.float32)
    finding = judge_accuracy(limit, bound, scored(LOGITS + noise))
    assert finding.verdict == verdict
    assert finding.value is not None


def test_a_limit_without_its_figure_is_inconclusive() -> None:
    unlabelled = judge_accuracy("calibration_rise", 1.0, scored(LOGITS, labels=None))
    assert (unlabelled.verdict, "no labels" in unlabelled.reason) == (Verdict.INCONCLUSIVE, True)
    tensors = load_task("tensors").score({form: {"a": LOGITS} for form in ("float", "reference", "target")}, None)
    assert judge_accuracy("kl_divergence", 1.0, tensors).verdict == Verdict.INCONCLUSIVE
