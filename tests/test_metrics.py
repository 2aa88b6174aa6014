"""Accuracy arithmetic against worked answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgec.pipeline.tasks.metrics import agreement_percent, discordant, mcnemar_p, sqnr_db, topk_percent

LOGITS = np.array([[3, 1, 2], [1, 2, 3], [2, 3, 1], [1, 1, 0]], np.float32)
LABELS = np.array([0, 1, 1, 1])


def test_topk_by_hand() -> None:
    """Rows 0 and 2 are right, row 1 is second, row 3 ties and so is not first."""
    assert topk_percent(LOGITS, LABELS) == 50.0
    assert topk_percent(LOGITS, LABELS, 2) == 100.0


def test_saturated_logits_score_nothing() -> None:
    assert topk_percent(np.ones((4, 3), np.float32), np.zeros(4, np.int64)) == 0.0


def test_agreement_and_discordant_pairs_by_hand() -> None:
    other = LOGITS[:, [1, 0, 2]]
    assert agreement_percent(LOGITS, LOGITS) == 100.0
    assert agreement_percent(LOGITS, other) == 50.0  # rows 1 and 3: the third class, and a tie resolved alike
    assert discordant(LOGITS, other, LABELS) == (2, 0)


def test_sqnr_by_hand() -> None:
    reference = np.array([3.0, 4.0])
    assert sqnr_db(reference * 1.1, reference) == pytest.approx(20.0)
    assert sqnr_db(reference, reference) == math.inf
    assert sqnr_db(reference, np.zeros(2)) == -math.inf


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
