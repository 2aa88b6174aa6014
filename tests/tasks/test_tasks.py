"""Tasks: one notion of a right answer, and what is said where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.data.dataset import Dataset, Sample
from edgec.pipeline.data.preprocess import Preprocess
from edgec.pipeline.forms.score import scored
from edgec.pipeline.gate.accuracy import judge_accuracy
from edgec.pipeline.precision import headline
from edgec.pipeline.tasks.accuracy import Accuracy, rate_interval, rows
from edgec.pipeline.tasks.classification import read_predictions, score_logits
from edgec.pipeline.tasks.metrics import answers
from edgec.pipeline.tasks.task import Shape, load_task, task_names, task_of

CLASSES, TENSORS = load_task("classification"), load_task("tensors")
PICTURE = np.zeros((1, 1, 3), np.uint8)


def tied(count: int) -> Accuracy:
    """The worst case of integer outputs: 100 images of class 0, of which the artifact ties ``count`` at the top."""
    sure = np.tile(np.array([[2.0, 1.0, 0.0]], np.float32), (100, 1))
    artifact = sure.copy()
    artifact[:count, 1] = 2.0
    return score_logits({"float": sure, "reference": artifact, "target": artifact}, np.zeros(100, np.int64))


def test_a_tie_answers_with_its_first_class_everywhere() -> None:
    found = tied(40)
    assert (found.float, found.target, found.drop_pp, found.agreement) == (100.0, 100.0, 0.0, 100.0)
    assert (found.only_float_right, found.only_target_right, found.mcnemar_p) == (0, 0, 1.0)
    assert found.tied == 40.0
    assert judge_accuracy("drop_pp", 1.0, found).value == found.drop_pp


@given(
    hnp.arrays(np.int8, (12, 4), elements=st.integers(-2, 2)),
    hnp.arrays(np.int8, (12, 4), elements=st.integers(-2, 2)),
    hnp.arrays(np.int64, 12, elements=st.integers(0, 3)),
)
def test_every_figure_counts_the_same_answers(one: np.ndarray, other: np.ndarray, labels: np.ndarray) -> None:
    """Console, record, gate, --max-drop-pp and predictions.csv cannot disagree, however many ties there are."""
    logits = {"float": one.astype(np.float32), "reference": other.astype(np.float32)}
    found = score_logits(logits, labels)
    assert found.float is not None
    assert found.reference is not None
    assert found.drop_pp == pytest.approx(found.float - found.reference)
    assert found.only_float_right is not None
    assert found.only_target_right is not None
    assert found.drop_pp == pytest.approx(100 * (found.only_float_right - found.only_target_right) / 12)
    assert judge_accuracy("drop_pp", 1.0, found).value == pytest.approx(found.drop_pp)
    assert headline(found, "reference") == found.reference


@given(hnp.arrays(np.int8, (5, 3), elements=st.integers(-1, 1)), hnp.arrays(np.int64, 5, elements=st.integers(0, 2)))
def test_predictions_say_what_was_counted(values: np.ndarray, labels: np.ndarray) -> None:
    import tempfile

    images = Dataset(Path("."), tuple(Sample(f"{i}.png", int(label)) for i, label in enumerate(labels)))
    kept = {name: {"logits": values.astype(np.float32)} for name in ("float", "reference", "target")}
    with tempfile.TemporaryDirectory() as folder:
        CLASSES.write(Path(folder) / "predictions.csv", kept, images, Preprocess(), True)
        read = read_predictions(Path(folder) / "predictions.csv")
    found = CLASSES.score(kept, labels)
    assert 100 * np.mean(read.shipped == labels) == pytest.approx(found.target)
    assert CLASSES.reply(kept["target"], 0, (), 3, PICTURE).lines[0][0] == f"class {read.shipped[0]}"


@pytest.mark.parametrize(
    ("outputs", "name"),
    [
        ([(10,)], "classification"),
        ([(1,)], "classification"),
        ([(10, 1, 1)], "classification"),
        ([(4, 32, 32)], "tensors"),
        ([(100, 85)], "tensors"),
        ([(10,), (10,)], "tensors"),
        ([(80, 8, 8), (80, 4, 4)], "tensors"),
        ([()], "tensors"),
        ([(0, 0, 0)], "tensors"),
    ],
)
def test_the_outputs_tell_the_task(outputs: list[tuple[int, ...]], name: str) -> None:
    shapes = [Shape(f"out{i}", sides) for i, sides in enumerate(outputs)]
    assert task_of(None, shapes).name == name
    assert task_of("tensors", shapes).name == "tensors"


def test_a_task_that_does_not_take_the_outputs_is_refused() -> None:
    with pytest.raises(EdgecError) as caught:
        task_of("classification", [Shape("maps", (4, 32, 32))])
    assert caught.value.code == "wrong-task"
    assert "'maps' (N, 4, 32, 32)" in caught.value.message
    with pytest.raises(EdgecError) as caught:
        task_of("clasification", [Shape("x", (3,))])
    assert caught.value.code == "unknown-task"
    assert "classification" in caught.value.hint


def test_of_several_outputs_each_is_judged() -> None:
    stream = np.random.default_rng(0)
    good, boxes = stream.normal(size=(8, 5)).astype(np.float32), stream.normal(size=(8, 4, 6)).astype(np.float32)
    kept = {
        "float": {"scores": good, "boxes": boxes},
        "reference": {"scores": good, "boxes": boxes + np.float32(0.1)},
        "target": {"scores": good, "boxes": boxes * np.float32(1.1)},
    }
    found = TENSORS.score(kept, None)
    assert (found.float, found.target, found.agreement, found.drop_pp) == (None, None, None, None)
    assert {one.name: one.sqnr_db for one in found.outputs} == {"scores": None, "boxes": pytest.approx(20.0, abs=1e-3)}
    assert found.sqnr_db == pytest.approx(20.0, abs=1e-3)
    assert found.outputs[1].cosine == pytest.approx(1.0)
    assert found.outputs[1].max_error == pytest.approx(float(np.abs(boxes * np.float32(1.1) - boxes).max()))
    assert not any("top" in row.label for row in rows(found))


def test_a_gate_has_nothing_to_say_about_tensors() -> None:
    found = TENSORS.score({name: {"x": np.ones((2, 3), np.float32)} for name in ("float", "reference")}, None)
    for limit in ("drop_pp", "agreement"):
        assert judge_accuracy(limit, 1.0, found).verdict.value == "inconclusive"


def test_large_outputs_bound_the_number_of_images() -> None:
    assert TENSORS.most_images([Shape("maps", (21, 513, 513))]) == 6
    assert CLASSES.most_images([Shape("logits", (1000,))]) is None


@pytest.mark.parametrize(("percent", "count"), [(0.0, 10), (100.0, 10), (86.0, 200)])
def test_intervals_hold_the_rate(percent: float, count: int) -> None:
    low, high = rate_interval(percent, count)
    assert 0.0 <= low <= percent <= high <= 100.0


@given(st.integers(1, 5000).flatmap(lambda count: st.tuples(st.integers(0, count), st.just(count))))
def test_intervals_are_scipys(counted: tuple[int, int]) -> None:
    right, count = counted
    theirs = stats.binomtest(right, count).proportion_ci(0.95, method="wilson")
    assert rate_interval(100 * right / count, count) == pytest.approx((100 * theirs.low, 100 * theirs.high), abs=1e-9)


@pytest.mark.parametrize("name", task_names())
def test_every_task_has_its_name(name: str) -> None:
    assert load_task(name).name == name


@given(
    hnp.arrays(
        np.float32, st.tuples(st.just(1), st.integers(1, 4)), elements=st.floats(-(2.0**-24), 2.0**-24, width=32)
    )
)
def test_the_first_line_of_a_reply_is_the_answer(logits: np.ndarray) -> None:
    """Probabilities of nearly equal logits are equal; the order is the logits'."""
    assert CLASSES.reply({"logits": logits}, 0, (), 3, PICTURE).lines[0][0] == f"class {answers(logits)[0]}"


@pytest.mark.parametrize("task", ["classification", "tensors"])
def test_where_no_target_answered_its_column_is_empty(task: str) -> None:
    """Two outputs of which the reference keeps one exactly: neither figure stands in the target's column."""
    values = np.tile(np.array([[2.0, 1.0, 0.0]], np.float32), (4, 1))
    names = ("logits",) if task == "classification" else ("exact", "coarse")
    kept = {"float": dict.fromkeys(names, values), "reference": dict.fromkeys(names, values)}
    kept["reference"][names[-1]] = values + 0.5 * (task == "tensors")
    found = scored(load_task(task), kept, None, ())
    assert found.shipped == "reference"
    assert [row.values[2] for row in rows(found)] == [None] * len(rows(found))
    assert {row.cell(2, str) for row in rows(found)} == {"-"}
    assert ("SQNR" if task == "classification" else "SQNR of 'exact'", "exact") in [
        (row.label, row.cell(1, str)) for row in rows(found)
    ]
    assert scored(load_task(task), {**kept, "target": kept["reference"]}, None, ()).shipped == "target"
