"""Types in the file: what is FP16, what stays float32 and why, and that the function stays the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graphs import CHANNELS, Builder, classifier, several_outputs
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, numpy_helper
from seams import settings_of

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.forms.spec import load_target, with_precision
from edgec.pipeline.network.models.spec import NetworkConfig, build_network
from edgec.targets.tensorrt import compile_model
from edgec.targets.tensorrt.dialect import in_dialect
from edgec.targets.tensorrt.proof import typed_function
from edgec.targets.tensorrt.typed import inside_integers, largest_magnitudes, to_typed

INPUTS = np.random.default_rng(0).normal(size=(2, CHANNELS, 8, 8)).astype(np.float32)


def typed(model: onnx.ModelProto) -> tuple[dict[str, int], dict[str, str], onnx.ModelProto]:
    """Element type of each tensor, reasons for float32, and the model, proved against the reference."""
    graph = in_dialect(model)
    found = to_typed(graph, largest_magnitudes(graph.write(), INPUTS))
    typed_function(found.model, model, INPUTS)
    inferred = onnx.shape_inference.infer_shapes(found.model, strict_mode=True, data_prop=True).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*inferred.value_info, *inferred.output)}
    return types, dict(found.kept), found.model


def names_of(model: onnx.ModelProto, op: str) -> list[str]:
    return [node.name for node in model.graph.node if node.op_type == op]


def test_every_output_is_float32_under_its_own_name() -> None:
    """One that an FP16 layer and an integer one read too; class indices stay what they are."""
    types, _, model = typed(several_outputs())
    names = [value.name for value in model.graph.output]
    assert names == [value.name for value in several_outputs().graph.output]
    kinds = dict.fromkeys(names, TensorProto.FLOAT) | {"winner": TensorProto.INT64}
    assert {name: types[name] for name in names} == kinds
    assert types["second.dq.half"] == TensorProto.FLOAT16


def test_what_is_written_in_which_type() -> None:
    types, kept, model = typed(classifier())
    assert kept == {}
    assert model.opset_import[0].version == 19
    assert types["logits"] == TensorProto.FLOAT
    assert model.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
    # between kernels FP16: before the hard-swish, behind the last integer layer, the float layer itself
    for name in ("first", "hs", "third", "pool"):
        assert types[name] == TensorProto.FLOAT16, name
    # inside an integer kernel, which computes in float32 anyhow
    for name in ("second", "add"):
        assert types[name] == TensorProto.FLOAT, name
    stored = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert {stored[f"{name}.w"] for name in ("first", "second", "third")} == {TensorProto.INT8}
    assert stored["last.w.half"] == TensorProto.FLOAT16
    assert len(names_of(model, "QuantizeLinear")) == len(names_of(classifier(), "QuantizeLinear"))
    assert names_of(model, "Cast") == ["logits.float"]


def test_integer_layers_are_met_by_dequantizers_alone() -> None:
    """A Cast between DQ and a convolution would part them; two readers of unlike type get a DQ each."""
    net = Builder()
    stored = net.pair("input")
    net.conv(net.add("HardSwish", [net.conv(stored, "half")], "hs"), "float", stored=False)
    net.pair(net.add("Add", [net.pair(net.conv(stored, "inside")), net.pair("float")], "sum"))
    _, _, model = typed(net.model("logits"))
    made = {output: node for node in model.graph.node for output in node.output}
    for node in model.graph.node:
        if node.op_type == "Conv" and node.name != "float":
            assert [made[name].op_type for name in node.input[:2]] == ["DequantizeLinear"] * 2, node.name
    assert [name for name in names_of(model, "DequantizeLinear") if name.startswith("input.dq")] == [
        "input.dq",
        "input.dq.float",
    ]


def overflow(source: str, net: Builder) -> str:
    net.constants["large"] = np.float32(30000)
    return net.add("Mul", [source, "large"], "big")


def tiny_scale(source: str, net: Builder) -> str:
    return net.pair(net.add("Sigmoid", [source], "big"), scale=1e-8)


def large_constant(source: str, net: Builder) -> str:
    net.constants |= {"little": np.float32(1e-4), "large": np.float32(1e5)}
    return net.add("Mul", [net.add("Mul", [source, "little"], "small"), "large"], "big")


@pytest.mark.parametrize(
    ("make", "node", "words"),
    [
        (overflow, "big", "its values reach"),
        (tiny_scale, "last", "FP16 would change"),
        (large_constant, "big", "FP16 would change 'large' by inf"),
    ],
)
def test_what_fp16_cannot_hold_stays_in_float32_and_is_named(
    make: Callable[[str, Builder], str], node: str, words: str
) -> None:
    net = Builder()
    net.add("Sigmoid", [net.conv(make(net.conv(net.pair("input"), "first"), net), "last", stored=False)], "out")
    _, kept, _ = typed(net.model("logits"))
    assert kept[node].startswith(words), kept


def test_a_range_that_only_the_calibration_saw_counts() -> None:
    """Q's scale tells of values that the golden inputs do not reach."""
    net = Builder()
    net.conv(net.pair(net.add("Sigmoid", [net.conv(net.pair("input"), "first")], "s"), scale=600.0), "last")
    net.add("Sigmoid", [net.nodes[-1].output[0]], "out")
    model = net.model("logits")
    seen = largest_magnitudes(in_dialect(model).write(), INPUTS)
    assert seen["s"] == 128 * 600.0
    assert "its values reach" in to_typed(in_dialect(model), seen).kept["s"]


