"""A file may hold the names that our passes give: its own tensors are renamed, and the function stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgec.pipeline.cli import main
from edgec.pipeline.network.tensor_names import name_tensors_apart

IMAGES = np.random.default_rng(0).normal(0, 1, (1, 3, 8, 8)).astype(np.float32)


def chain(tensors: tuple[str, ...], nodes: tuple[str, ...], output: str = "out") -> onnx.ModelProto:
    """Sums with a constant each, one behind the other; every other name is the constant's."""
    made, constants, source = [], [], "image"
    for place, node in enumerate(nodes):
        constant, result = tensors[2 * place], output if place == len(nodes) - 1 else tensors[2 * place + 1]
        constants.append(numpy_helper.from_array(np.float32(place + 1), constant))
        made.append(helper.make_node("Mul" if place % 2 else "Add", [source, constant], [result], node))
        source = result
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 8, 8]) for name in ("image", output)]
    graph = helper.make_graph(made, "chain", values[:1], values[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def names(model: onnx.ModelProto) -> set[str]:
    graph = model.graph
    return {name for node in graph.node for name in (*node.input, *node.output)} | {t.name for t in graph.initializer}


def answer(model: onnx.ModelProto) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"image": IMAGES})[0])


def begins_with_another(model: onnx.ModelProto) -> list[tuple[str, str]]:
    """Pairs in which a pass could make the one of the other."""
    known = names(model) | {node.name for node in model.graph.node}
    public = {value.name for value in (*model.graph.input, *model.graph.output)}
    pairs = [(a, b) for a in names(model) for b in known if a.startswith(f"{b}.")]
    return [(a, b) for a, b in pairs if not (a in public and (b in public or b not in names(model)))]


NAME = st.lists(st.sampled_from(["a", "b", "scale", "dequantized", "out"]), min_size=1, max_size=4).map(".".join)


@settings(deadline=None)
@given(
    tensors=st.lists(NAME, min_size=6, max_size=6, unique=True),
    nodes=st.lists(NAME, min_size=3, max_size=3, unique=True),
)
def test_no_name_begins_with_another_and_the_function_stays(tensors: list[str], nodes: list[str]) -> None:
    tensors = [f"t.{name}" if name == "out" else name for name in tensors]
    model = chain(tuple(tensors), tuple(nodes))
    expected = answer(model)
    name_tensors_apart(model)
    onnx.checker.check_model(model, full_check=True)
    assert begins_with_another(model) == []
    assert {value.name for value in (*model.graph.input, *model.graph.output)} == {"image", "out"}
    np.testing.assert_array_equal(answer(model), expected)


def test_a_graph_inside_a_node_reads_what_was_renamed() -> None:
    """Both branches read an outer tensor by its new name, which none of theirs has."""
    branches = {}
    for name, op in (("then_branch", "Neg"), ("else_branch", "Abs")):
        value = helper.make_tensor_value_info("a_b", TensorProto.FLOAT, None)
        branches[name] = helper.make_graph([helper.make_node(op, ["a.b"], ["a_b"], name)], name, [], [value])
    nodes = [
        helper.make_node("Relu", ["image"], ["a.b"], "a"),
        helper.make_node("If", ["which"], ["out"], "choose", **branches),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 8, 8]) for name in ("image", "out")]
    constants = [numpy_helper.from_array(np.array(True), "which")]
    graph = helper.make_graph(nodes, "inner", values[:1], values[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    expected = answer(model)
    name_tensors_apart(model)
    assert model.graph.node[0].output[0] not in ("a.b", "a_b")
    np.testing.assert_array_equal(answer(model), expected)


def test_usual_names_stay() -> None:
    usual = ("features.0.weight", "/features/features.0/Conv_output_0", "onnx::Conv_41", "1", "fc.bias", "x")
    model = chain(usual, ("/features/features.0/Conv", "node_1", "Gemm_5"))
    before = model.SerializeToString()
    name_tensors_apart(model)
    assert model.SerializeToString() == before


def test_an_output_keeps_its_name() -> None:
    model = chain(("c", "y", "d", "z"), ("one", "two"), output="y.float")
    name_tensors_apart(model)
    assert begins_with_another(model) == []
    assert model.graph.output[0].name == "y.float"


@pytest.mark.parametrize(
    ("scheme", "target"),
    [("openvino", "cpu"), ("openvino", "jetson"), ("tflite", "arm"), ("tflite", "mcu"), ("tensorrt", "arm")],
)
def test_what_edgec_has_quantized_is_taken_again(
    scheme: str, target: str, tiny_onnx: Path, tiny_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its names are those that our passes make: a file of ours ended in two tensors of one name."""
    ours = tmp_path / "ours.onnx"
    given = ("--data", str(tiny_images))
    assert main(["quantize", str(tiny_onnx), "--scheme", scheme, *given, "--output", str(ours)]) == 0
    assert (
        main(["build", str(ours), "--target", target, *given, "--output", str(tmp_path / "out"), "--no-measure"]) == 0
    )
    assert "internal" not in capsys.readouterr().err
