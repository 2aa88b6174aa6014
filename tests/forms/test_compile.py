"""Compilation: what the target refuses, the same bytes whatever ran before, and artifacts unlike their reference."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from tiny import tiny_network

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.stage import Artifact, source, tree_sha256
from edgec.pipeline.forms.compile import Compile
from edgec.pipeline.forms.compiler import load_compiler
from edgec.pipeline.forms.form import instruction_set, saturates
from edgec.pipeline.forms.score import check_alike
from edgec.pipeline.forms.spec import load_target
from edgec.targets.openvino import compiler


def quantized(folder: Path, model: onnx.ModelProto) -> Artifact:
    (folder / "quantized").mkdir()
    onnx.save(model, folder / "quantized" / "model.onnx")
    return source(folder / "quantized")


def stage(board: str) -> Compile:
    target = load_target(board)
    return Compile(target.compiler, load_compiler(target.compiler).settings(target))


@pytest.mark.parametrize("board", ["onnxruntime", "cpu", "arm", "mcu", "jetson"])
def test_equal_files_give_equal_bytes_whatever_the_process_did_before(board: str, tmp_path: Path) -> None:
    compiling, network = stage(board), quantized(tmp_path, tiny_network())
    (tmp_path / "first").mkdir()
    compiling.run(tmp_path / "first" / compiling.output, network)
    load_compiler(compiling.compiler).check(onnx.load(network.path / "model.onnx"), compiling.settings)
    (tmp_path / "second").mkdir()
    compiling.run(tmp_path / "second" / compiling.output, network)
    assert tree_sha256(tmp_path / "first") == tree_sha256(tmp_path / "second")


def test_an_artifact_that_computes_something_else_is_refused() -> None:
    expected = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    check_alike({"logits": expected * np.float32(1.2)}, {"logits": expected})
    with pytest.raises(EdgecError) as caught:
        check_alike({"logits": -expected}, {"logits": expected})
    assert caught.value.code == "compile-mismatch"
    assert "'logits' has -6.0 dB on 8 images" in caught.value.message
    assert ("safe_pairs" in caught.value.hint) == saturates(instruction_set())


def test_whose_kernels_saturate() -> None:
    assert saturates({"machine": "x86_64", "simd": "avx avx2 fma"})
    assert not saturates({"machine": "x86_64", "simd": "avx2 avx512_vnni"})
    assert not saturates({"machine": "x86_64", "simd": "avx2 avx_vnni"})
    assert not saturates({"machine": "aarch64", "simd": "asimd"})
    assert not saturates({"gpu": "Orin"})


def test_a_target_without_its_runtime_says_how_to_get_it(
    tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiler, "find_spec", lambda _: None)
    with pytest.raises(EdgecError) as caught:
        compiler.check(onnx.load(tiny_onnx), stage("cpu").settings)
    assert caught.value.code == "missing-runtime"
    assert "edgec[cpu]" in caught.value.hint
    assert not compiler.probe().can_run


@pytest.mark.parametrize("board", ["arm", "mcu"])
def test_a_tflite_target_without_litert_says_so(board: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, compiling = quantized(tmp_path, tiny_network()).path / "model.onnx", stage(board)
    lowered = load_compiler("tflite")
    lowered.compile_model(network, tmp_path / "model.tflite", compiling.settings)
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    for name in ("lowering", "writer"):  # as in a process that has not read them yet
        monkeypatch.delitem(sys.modules, f"edgec.targets.tflite.{name}")
    for asked in (
        lambda: lowered.check(onnx.load(network), compiling.settings),
        lambda: lowered.compile_model(network, tmp_path / "again.tflite", compiling.settings),
        lambda: lowered.FORMAT.contract(tmp_path / "model.tflite"),
    ):
        with pytest.raises(EdgecError) as caught:
            asked()
        assert caught.value.code == "missing-runtime"
        assert "edgec[arm]" in caught.value.hint


def test_the_ir_keeps_weights_as_integers(tmp_path: Path) -> None:
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
    compiler.compile_model(tmp_path / "qdq.onnx", tmp_path / "openvino", stage("cpu").settings)
    assert (tmp_path / "openvino" / "model.bin").stat().st_size < 2 * weight.size


def test_the_ir_has_no_arithmetic_on_shapes(tmp_path: Path) -> None:
    """A grouped convolution with a scale for each channel: the frontend computes its shapes by a dozen operators."""
    values = {
        "w_q": np.random.default_rng(0).integers(-127, 127, (6, 1, 3, 3)).astype(np.int8),
        "s": np.full(6, 0.01, np.float32),
        "z": np.zeros(6, np.int8),
        "xs": np.array(0.02, np.float32),
        "xz": np.array(0, np.int8),
    }
    nodes = [
        onnx.helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["x_q"]),
        onnx.helper.make_node("DequantizeLinear", ["x_q", "xs", "xz"], ["x_r"]),
        onnx.helper.make_node("DequantizeLinear", ["w_q", "s", "z"], ["w"], axis=0),
        onnx.helper.make_node("Conv", ["x_r", "w"], ["y"], group=6, pads=[1] * 4),
    ]
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 6, 8, 8]) for name in "xy"]
    constants = [numpy_helper.from_array(value, name) for name, value in values.items()]
    graph = onnx.helper.make_graph(nodes, "grouped", ends[:1], ends[1:], constants)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)]), tmp_path / "qdq.onnx")
    compiler.compile_model(tmp_path / "qdq.onnx", tmp_path / "openvino", stage("cpu").settings)
    operators = compiler.FORMAT.contract(tmp_path / "openvino").operators
    assert {"FakeQuantize", "GroupConvolution"} <= {*operators}
    assert not {"ShapeOf", "VariadicSplit", "Concat", "Broadcast", "Squeeze", "Range"} & {*operators}
