"""The board chooses its precision: candidates in one folder, weighed by ``build_engine.py --precision auto``."""

from __future__ import annotations

import json
import math
import subprocess
from pathlib import Path
from typing import Any

import onnx
import pytest
from graphs import float_classifier
from seams import settings_of
from stand_ins import StandIn

from edgec.pipeline.cli import main
from edgec.pipeline.forms.format import Candidate
from edgec.pipeline.forms.spec import load_target, with_precision
from edgec.targets.tensorrt import build_engine, compile_model
from edgec.targets.tensorrt.format import EngineFormat


@pytest.fixture(scope="session")
def compiled_fp16(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fp16")
    onnx.save(float_classifier(), folder / "float.onnx")
    target = with_precision(load_target("jetson"), "fp16")
    compile_model(folder / "float.onnx", folder / "tensorrt", settings_of(target))
    return folder / "tensorrt"


@pytest.fixture
def choice(compiled: Path, compiled_fp16: Path, tmp_path: Path) -> Path:
    """INT8 loses half a point against FP16."""
    folder = tmp_path / "choice"
    found = {"int8": Candidate(compiled, 0.6), "fp16": Candidate(compiled_fp16, 0.1)}
    EngineFormat().with_candidates("int8", found, folder)
    return folder


def answer(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert "Traceback" not in done.stderr, done.stderr
    return value


def test_the_folder_builds_its_own_precision_without_being_asked(choice: Path, stand_in: StandIn) -> None:
    assert set(json.loads((choice / "candidates.json").read_text())) == {"int8", "fp16"}
    found = answer(stand_in.run(choice))
    assert (found["status"], found["precision"]) == ("proved", "int8")


@pytest.mark.parametrize(
    ("fault", "loss_pp", "chosen"),
    [
        ("slow-fp16", 0.6, "int8"),
        ("slow-int8", 0.6, "fp16"),
        ("slow-fp16", 1.2, "fp16"),
        ("slow-fp16 float-layers", 0.6, "fp16"),
    ],
)
def test_the_board_decides(fault: str, loss_pp: float, chosen: str, choice: Path, stand_in: StandIn) -> None:
    table = json.loads((choice / "candidates.json").read_text())
    table["int8"]["loss_pp"] = loss_pp
    (choice / "candidates.json").write_text(json.dumps(table))
    done = stand_in.run(choice, "--precision", "auto", fault=fault)
    found = answer(done)
    assert found["precision"] == chosen, found
    assert found["verdict"].startswith(f"ship {chosen.upper()}: ")
    assert found["verdict"] in done.stderr
    assert ("error" in found["candidates"]["int8"]) == ("float-layers" in fault)
    record = json.loads((choice / "engine.json").read_text())
    assert record["precision"] == chosen
    assert build_engine.sha256(str(choice / "model.engine")) == record["engine_sha256"]
    builds = stand_in.calls().count("build")
    assert answer(stand_in.run(choice, "--precision", "auto", fault=fault))["precision"] == chosen
    assert stand_in.calls().count("build") == builds == 2


def test_one_candidate_by_its_name(choice: Path, stand_in: StandIn) -> None:
    assert answer(stand_in.run(choice, "--precision", "fp16"))["precision"] == "fp16"
    assert stand_in.calls().count("build") == 1
    found = answer(stand_in.run(choice, "--precision", "mixed"))
    assert (found["error"], "int8, fp16" in found["message"]) == ("missing-file", True)


@pytest.mark.parametrize(("precision", "budget_s"), [("fp16", "0.1"), ("auto", "0.1"), ("auto", "0")])
def test_the_candidate_that_is_chosen_answers(
    precision: str, budget_s: str, choice: Path, stand_in: StandIn, tmp_path: Path
) -> None:
    spec = json.loads((choice / "engine_spec.json").read_text())
    num_bytes = 4 * math.prod(spec["input_shape"])
    (tmp_path / "in.f32").write_bytes((choice / "golden.bin").read_bytes()[: 2 * num_bytes])
    words = ("--precision", precision, "--budget-s", budget_s, "--predict", tmp_path / "in.f32", tmp_path / "out.f32")
    found = answer(stand_in.run(choice, *map(str, words)))
    assert found["num_images"] == 2
    assert (tmp_path / "out.f32").stat().st_size == 2 * 4 * sum(map(math.prod, spec["outputs"].values()))
    assert found["precision"] in ({"int8", "fp16"} if precision == "auto" else {precision})
    assert ("nothing was measured" in found["verdict"]) == (budget_s == "0")


def test_a_build_without_a_gpu_leaves_the_choice_to_the_board(
    tiny_onnx: Path, tiny_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], stand_in: StandIn
) -> None:
    """Every precision lies in the bundle, which is verified, made again byte by byte, and takes its engine there."""
    bundle = tmp_path / "bundle"
    given = ("--data", tiny_images, "--output", bundle, "--precision", "auto", "--no-measure")
    assert main(["build", str(tiny_onnx), "--target", "jetson", *map(str, given), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    everything = list(load_target("jetson").precisions)
    assert (result["candidates"], result["precision"]) == (everything, "int8")
    assert all(f"{name.upper()} loses" in result["precision_verdict"] for name in everything)
    table = json.loads((bundle / "tensorrt" / "candidates.json").read_text())
    assert {name: entry["folder"] for name, entry in table.items() if name != "int8"} == {
        name: f"candidates/{name}" for name in everything if name != "int8"
    }
    assert table["fp16"]["loss_pp"] == 0.0  # its reference is the float network
    assert main(["verify", str(bundle)]) == 0
    again = ("--model", tiny_onnx, "--data", tiny_images)
    assert main(["reproduce", str(bundle), *map(str, again)]) == 0, capsys.readouterr()
    found = answer(stand_in.run(bundle / "tensorrt", "--precision", "auto", fault="slow-int8"))
    assert found["precision"] != "int8"
    assert set(found["candidates"]) == set(everything)


def test_no_candidates_no_choice(artifact: Path, stand_in: StandIn) -> None:
    assert answer(stand_in.run(artifact, "--precision", "auto"))["error"] == "missing-file"


def test_all_refused(choice: Path, stand_in: StandIn) -> None:
    found = answer(stand_in.run(choice, "--precision", "auto", fault="wrong-answers"))
    assert found["error"] == "golden-mismatch"


@pytest.mark.parametrize(
    ("p50_ms", "loss_pp", "text"),
    [
        ({"int8": 1.0, "fp16": 1.04}, {"int8": 1.3, "fp16": 0.0}, "ship FP16: INT8 gains 1.04x for 1.3 pp"),
        ({"int8": 1.0, "fp16": 1.8}, {"int8": 0.3, "fp16": 0.2}, "ship INT8: INT8 gains 1.80x for 0.1 pp"),
        (
            {"int8": 1.0, "fp16": 1.5, "mixed": 0.9},
            {"int8": 1.9, "fp16": 0.1, "mixed": 0.4},
            "ship MIXED: INT8 gains 1.50x for 1.8 pp, MIXED gains 1.67x for 0.3 pp",
        ),
        ({"int8": 1.0}, {"int8": 1.9, "fp16": 0.1}, "ship INT8: there is no FP16 to weigh it with"),
    ],
)
def test_the_words_of_the_verdict(p50_ms: dict[str, float], loss_pp: dict[str, float], text: str) -> None:
    assert build_engine.weigh(p50_ms, loss_pp)[1] == text
