"""Keys of whole builds: what another file, machine or board changes, and what it does not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from tiny import tiny_network

from edgec.pipeline.build import Build
from edgec.pipeline.cli import main
from edgec.pipeline.core.code import import_closure
from edgec.pipeline.core.stage import Artifact, Stage, stage_modules
from edgec.pipeline.forms.compiler import Probe
from edgec.pipeline.recipe import Choices, DataFolders, make_recipe
from edgec.pipeline.tasks.task import task_of
from edgec.targets import openvino

DESCRIPTION = (
    'onnx = "tiny.onnx"\nlabels = ["blue", "green", "red"]\n'
    "[preprocess]\nresize_px = 40\ncrop_px = 32\nmean = [127.5, 127.5, 127.5]\nstd = [127.5, 127.5, 127.5]\n"
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    onnx.save(tiny_network(), tmp_path / "tiny.onnx")
    (tmp_path / "colours.toml").write_text(DESCRIPTION)
    return tmp_path / "colours.toml"


def build(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert main(["build", *map(str, arguments), "--no-measure", "--json"]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_a_board_that_asks_the_same_runs_nothing(
    model: Path, tiny_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ai_edge_litert")
    first = build(capsys, model, "--target", "arm", "--data", tiny_images, "--output", tmp_path / "arm")
    second = build(capsys, model, "--target", "rpi4", "--data", tiny_images, "--output", tmp_path / "rpi4")
    assert first["cached_stages"] == []
    ran = second["build_seconds"].keys() - set(second["cached_stages"])
    assert ran == {"measure"}


def test_float_answers_once_for_all_targets(
    model: Path, tiny_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("openvino")
    build(capsys, model, "--target", "onnxruntime", "--data", tiny_images, "--output", tmp_path / "one")
    second = build(capsys, model, "--target", "cpu", "--data", tiny_images, "--output", tmp_path / "two")
    assert {"answer float", "answer reference", "quantize"} <= set(second["cached_stages"])
    assert "answer target" not in second["cached_stages"]


def test_a_machine_that_cannot_run_the_artifact_decides_nothing_for_one_that_can(
    model: Path, tiny_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Machine A shares its store with machine B; A's OpenVINO finds no CPU device."""
    pytest.importorskip("openvino")
    arguments = (model, "--target", "cpu", "--data", tiny_images)
    with monkeypatch.context() as machine:
        machine.setattr(openvino, "probe", lambda settings=None: Probe(True, False, "openvino", "no device"))
        first = build(capsys, *arguments, "--output", tmp_path / "a")
    second = build(capsys, *arguments, "--output", tmp_path / "b")
    assert (first["accuracy"]["target"], second["accuracy"]["target"]) == (None, 100.0)
    assert {"score", "golden"} & set(second["cached_stages"]) == set()
    assert "compile" in second["cached_stages"]


def test_another_instruction_set_answers_for_itself(
    model: Path, tiny_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgec.pipeline.forms import form

    arguments = (model, "--target", "onnxruntime", "--data", tiny_images)
    build(capsys, *arguments, "--output", tmp_path / "a")
    monkeypatch.setattr(form, "instruction_set", lambda: {"machine": "x86_64", "simd": "none"})
    form._onnx_runtime.cache_clear()
    second = build(capsys, *arguments, "--output", tmp_path / "b")
    form._onnx_runtime.cache_clear()
    assert {stage for stage in second["cached_stages"] if stage.startswith(("answer", "golden"))} == set()
    assert "compile" in second["cached_stages"]


def test_weights_beside_the_file_are_part_of_it(
    tiny_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As ``torch.onnx.export`` writes them: the .onnx file stays the same byte for byte, its data does not."""

    def export(scale: float) -> bytes:
        network = tiny_network()
        first = network.graph.initializer[0]
        first.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(first) * np.float32(scale), first.name))
        for old in tmp_path.glob("tiny.onnx*"):
            old.unlink()
        kept = {"save_as_external_data": True, "location": "tiny.onnx.data", "size_threshold": 0}
        onnx.save(network, tmp_path / "tiny.onnx", **kept)
        return (tmp_path / "tiny.onnx").read_bytes()

    (tmp_path / "colours.toml").write_text(DESCRIPTION)
    arguments = (tmp_path / "colours.toml", "--target", "onnxruntime", "--data", tiny_images)
    before = export(1.0)
    first = build(capsys, *arguments, "--output", tmp_path / "a")
    assert export(0.5) == before
    second = build(capsys, *arguments, "--output", tmp_path / "b")
    assert (first["cached_stages"], second["cached_stages"]) == ([], [])
    digests = [
        json.loads((tmp_path / name / "manifest.json").read_text())["origin"]["source"]["checkpoint_sha256"]
        for name in "ab"
    ]
    assert digests[0] != digests[1]
    assert build(capsys, *arguments, "--output", tmp_path / "c")["build_seconds"]["measure"] >= 0


def test_bytes_do_not_depend_on_what_the_store_held(
    model: Path, tiny_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    arguments = (model, "--target", "cpu", "--data", tiny_images)
    monkeypatch.setenv("EDGEC_CACHE", str(tmp_path / "used"))
    build(capsys, *arguments, "--calibration-samples", 6, "--output", tmp_path / "other")
    build(capsys, *arguments, "--calibration-samples", 8, "--output", tmp_path / "warm")
    monkeypatch.setenv("EDGEC_CACHE", str(tmp_path / "fresh"))
    build(capsys, *arguments, "--calibration-samples", 8, "--output", tmp_path / "cold")
    for file in ("openvino/model.xml", "openvino/model.bin", "manifest.json"):
        assert (tmp_path / "warm" / file).read_bytes() == (tmp_path / "cold" / file).read_bytes()
    shutil.rmtree(tmp_path / "used")


@pytest.mark.parametrize("task", [None, "tensors"])
def test_the_task_that_judges_a_drop_decides_what_is_quantized(
    model: Path, tiny_images: Path, task: str | None
) -> None:
    """Its code and its name are in the key only where a limit of the drop is asked for."""

    class Noted:
        stages: tuple[Stage, ...] = ()

        def run(self, stage: Stage, *inputs: Artifact) -> Artifact:
            self.stages += (stage,)
            return Artifact(model.parent / "tiny.onnx", "0" * 64)

    for limit in (None, 1.0):
        asked = make_recipe(
            str(model), "onnxruntime", DataFolders(tiny_images), Choices(), 8, "fast", max_drop_pp=limit, task=task
        )
        noted = Noted()
        assert Build(asked, noted).qdq
        modules = import_closure(stage_modules(noted.stages[-1]))
        assert (f"edgec.pipeline.tasks.{task or 'classification'}" in modules) == (limit is not None)


def test_a_named_task_is_believed_until_the_outputs_are_known() -> None:
    assert task_of("classification", ()).name == "classification"
