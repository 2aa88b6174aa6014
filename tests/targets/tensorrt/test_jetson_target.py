"""``--target jetson`` without a GPU: what the bundle holds, what is said and not said, and the choice of precision."""

from __future__ import annotations

import ast
import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from seams import settings_of

from edgec.pipeline.cli import main
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.forms.measure import Latency
from edgec.pipeline.forms.spec import Gpu, load_target, names, read_options, with_precision
from edgec.pipeline.precision import Outcome, headline, weigh
from edgec.pipeline.tasks.accuracy import Accuracy
from edgec.targets.tensorrt import probe, runner
from edgec.targets.tensorrt.compiler import takes_types
from edgec.targets.tensorrt.format import SCRIPT
from edgec.targets.tensorrt.options import TensorRtOptions

ROOT = Path(__file__).resolve().parents[3]


def test_the_bundle_of_a_host_without_a_gpu(jetson_bundle: Path) -> None:
    result = json.loads((jetson_bundle / "result.json").read_text())
    assert result["latency"]["status"] == "not-measured"
    assert result["latency"]["p50_ms"] is None
    low, high = result["latency"]["estimated_ms"]
    assert 0 < low < high
    assert result["accuracy"]["target"] is None
    assert result["accuracy"]["reference"] is not None
    assert result["precision"] == "int8"
    folder = jetson_bundle / "tensorrt"
    names = {"model.onnx", "model_typed.onnx", "engine_spec.json", "golden.bin", "lint.json", "build_engine.py"}
    assert {path.name for path in folder.iterdir()} == names
    assert (folder / "build_engine.py").read_bytes() == SCRIPT.read_bytes()
    onnx.checker.check_model(onnx.load(folder / "model.onnx"), full_check=True)
    spec = json.loads((folder / "engine_spec.json").read_text())
    assert spec["compute_capability"] == "8.7"
    assert "--int8" in spec["trtexec"]
    assert "--stronglyTyped" in spec["trtexec_typed"]


def test_build_engine_needs_the_standard_library_and_tensorrt() -> None:
    imported = set()
    for node in ast.walk(ast.parse(SCRIPT.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module))
    assert {name.split(".")[0] for name in imported} - {"tensorrt", "__future__"} <= set(sys.stdlib_module_names)


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([str(argument) for argument in arguments]) == 1
    return capsys.readouterr().err.partition("error[")[2].partition("]")[0]


