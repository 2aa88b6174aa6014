"""A poor result is told with its reasons, its worst layers and what to try next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from edgec.pipeline.bundle.poor import Poor, poor_of
from edgec.pipeline.forms.scheme import load_scheme
from edgec.pipeline.forms.spec import load_target, with_precision
from edgec.pipeline.quantize.record import QuantizationRecord
from edgec.pipeline.quantize.stages import DropLimit
from edgec.pipeline.recipe import Choices, DataFolders, Recipe, make_recipe
from edgec.pipeline.tasks.accuracy import Accuracy

GOOD = Accuracy(
    "classification", "top1", 90.0, 89.0, 89.0, 1.0, 97.5, 20.0, 200, reference_sqnr_db=20.0, reference_agreement=97.5
)
RECORD = QuantizationRecord((), {"a": 30.0, "b": 4.0, "c": None, "d": 12.0, "e": 8.0})


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return make_recipe("mobilenetv3-small", "arm", DataFolders(), Choices(), 256, "fast")


def found(recipe: Recipe, answered: Mapping[str, str] | None = None, **changed: float | None) -> Poor | None:
    return poor_of(replace(GOOD, **changed), RECORD, recipe, answered or {})


def test_a_good_result_is_not_poor(recipe: Recipe) -> None:
    assert found(recipe) is None
    assert found(recipe, sqnr_db=None, reference_sqnr_db=None) is None, "exact"
    assert found(recipe, agreement=None, reference_agreement=None) is None, "no classes"
    assert found(recipe, sqnr_db=10.0, agreement=90.0) is None


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("sqnr_db", 4.9, "the artifact has 4.9 dB"),
        ("reference_sqnr_db", 0.8, "the QDQ reference has 0.8 dB"),
        ("agreement", 16.7, "the artifact agrees with the float network on 16.7 %"),
        ("reference_agreement", 50.0, "the QDQ reference agrees"),
    ],
)
def test_each_reason_is_said(recipe: Recipe, field: str, value: float, said: str) -> None:
    poor = found(recipe, **{field: value})
    assert poor is not None
    assert [reason.startswith(said) for reason in poor.reasons] == [True]
    assert [one.layer for one in poor.worst_layers] == ["b", "e", "d"]
    assert said in poor.words()
    assert "b 4.0 dB" in poor.words()


def test_what_an_x86_without_vnni_loses_is_said(recipe: Recipe) -> None:
    """GoogLeNet had 21.2 dB in OpenVINO on such a machine, 28.2 dB as written, and 21.2 dB emulated."""
    plain, vnni = {"machine": "x86_64", "simd": "avx avx2 fma"}, {"machine": "x86_64", "simd": "avx2 avx512_vnni"}
    poor = found(recipe, plain, sqnr_db=21.2, reference_sqnr_db=28.2)
    assert poor is not None
    assert len(poor.reasons) == 1
    assert "21.2 dB on this x86 without VNNI" in poor.reasons[0]
    assert "28.2 dB as the QDQ file" in poor.reasons[0]
    assert "safe_pairs = true" in poor.next_step
    as_given = found(replace(recipe, quantizer="as-given"), plain, sqnr_db=21.2, reference_sqnr_db=28.2)
    assert as_given is not None
    assert "--quantizer fast" in as_given.next_step
    safe = replace(recipe, target=replace(recipe.target, scheme=load_scheme("openvino")))
    assert found(safe, plain, sqnr_db=21.2, reference_sqnr_db=28.2) is None, "its weights cannot saturate"
    assert found(replace(safe, quantizer="as-given"), plain, sqnr_db=21.2, reference_sqnr_db=28.2) is not None
    assert found(recipe, vnni, sqnr_db=21.2, reference_sqnr_db=28.2) is None
    assert found(recipe, plain, sqnr_db=33.0, reference_sqnr_db=41.0) is None
    assert found(recipe, {"machine": "aarch64", "simd": "asimd"}, sqnr_db=21.2, reference_sqnr_db=28.2) is None
    assert found(recipe, plain, sqnr_db=27.2, reference_sqnr_db=28.2) is None


def test_the_next_step_is_the_likeliest_that_was_not_tried(recipe: Recipe) -> None:
    def step(asked: Recipe) -> str:
        poor = found(asked, sqnr_db=1.0)
        assert poor is not None
        return poor.next_step

    assert step(recipe) == "--quantizer accurate"
    assert "more images" in step(replace(recipe, calibration=recipe.calibration.take(20)))
    assert "trained weights" in step(replace(recipe, labelled=False, weights="random"))
    best = replace(recipe, quantizer="best")
    assert step(best) == "--precision mixed"
    assert step(replace(best, target=with_precision(best.target, "mixed"))) == "--precision fp16"
    assert "sensitivity" in step(replace(best, target=with_precision(best.target, "fp16")))
    jetson = replace(best, target=load_target("jetson"), limit=DropLimit(1.0, best.calibration))
    assert step(jetson) == "--precision mixed"
    assert step(replace(jetson, target=with_precision(jetson.target, "mixed"))) == "--precision fp16"
