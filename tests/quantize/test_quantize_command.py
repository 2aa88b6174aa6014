"""``edgec quantize`` through the command line: a file that other tools can read, and honest figures about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest

from edgec.pipeline.cli import main
from edgec.pipeline.data.dataset import open_splits
from edgec.pipeline.data.preprocess import Preprocess
from edgec.pipeline.forms.answer import ask
from edgec.pipeline.forms.ort import OrtRunner
from edgec.pipeline.quantize.vnni import SaturatingRunner
from edgec.pipeline.tasks.task import Shape, load_task

pytestmark = pytest.mark.usefixtures("shared_store")
PREPROCESS = Preprocess(resize_px=40, crop_px=32, mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5))


def quantized(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    status = main(["quantize", *map(str, arguments), "--json"])
    captured = capsys.readouterr()
    assert status == 0, captured.err
    report: dict[str, Any] = json.loads(captured.out)
    return report


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["quantize", *map(str, arguments)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.partition("error[")[2].partition("]")[0]


def test_writes_a_qdq_file_and_says_what_it_is_worth(
    model: Path, tiny_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new" / "quantized.onnx"
    report = quantized(capsys, model, "--scheme", "openvino", "--data", tiny_images, "--output", output, "--vnni-off")
    assert report["output"] == str(output)
    onnx.checker.check_model(onnx.load(output), full_check=True)
    assert (report["num_calibration"], report["num_images"]) == (12, 12)
    assert {layer["layer"] for layer in report["float_layers"]} == {"relu", "pool", "flatten"}

    _, test = open_splits(tiny_images)
    runners = {"float": OrtRunner(tmp_path / "tiny.onnx"), "reference": OrtRunner(output, as_written=True)}
    task, outputs = load_task("classification"), (Shape("logits", (3,)),)
    kept = {name: ask(runner, test, PREPROCESS, task, outputs, 16) for name, runner in runners.items()}
    expected = task.score(kept, test.labels)
    assert report["top1_float"] == expected.float == 100.0
    assert report["reference"]["agreement"] == expected.agreement
    assert report["reference"]["sqnr_db"] == pytest.approx(expected.sqnr_db, abs=0.01)
    assert report["reference"]["sqnr_db"] > 20
    saturated = ask(SaturatingRunner(output), test, PREPROCESS, task, outputs, 16)
    emulated = task.score({"float": kept["float"], "reference": saturated}, None)
    assert report["vnni_off"]["sqnr_db"] == pytest.approx(emulated.sqnr_db, abs=0.01)


def test_tells_a_person(
    model: Path, tiny_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["quantize", str(model), "--scheme", "tflite", "--data", str(tiny_images)]) == 0
    out = capsys.readouterr().out
    assert "calibrated on 12 images, compared on 12 others" in out
    assert "without VNNI" not in out
    assert (tmp_path / "edgec-out" / "colours-tflite.onnx").is_file()


def test_a_scheme_in_a_file_gives_the_output_its_stem(
    model: Path, tiny_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "mine.toml").write_text('extends = "tflite"\n')
    assert main(["quantize", str(model), "--scheme", "own/mine.toml", "--data", str(tiny_images)]) == 0
    assert (tmp_path / "edgec-out" / "colours-mine.onnx").is_file()


def test_an_onnx_file_alone_gets_a_note(
    tiny_onnx: Path, tiny_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = quantized(
        capsys, tiny_onnx, "--scheme", "tensorrt", "--data", tiny_images, "--output", tmp_path / "q.onnx",
        "--calibration-samples", 4,
    )  # fmt: skip
    assert report["num_calibration"] == 4
    assert "preprocessing assumed" in report["notes"][0]


def test_a_folder_that_cannot_be_written(
    model: Path, tiny_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    output = tmp_path / "file" / "quantized.onnx"
    assert (
        refused(capsys, model, "--scheme", "tflite", "--data", tiny_images, "--output", output) == "output-not-writable"
    )


def test_refusals(model: Path, tiny_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onto_itself = ("--output", tmp_path / "tiny.onnx")
    assert refused(capsys, model, "--scheme", "openvno", "--data", tiny_images) == "unknown-scheme"
    assert refused(capsys, model, "--scheme", "tflite", "--data", tiny_images, *onto_itself) == "output-is-input"
    assert refused(capsys, model, "--scheme", "tflite", "--data", tmp_path / "none") == "no-such-file"
    assert refused(capsys, tmp_path / "none.onnx", "--scheme", "tflite", "--data", tiny_images) == "no-such-file"


def test_only_best_learns(model: Path, tiny_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And what it learned is said, whether it is kept or left; 0 minutes are the level without it."""
    words = (model, "--scheme", "tflite", "--data", tiny_images)
    assert refused(capsys, *words, "--learn-minutes", "1") == "quantizer-does-not-fit"
    output = tmp_path / "quantized.onnx"
    learnt = quantized(capsys, *words, "--quantizer", "best", "--learn-minutes", "0.05", "--output", output)
    assert [note for note in learnt["notes"] if "what it learned is" in note]
    plain = quantized(capsys, *words, "--quantizer", "best", "--learn-minutes", "0", "--output", output)
    assert not [note for note in plain["notes"] if "what it learned is" in note]
