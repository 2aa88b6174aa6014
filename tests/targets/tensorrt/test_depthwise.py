"""Depthwise convolutions take integers only where integers leave them, as TensorRT 8.6 had it on a GPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import Builder
from hypothesis import given
from hypothesis import strategies as st

from edgec.pipeline.forms.scheme import load_scheme
from edgec.pipeline.network.graph import Graph, Node
from edgec.pipeline.quantize.calibrate import collect
from edgec.pipeline.quantize.equalize import stored_tensors
from edgec.pipeline.quantize.plan import integer_nodes, is_depthwise
from edgec.pipeline.quantize.prepare import prepare
from edgec.pipeline.quantize.quantizer import quantize
from edgec.pipeline.quantize.ranges import observed
from edgec.targets.tensorrt.compiler import promised_layers
from edgec.targets.tensorrt.dialect import to_tensorrt
from edgec.targets.tensorrt.lint import lint

SCHEME = load_scheme("tensorrt")
ABSORBED = ("Relu", "Clip")


def found(model: onnx.ModelProto) -> list[str]:
    return [finding.node for finding in lint(model) if finding.rule == "depthwise-float-output"]


def squeeze_excite() -> onnx.ModelProto:
    """The smallest network of the kind that an H200 computed in float: pool and product read what a layer writes."""
    net = Builder()
    written = net.block(net.conv(net.pair("input"), "depthwise", depthwise=True), "Relu", "relu")
    net.conv(net.pair(net.block(written, "squeeze", "excited")), "project")
    return net.model("logits")


def test_the_pattern_that_an_engine_had_in_float() -> None:
    model = to_tensorrt(squeeze_excite())
    assert found(model) == ["depthwise"]
    assert promised_layers(Graph.read(model), {})["int8_layers"] == ["project"]


@pytest.mark.parametrize("between", ["", "Relu", "Clip", "HardSwish", "Sigmoid", "half", "MaxPool"])
@pytest.mark.parametrize("depthwise", [True, False])
def test_what_may_stand_before_the_quantizer(between: str, depthwise: bool) -> None:
    net = Builder()
    layer = net.conv(net.pair("input"), "layer", depthwise=depthwise)
    net.conv(net.pair(net.block(layer, between, "between") if between else layer), "next")
    expected = ["layer"] if depthwise and between not in ("", *ABSORBED) else []
    model = to_tensorrt(net.model("logits"))
    assert found(model) == expected
    assert promised_layers(Graph.read(model), {})["int8_layers"] == [n for n in ("layer", "next") if n not in expected]


def test_one_reader_in_float_is_enough() -> None:
    net = Builder()
    layer = net.conv(net.pair("input"), "layer", depthwise=True)
    net.add("Add", [net.conv(net.pair(layer), "next"), layer], "sum")
    assert found(net.model("logits")) == ["layer"]


def test_an_output_of_the_network_is_in_float() -> None:
    net = Builder()
    net.conv(net.pair("input"), "layer", depthwise=True)
    assert found(net.model("logits")) == ["layer"]


def chain(layers: list[tuple[bool, str]]) -> Graph:
    """A float network of layers, each (depthwise, what stands behind it)."""
    net = Builder()
    name = "input"
    for place, (depthwise, behind) in enumerate(layers):
        name = net.conv(name, f"layer{place}", stored=False, depthwise=depthwise)
        name = net.block(name, behind, f"behind{place}") if behind else name
    net.add("Identity", [name], "last")
    return Graph.read(net.model("logits"))


BEHIND = st.sampled_from(["", "Relu", "Clip", "HardSwish", "Sigmoid", "squeeze", "MaxPool"])


@given(st.lists(st.tuples(st.booleans(), BEHIND), min_size=1, max_size=8))
def test_integers_leave_every_depthwise_layer_that_takes_them(layers: list[tuple[bool, str]]) -> None:
    graph = chain(layers)
    integer, floats = integer_nodes(graph, SCHEME, {})

    def gives_integers(node: Node) -> bool:
        readers = graph.consumers[node.output]
        if len(readers) == 1 and readers[0].op in ABSORBED:
            readers = graph.consumers[readers[0].output]
        return all(reader.name in integer for reader in readers)

    for node in graph.nodes:
        if is_depthwise(graph, node):
            assert (node.name in integer) == gives_integers(node), "neither too many nor too few"
            assert (node.name in floats) != (node.name in integer)
        elif node.op == "Conv":
            assert node.name in integer
    everything = integer_nodes(graph, replace(SCHEME, whole_depthwise=False), {})[0]
    assert {node.name for node in graph.nodes if node.op == "Conv"} <= everything


@given(st.lists(st.tuples(st.booleans(), BEHIND), min_size=1, max_size=4), st.integers(0, 3))
def test_a_layer_left_in_float_takes_those_before_it_along(layers: list[tuple[bool, str]], place: int) -> None:
    """``--max-drop-pp`` leaves layers in float: what a depthwise layer before one of them writes is float then."""
    graph = chain(layers)
    name = f"layer{min(place, len(layers) - 1)}"
    integer = integer_nodes(graph, SCHEME, {name: "asked for"})[0]
    assert name not in integer
    for node in graph.nodes:
        if is_depthwise(graph, node) and node.name in integer:
            assert all(reader.name in integer for reader in graph.consumers[graph.end(node, ABSORBED)])


@pytest.mark.parametrize("behind", ["Relu", "HardSwish", "squeeze"])
def test_a_quantized_file_has_no_finding_and_promises_what_it_holds(behind: str, tmp_path: Path) -> None:
    graph = chain([(False, "Relu"), (True, behind), (False, "Relu"), (True, "Relu"), (False, "")])
    model = graph.write()
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    for tensor in model.graph.initializer:
        if tensor.name.endswith(".w"):
            values = onnx.numpy_helper.to_array(tensor) / 100
            tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), tensor.name))
    onnx.save(model, tmp_path / "m.onnx")
    images = [np.random.default_rng(0).normal(size=(2, 16, 8, 8)).astype(np.float32)]
    statistics = collect(tmp_path / "m.onnx", lambda: images)
    stored = to_tensorrt(quantize(model, statistics, SCHEME, "fast", lambda: images).model)
    assert found(stored) == []
    integer = promised_layers(Graph.read(stored), {})["int8_layers"]
    assert integer == [f"layer{i}" for i in ((0, 1, 2, 3, 4) if behind == "Relu" else (0, 2, 3, 4))]


def test_factors_are_chosen_for_the_same_tensors_as_without_the_rule(tmp_path: Path) -> None:
    """Every depthwise layer is whole here, and a Mul by 1 that waits for a factor behind its ReLU6 changes nothing."""
    model = chain([(False, "Clip"), (True, "Clip"), (False, "Clip"), (True, "Clip"), (False, "")]).write()
    onnx.save(model, tmp_path / "m.onnx")
    images = [np.random.default_rng(0).normal(size=(2, 16, 8, 8)).astype(np.float32)]
    network = prepare(observed(Graph.read(model), collect(tmp_path / "m.onnx", lambda: images)), SCHEME)
    assert [node.name for node in network.graph.nodes if node.name.endswith(".rescale")]
    with_rule, without = (stored_tensors(network, replace(SCHEME, whole_depthwise=whole)) for whole in (True, False))
    assert {"input", "behind0", "behind1", "behind2", "behind3"} <= with_rule
    assert with_rule == without
