"""Ethos-U through Arm's real Vela: counts, names, estimates and refusals. No NPU runs anything here."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from seams import settings_of

from edgec.pipeline.cli import main
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.forms.compiler import load_compiler
from edgec.pipeline.forms.spec import load_target, names
from edgec.targets.ethosu import compile_model, open_runner, placement, probe
from edgec.targets.ethosu.vela import Summary, run_vela, summary_file

pytest.importorskip("ethosu")
pytest.importorskip("ai_edge_litert")

BOARDS = tuple(name for name in names() if load_target(name).compiler == "ethosu")


@pytest.fixture(scope="module")
def bundle(tiny_onnx: Path, tiny_images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ethosu") / "bundle"
    given = ["--data", str(tiny_images), "--output", str(folder), "--no-measure"]
    assert main(["build", str(tiny_onnx), "--target", "ethos-u55", *given]) == 0
    return folder


@pytest.fixture(scope="module")
def qdq(bundle: Path) -> Path:
    return bundle / "reference" / "qdq.onnx"


def test_there_is_a_board_for_each_generation() -> None:
    assert {"ethos-u55", "ethos-u65", "ethos-u85"} <= set(BOARDS)


@pytest.mark.parametrize("board", BOARDS)
def test_every_operator_goes_to_the_npu(board: str, qdq: Path, tmp_path: Path) -> None:
    """One operator is left, and Vela says what it expects."""
    settings = settings_of(board)
    compile_model(qdq, tmp_path / "made", settings)
    found = placement(tmp_path / "made", settings)
    assert (found.num_operators, found.delegate_pieces, found.num_cpu_operators) == (1, 1, 0)
    summary = Summary(**json.loads(summary_file(tmp_path / "made").read_text()))
    assert found.arena_bytes == summary.sram_bytes > 0
    assert found.arena_source == "estimated by Vela"
    assert summary.inference_ms == pytest.approx(summary.cycles / summary.clock_mhz / 1000)
    assert load_compiler("ethosu").estimate(tmp_path / "made", settings) == (summary.inference_ms, summary.inference_ms)


def test_equal_files_give_equal_bytes(qdq: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        compile_model(qdq, tmp_path / name, settings_of("ethos-u55"))
    for file in sorted((tmp_path / "one").iterdir()):
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


def test_the_bundle_says_who_estimates(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert any("estimated by Vela" in note and "nothing was measured" in note for note in manifest["notes"])
    assert manifest["memory"]["arena_source"] == "estimated by Vela"
    assert manifest["latency"]["p50_ms"] is None
    assert manifest["latency"]["estimated_ms"][0] > 0
    assert manifest["accuracy"]["target"] is None, "the reference answers; no NPU did"
    assert manifest["contract"]["operators"] == [["CUSTOM", 1]] or manifest["contract"]["operators"] == {"CUSTOM": 1}
    assert "estimated by Vela" in (bundle / "report.html").read_text()
    capsys.readouterr()
    assert main(["verify", str(bundle)]) == 0
    assert "the artifact itself was not run" in capsys.readouterr().out


def test_the_inputs_are_those_of_the_file_for_tflite_micro(bundle: Path) -> None:
    (source,) = json.loads((bundle / "manifest.json").read_text())["contract"]["inputs"]
    assert (source["dtype"], source["layout"]) == ("int8", "NHWC")
    assert source["scale"] > 0


def test_operators_of_the_processor_are_counted_and_gated(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "budgets.toml").write_text(
        '[[budget]]\nmodel = "tiny"\ntarget = "ethos-u55"\ndevice = "any"\nowner = "o"\nreason = "r"\n'
        "[budget.limits]\nnum_cpu_operators = 0\narena_bytes = 100_000\n"
    )
    assert main(["check", str(bundle), "--budgets", str(tmp_path / "budgets.toml"), "--no-device", "--json"]) == 0
    lines = {line["limit"]: line["value"] for line in json.loads(capsys.readouterr().out)["lines"]}
    assert lines["num_cpu_operators"] == 0


def test_what_vela_leaves_is_named_before_the_build(tiny_onnx: Path) -> None:
    """A network in float: the NPU takes none of it."""
    said = load_compiler("ethosu").check(onnx.load(tiny_onnx), settings_of("ethos-u55"))
    assert said is not None
    assert any("to the processor" in words for words in said), said


@pytest.mark.parametrize(
    "wrong", [{"memory_mode": "No_Such_Mode"}, {"system_config": "No_Such_System"}, {"accelerator": "ethos-u55-512"}]
)
def test_vela_has_the_last_word(wrong: dict[str, str], bundle: Path) -> None:
    content = (bundle / "ethos-u" / "model.tflite").read_bytes()
    with pytest.raises(EdgecError) as caught:
        run_vela(content, replace(settings_of("ethos-u55"), **wrong))
    assert caught.value.code == "vela-refuses"
    assert "Traceback" not in caught.value.message


def test_without_vela(qdq: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgec.targets.ethosu.vela.find_spec", lambda name: None)
    monkeypatch.setattr("edgec.targets.ethosu.compiler.find_spec", lambda name: None)
    with pytest.raises(EdgecError) as caught:
        compile_model(qdq, tmp_path / "made", settings_of("ethos-u55"))
    assert caught.value.code == "missing-vela"
    assert not (tmp_path / "made").exists()
    assert not probe().can_build


def test_it_runs_nowhere_here(bundle: Path) -> None:
    settings = settings_of("ethos-u55")
    with pytest.raises(EdgecError) as caught:
        open_runner(bundle / "ethos-u", settings, 1)
    assert caught.value.code == "cannot-run-here"
    assert not probe(settings).can_run


def test_the_quantized_file_is_that_of_microcontrollers(bundle: Path) -> None:
    """The same integers, whoever computes them: no second quantization."""
    assert load_target("ethos-u55").scheme == load_target("mcu").scheme
    assert onnx.load(bundle / "reference" / "qdq.onnx").graph.node
