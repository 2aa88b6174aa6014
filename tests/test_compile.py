"""Compilation: what the target refuses, and an artifact that answers unlike its reference."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from tiny import TINY_PX, tiny_network

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.store import Artifact, source
from edgec.pipeline.data.dataset import open_dataset
from edgec.pipeline.data.preprocess import Preprocess
from edgec.pipeline.forms.compile import Check, Compile
from edgec.pipeline.forms.spec import load_target
from edgec.targets import onnxruntime as reference
from edgec.targets.openvino import compiler

SMALL = Preprocess(resize_px=TINY_PX, crop_px=TINY_PX)


def quantized(folder: Path, model: onnx.ModelProto) -> Artifact:
    (folder / "quantized").mkdir()
    onnx.save(model, folder / "quantized" / "model.onnx")
    return source(folder / "quantized")


@pytest.mark.parametrize("name", ["onnxruntime", "cpu"])
def test_an_artifact_that_agrees_is_kept(name: str, tmp_path: Path, tiny_images: Path) -> None:
    stage = Compile(load_target(name), SMALL, open_dataset(tiny_images))
    stage.run(tmp_path / stage.output, quantized(tmp_path, tiny_network()), Artifact(tiny_images, ""))
    assert (tmp_path / stage.output).exists()


def test_an_artifact_that_computes_something_else_is_refused(
    tmp_path: Path, tiny_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The compiler is made to lose the first convolution's weights."""
    other = tiny_network()
    first = other.graph.initializer[0]
    first.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(first), first.name))
    onnx.save(other, tmp_path / "other.onnx")
    monkeypatch.setattr(reference, "compile_model", lambda _, output, __: shutil.copy(tmp_path / "other.onnx", output))
    stage = Compile(load_target("onnxruntime"), SMALL, open_dataset(tiny_images))
    with pytest.raises(EdgecError) as caught:
        stage.run(tmp_path / "model.onnx", quantized(tmp_path, tiny_network()), Artifact(tiny_images, ""))
    assert caught.value.code == "compile-mismatch"
    assert "8 images" in caught.value.message


def test_a_target_without_its_runtime_says_how_to_get_it(
    tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiler, "find_spec", lambda _: None)
    with pytest.raises(EdgecError) as caught:
        Check(load_target("cpu")).run(tmp_path / "checked.json", source(tiny_onnx))
    assert caught.value.code == "missing-runtime"
    assert "edgec[cpu]" in caught.value.hint
    assert not compiler.probe().can_run


def test_the_ir_keeps_weights_as_integers(tmp_path: Path, tiny_images: Path) -> None:
    """4 bytes a weight would mean that the compiler folded DequantizeLinear."""
    model = tiny_network()
    weight = np.random.default_rng(0).integers(-127, 127, (6, 3, 31, 31), np.int8)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "w1_q"))
    for name, value in (("s", np.full(6, 0.001, np.float32)), ("z", np.zeros(6, np.int8))):
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    node = onnx.helper.make_node("DequantizeLinear", ["w1_q", "s", "z"], ["w1"], axis=0)
    model.graph.node.insert(0, node)
    model.graph.node[1].attribute[0].ints[:] = [31, 31]
    model.graph.node[1].attribute[1].ints[:] = [15] * 4
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, tmp_path / "qdq.onnx")
    compiler.compile_model(tmp_path / "qdq.onnx", tmp_path / "openvino", load_target("cpu"))
    assert (tmp_path / "openvino" / "model.bin").stat().st_size < 2 * weight.size