def test_precisions_that_a_board_lacks(
    tiny_onnx: Path, tiny_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("--data", tiny_images, "--output", tmp_path / "out")
    for target, precision in (("jetson-nano", "int8"), ("mcu", "fp16"), ("jetson-nano", "auto")):
        arguments = ("build", tiny_onnx, "--target", target, "--precision", precision, *given)
        assert refused(capsys, *arguments) == "unsupported-precision"
    arguments = ("build", tiny_onnx, "--target", "cpu", "--on", "ssh://nobody@localhost", *given)
    assert refused(capsys, *arguments) == "cannot-run-there"
    assert not (tmp_path / "out").exists()


def test_the_first_nano_is_built_in_fp16_and_says_so(
    tiny_onnx: Path, tiny_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["build", str(tiny_onnx), "--target", "jetson-nano", "--data", str(tiny_images)]
    assert main([*arguments, "--output", str(tmp_path / "out"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["precision"] == "fp16"
    assert any("no INT8" in note for note in result["notes"])
    assert not (tmp_path / "out" / "tensorrt" / "model_typed.onnx").exists()  # its last TensorRT takes flags
    model = onnx.load(tmp_path / "out" / "tensorrt" / "model.onnx")
    assert "QuantizeLinear" not in {node.op_type for node in model.graph.node}
    assert json.loads((tmp_path / "out" / "tensorrt" / "lint.json").read_text()) == []


def outcome(top1: float, p50_ms: float | None) -> Outcome:
    accuracy = Accuracy("classification", "top1", 80.0, 80.0, top1, 80.0 - top1, 95.0, 20.0, 100)
    return Outcome(accuracy, Latency("measured" if p50_ms else "not-measured", p50_ms=p50_ms))


@pytest.mark.parametrize(
    ("int8", "fp16", "text"),
    [
        ((78.7, 1.00), (80.0, 1.04), "ship FP16: INT8 gains 1.04x for 1.3 pp"),
        ((79.9, 1.00), (80.0, 1.80), "ship INT8: INT8 gains 1.80x for 0.1 pp"),
        ((70.0, 1.00), (80.0, 1.80), "ship FP16: INT8 gains 1.80x for 10.0 pp"),
    ],
)
def test_int8_must_pay(int8: tuple[float, float], fp16: tuple[float, float], text: str) -> None:
    verdict = weigh({"int8": outcome(*int8), "fp16": outcome(*fp16)})
    assert verdict.text == text
    assert verdict.precision in text.lower()


def test_the_fastest_that_pays() -> None:
    found = {"int8": outcome(78.5, 1.00), "mixed": outcome(79.5, 1.10), "fp16": outcome(80.0, 1.65)}
    verdict = weigh(found)
    assert (verdict.precision, verdict.text) == (
        "mixed",
        "ship MIXED: INT8 gains 1.65x for 1.5 pp, MIXED gains 1.50x for 0.5 pp",
    )
    assert weigh({**found, "int8": outcome(79.5, 1.00)}).precision == "int8"


@pytest.mark.parametrize(
    ("int8", "mixed", "chosen"),
    [((78.0, 1.0), (79.5, 1.2), "mixed"), ((79.0, 1.0), (79.5, 1.2), "int8"), ((79.0, 1.3), (79.5, 1.2), "mixed")],
)
def test_without_fp16_the_fastest_near_the_best_ships(
    int8: tuple[float, float], mixed: tuple[float, float], chosen: str
) -> None:
    verdict = weigh({"int8": outcome(*int8), "mixed": outcome(*mixed)})
    assert verdict.precision == chosen
    assert verdict.text.startswith(f"ship {chosen.upper()}: INT8 takes {int8[1]:.3f} ms and loses ")


def test_mixed_leaves_the_layers_in_float_that_gain_least(tmp_path: Path) -> None:
    """Depthwise convolutions and squeeze-excite, beside pooling, which is float anyway."""
    from edgec.pipeline.network.export import export_onnx
    from edgec.pipeline.network.models.initialise import settle_batch_norm
    from edgec.pipeline.network.models.spec import NetworkConfig, build_network
    from edgec.pipeline.quantize.calibrate import collect
    from edgec.pipeline.quantize.quantizer import quantize
    from edgec.targets.tensorrt import compile_model

    torch.manual_seed(3)  # its rounding noise in one spelling and in another differ by more than 3 dB
    network = build_network(NetworkConfig("mobilenetv3-small", width_multiplier=0.5, num_classes=10))
    settle_batch_norm(network, 96)
    export_onnx(network, 96, tmp_path / "m.onnx")
    images = [np.random.default_rng(0).normal(size=(2, 3, 96, 96)).astype(np.float32)]
    statistics, target = collect(tmp_path / "m.onnx", lambda: images), with_precision(load_target("jetson"), "mixed")
    quantized = quantize(onnx.load(tmp_path / "m.onnx"), statistics, target.scheme, "fast", lambda: images)
    onnx.save(quantized.model, tmp_path / "qdq.onnx")
    compile_model(tmp_path / "qdq.onnx", tmp_path / "out", settings_of(target))
    spec = json.loads((tmp_path / "out" / "engine_spec.json").read_text())
    assert spec["precision"] == "mixed"
    assert spec["int8_layers"]
    assert not [name for name in spec["int8_layers"] if "depthwise" in name or "squeeze_excite" in name]
    assert [name for name in spec["fp16_layers"] if "depthwise" in name]


def test_equal_tensors_lose_nothing() -> None:
    """No noise is the best score, not the worst."""
    exact, noisy = (
        replace(outcome(80.0, 1.0).accuracy, metric="sqnr", target=None, sqnr_db=db, reference_sqnr_db=db)
        for db in (None, 30.0)
    )
    latency, fast = outcome(80.0, 2.0).latency, outcome(80.0, 1.0).latency
    assert weigh({"int8": Outcome(noisy, fast), "fp16": Outcome(exact, latency)}).precision == "fp16"
    assert headline(exact, "reference") > headline(noisy, "reference") == 30.0


def test_nothing_is_weighed_that_was_not_measured() -> None:
    with pytest.raises(EdgecError) as caught:
        weigh({"int8": outcome(80.0, None), "fp16": outcome(80.0, 1.0)})
    assert caught.value.code == "precision-undecided"


def test_a_precision_quantizes_nothing() -> None:
    scheme = with_precision(load_target("jetson"), "fp16").scheme
    assert (scheme.integer_operators, scheme.equalize) == ((), ())
    assert with_precision(load_target("jetson"), "int8") == load_target("jetson")


def test_a_board_that_extends_another(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('extends = "jetson"\n[options]\nworkspace_mib = 64\n')
    assert read_options(TensorRtOptions, load_target(str(path))).workspace_mib == 64
    path = tmp_path / "none.toml"
    path.write_text('extends = "jetsn"\n')
    with pytest.raises(EdgecError) as caught:
        load_target(str(path))
    assert "did you mean 'jetson'?" in caught.value.hint


def probed(monkeypatch: pytest.MonkeyPatch, returncode: int, answer: dict[str, Any] | None) -> None:
    done = subprocess.CompletedProcess([], returncode, json.dumps(answer) if answer else "", "")
    monkeypatch.setattr(runner.subprocess, "run", lambda *_, **__: done)
    runner._facts.cache_clear()


def test_probe_in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"gpu": "G", "compute_capability": "8.7", "driver": "CUDA 12.6", "tensorrt": "10.3.0"}
    probed(monkeypatch, 0, found)
    assert probe(settings_of("jetson")).can_run
    probed(monkeypatch, 0, found | {"compute_capability": "9.0"})
    assert not probe(settings_of("jetson")).can_run
    assert probe(settings_of("gpu")).can_run
    probed(monkeypatch, 1, {"error": "missing-driver", "message": "none"})
    assert "install NVIDIA's driver" in probe().missing
    probed(monkeypatch, -signal.SIGSEGV, None)
    assert "signal 11" in probe().missing
    assert probe().can_build
    runner._facts.cache_clear()


def test_boards_and_the_documented_table_agree_on_jetpack() -> None:
    """Every JetPack of a board stands in docs/jetson.md with its TensorRT and that board, and none is only there."""
    rows = {}
    for line in (ROOT / "docs" / "jetson.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| JetPack "):
            rows |= dict.fromkeys(cells[0].removeprefix("JetPack ").split(", "), (cells[1], cells[2]))
    words = {"jetson-nano": "first Nano", "jetson-xavier-nx": "Xavier NX", "jetson-thor": "Thor"}
    found = {}
    for board in (load_target(name) for name in names()):
        gpu = board.device.gpu
        for jetpack, version in gpu.jetpack.items() if gpu else ():
            found[jetpack] = version
            assert rows[jetpack][0] == version, (board.name, jetpack)
            word = words.get(board.name, "Orin")
            boards = rows[jetpack][1] if "agx" in board.name else rows[jetpack][1].replace("AGX Orin", "")
            assert word in boards, (board.name, jetpack)
    assert found == {jetpack: version for jetpack, (version, _) in rows.items()}


def test_one_compute_capability_has_one_tensorrt_per_jetpack() -> None:
    versions: dict[str, set[str]] = {}
    for board in (load_target(name) for name in names()):
        for jetpack, version in (board.device.gpu.jetpack if board.device.gpu else {}).items():
            versions.setdefault(jetpack, set()).add(version)
    assert all(len(found) == 1 for found in versions.values()), versions


def test_thor_has_no_accelerator_and_takes_types() -> None:
    thor = load_target("jetson-thor")
    assert thor.device.gpu
    assert (thor.device.gpu.compute_capability, thor.device.gpu.dla_cores) == ("11.0", 0)
    assert takes_types(thor.device.gpu)
    assert not takes_types(load_target("jetson-xavier-nx").device.gpu or Gpu())
    assert takes_types(load_target("gpu").device.gpu or Gpu())