def test_older_operator_sets_are_brought_up() -> None:
    """ReduceMean takes its axes as an input from 18 on."""
    net = Builder()
    net.add("ReduceMean", [net.conv(net.pair("input"), "c")], "m", axes=[2, 3], keepdims=1)
    types, _, model = typed(net.model("logits"))
    assert "axes" not in {attribute.name for node in model.graph.node for attribute in node.attribute}
    assert types["c"] == TensorProto.FLOAT16


@settings(max_examples=25, deadline=None)
@given(
    blocks=st.lists(
        st.sampled_from(["Relu", "HardSwish", "Sigmoid", "squeeze", "MaxPool", "pair", "conv"]), max_size=5
    ),
    seed=st.integers(0, 99),
)
def test_random_networks(blocks: list[str], seed: int) -> None:
    net = Builder(seed)
    tensor = net.conv(net.pair("input"), "start")
    for index, block in enumerate(blocks):
        if block == "conv":
            tensor = net.conv(net.pair(tensor), f"b{index}")
        else:
            tensor = net.pair(tensor) if block == "pair" else net.block(tensor, block, f"b{index}")
    net.conv(net.pair(tensor), "last")
    typed(net.model("logits"))


def test_a_wrong_constant_is_caught() -> None:
    graph = in_dialect(classifier())
    found = to_typed(graph, largest_magnitudes(graph.write(), INPUTS)).model
    tensor = next(tensor for tensor in found.graph.initializer if tensor.name == "last.w.half")
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float16(1.1), tensor.name))
    with pytest.raises(EdgecError) as caught:
        typed_function(found, classifier(), INPUTS)
    assert caught.value.code == "compile-mismatch"


def test_nothing_inside_integers_is_read_by_anybody_else() -> None:
    graph = in_dialect(classifier())
    assert inside_integers(graph) == {"second", "add"}
    net = Builder()
    net.pair(net.conv(net.pair("input"), "c"))
    net.add("Sigmoid", ["c"], "also")
    assert inside_integers(in_dialect(net.model("logits"))) == frozenset()


@pytest.mark.parametrize("name", ["mobilenetv1", "mobilenetv2", "mobilenetv3-small", "mobilenetv3", "xception"])
def test_every_network_in_fp16(name: str, tmp_path: Path) -> None:
    """The compiler itself proves the typed file; INT8 is in test_dialect_and_lint.py."""
    from edgec.pipeline.network.export import export_onnx
    from edgec.pipeline.network.models.initialise import settle_batch_norm

    network = build_network(NetworkConfig(name, width_multiplier=0.25, num_classes=10))
    settle_batch_norm(network, 96)
    export_onnx(network, 96, tmp_path / "m.onnx")
    target: Any = settings_of(with_precision(load_target("jetson"), "fp16"))
    compile_model(tmp_path / "m.onnx", tmp_path / "out", target)
    model = onnx.load(tmp_path / "out" / "model_typed.onnx")
    half = sum(tensor.data_type == TensorProto.FLOAT16 for tensor in model.graph.initializer)
    assert half > len(model.graph.initializer) / 2
