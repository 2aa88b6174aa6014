"""How answers hang on the calibration images: by hand, as a limit, and from the command to the gate."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgec.pipeline.cli import main
from edgec.pipeline.gate.accuracy import judge_stability
from edgec.pipeline.gate.finding import Verdict
from edgec.pipeline.tasks.classification import score_logits
from edgec.pipeline.tasks.stability import Stability, stability
from edgec.pipeline.tasks.task import load_task

LOGITS = np.eye(4, dtype=np.float32)[np.arange(40) % 4]
LIMITS = '[[budget]]\nmodel = "tiny"\ntarget = "cpu"\ndevice = "any"\nowner = "me"\nreason = "test"\n[budget.limits]\n'


def compared(other: np.ndarray) -> Stability:
    return stability(score_logits({"float": LOGITS, "reference": other}, None), (8, 9))


def test_the_share_that_differs_by_hand() -> None:
    """Ten of forty: 25 %, and Wilson's interval of it."""
    other = LOGITS.copy()
    other[:10] = np.roll(other[:10], 1, axis=1)
    found = compared(other)
    assert found.unstable_answers == 25
    assert found.spread is not None
    assert (found.spread.low, found.spread.high) == pytest.approx((14.19, 40.19), abs=0.01)
    assert found.num_calibration == (8, 9)
    assert "answers 25.0 % of 40 otherwise" in found.words()


def test_equal_networks_are_stable() -> None:
    found = compared(LOGITS)
    assert (found.unstable_answers, found.sqnr_db) == (0, None)
    assert "0.0 %" in found.words()


def test_pixels_have_a_bootstrap() -> None:
    maps = np.random.default_rng(0).integers(0, 3, (6, 8, 8)).astype(np.uint8)
    other = maps.copy()
    other[:3, :4] = (other[:3, :4] + 1) % 3
    scored = load_task("segmentation").score({"float": {"classes": maps}, "reference": {"classes": other}}, None)
    found = stability(scored, (1, 1))
    assert found.unstable_answers == pytest.approx(25)
    assert found.spread is not None
    assert found.spread.low < 25 < found.spread.high


def test_tensors_have_no_answers() -> None:
    kept = {"float": {"y": LOGITS}, "reference": {"y": LOGITS + 0.25}}
    found = stability(load_task("tensors").score(kept, None), (1, 1))
    assert found.unstable_answers is None
    assert found.sqnr_db is not None
    assert "dB apart" in found.words()
    assert judge_stability(5.0, found).verdict == Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("bound", "verdict"), [(60.0, Verdict.PASS), (10.0, Verdict.FAIL), (26.0, Verdict.INCONCLUSIVE)]
)
def test_limits(bound: float, verdict: Verdict) -> None:
    other = LOGITS.copy()
    other[:10] = np.roll(other[:10], 1, axis=1)
    assert judge_stability(bound, compared(other)).verdict == verdict


def test_what_is_not_in_the_bundle_is_no_pass() -> None:
    found = judge_stability(5.0, None)
    assert found.verdict == Verdict.INCONCLUSIVE
    assert "--stability" in found.reason


def test_from_the_build_to_the_gate(
    tiny_onnx: Path, tiny_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, budgets = tmp_path / "out", tmp_path / "budgets.toml"
    build = ["build", str(tiny_onnx), "--target", "cpu", "--data", str(tiny_images), "--no-measure", "--json"]
    assert main([*build, "--stability", "--output", str(bundle)]) == 0
    result = json.loads(capsys.readouterr().out)
    found = result["stability"]
    assert found["unstable_answers"] == 0
    assert sum(found["num_calibration"]) == 12
    assert found["sqnr_db"] > 0  # six pictures of three colours: a half may lack one
    assert any("disjoint halves" in note for note in result["notes"])
    assert json.loads((bundle / "manifest.json").read_text())["stability"] == found
    assert "disjoint halves" in (bundle / "report.html").read_text()
    budgets.write_text(f"{LIMITS}unstable_answers = 50.0\n")
    check = ["check", str(bundle), "--budgets", str(budgets), "--no-device"]
    assert main(check) == 0, capsys.readouterr()
    assert main(["reproduce", str(bundle), "--model", str(tiny_onnx), "--data", str(tiny_images)]) == 0


def test_one_image_cannot_calibrate_two(
    tiny_onnx: Path, tiny_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build = ["build", str(tiny_onnx), "--target", "cpu", "--data", str(tiny_images), "--no-measure"]
    assert main([*build, "--calibration-samples", "1", "--stability", "--output", str(tmp_path / "out")]) == 1
    assert "error[empty-data]" in capsys.readouterr().err
