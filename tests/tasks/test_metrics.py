"""Accuracy arithmetic against worked answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgec.pipeline.tasks.metrics import (
    NO_SIGNAL_DB,
    answers,
    cosine,
    discordant,
    mcnemar_p,
    right_percent,
    sqnr_db,
    sqnr_db_of,
    tied_percent,
    topk_percent,
)

LOGITS = np.array([[3, 1, 2], [1, 2, 3], [2, 3, 1], [1, 1, 0]], np.float32)
LABELS = np.array([0, 1, 1, 1])


def test_topk_by_hand() -> None:
    """Rows 0 and 2 are right, row 1 is second; row 3 ties, and the first of the largest is another class."""
    assert topk_percent(LOGITS, LABELS) == 50.0
    assert topk_percent(LOGITS, LABELS, 2) == 100.0


def test_the_first_of_the_largest_answers() -> None:
    assert answers(LOGITS).tolist() == [0, 2, 1, 0]
    assert answers(np.ones((2, 3), np.float32)).tolist() == [0, 0]
    assert tied_percent(LOGITS) == 25.0


def test_a_single_logit_answers_by_its_sign() -> None:
    logit = np.array([[-2.0], [0.0], [0.5]], np.float32)
    assert answers(logit).tolist() == [0, 0, 1]
    assert tied_percent(logit) == 0.0


@given(hnp.arrays(np.int8, (6, 4), elements=st.integers(-2, 2)), hnp.arrays(np.int64, 6, elements=st.integers(0, 3)))
def test_top1_is_what_the_answers_get_right_ties_included(values: np.ndarray, labels: np.ndarray) -> None:
    logits = values.astype(np.float32)
    assert topk_percent(logits, labels, 1) == right_percent(answers(logits), labels)


def test_agreement_and_discordant_pairs_by_hand() -> None:
    other = answers(LOGITS[:, [1, 0, 2]])
    assert right_percent(answers(LOGITS), answers(LOGITS)) == 100.0
    assert right_percent(answers(LOGITS), other) == 50.0  # rows 1 and 3: the third class, and a tie resolved alike
    assert discordant(answers(LOGITS), other, LABELS) == (2, 0)


def test_cosine_by_hand() -> None:
    rows = np.array([[3.0, 4.0], [0.0, 0.0], [1.0, 0.0]])
    assert cosine(rows, rows) == pytest.approx(1.0)
    assert cosine(rows, np.array([[4.0, 3.0], [0.0, 0.0], [0.0, 1.0]])) == pytest.approx((0.96 + 1 + 0) / 3)


def test_sqnr_by_hand() -> None:
    reference = np.array([3.0, 4.0])
    assert sqnr_db(reference * 1.1, reference) == pytest.approx(20.0)
    assert sqnr_db(reference, reference) == math.inf
    assert sqnr_db(reference, np.zeros(2)) == NO_SIGNAL_DB


@pytest.mark.parametrize(("a", "b", "p"), [(0, 0, 1.0), (5, 5, 1.0), (0, 5, 0.0625), (1, 9, 0.021484375)])
def test_mcnemar_is_the_exact_binomial(a: int, b: int, p: float) -> None:
    assert mcnemar_p(a, b) == pytest.approx(p)
    assert mcnemar_p(b, a) == pytest.approx(p)


@given(hnp.arrays(np.float32, (5, 4), elements=st.floats(-100, 100, width=32)), st.integers(0, 3))
def test_topk_grows_with_k_and_ends_at_all(logits: np.ndarray, label: int) -> None:
    labels = np.full(5, label)
    rates = [topk_percent(logits, labels, k) for k in (1, 2, 3, 4)]
    assert rates == sorted(rates)
    assert rates[-1] == 100.0


@given(hnp.arrays(np.float32, (5, 7), elements=st.floats(-9, 9, width=32)), st.integers(1, 4))
def test_the_noise_of_parts_is_that_of_the_whole(reference: np.ndarray, cut: int) -> None:
    values = np.rint(reference)
    parts = [(values[:cut], reference[:cut]), (values[cut:], reference[cut:])]
    assert sqnr_db_of(parts) == pytest.approx(sqnr_db(values, reference), rel=1e-9)
