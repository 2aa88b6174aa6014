"""The first layers in float: cut where there is one way through, quantized behind, never worse than all in integers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from calibrated import Calibrated, calibrate
from onnx import TensorProto, helper, numpy_helper

from edgec.pipeline.cli import main
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.forms.scheme import Level, load_scheme
from edgec.pipeline.network.graph import Graph
from edgec.pipeline.quantize import prefix
from edgec.pipeline.quantize.calibrate import Batches
from edgec.pipeline.quantize.prefix import MOST_CUTS, MOST_MACS, cuts, quantize_behind_prefix
from edgec.pipeline.quantize.quantizer import QuantizedModel, quantize
from edgec.pipeline.tasks.metrics import sqnr_db
from edgec.targets.tflite.delegate import delegate_coverage
from edgec.targets.tflite.flatbuffer import read_tflite

SCHEME = load_scheme("tflite")
IMAGES = np.random.default_rng(2).normal(0, 1, (12, 3, 16, 16)).astype(np.float32)


class Writer:
    """Convolutions with outliers in one channel, which eight bits cannot hold."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {"six": np.float32(6), "zero": np.float32(0)}
        self.stream = np.random.default_rng(0)

    def conv(self, source: str, name: str, channels: tuple[int, int], stride: int = 1) -> str:
        weight = self.stream.normal(0, 0.3, (channels[1], channels[0], 3, 3)).astype(np.float32)
        weight[0] *= 20
        self.constants |= {f"{name}.w": weight, f"{name}.b": self.stream.normal(0, 0.1, channels[1]).astype(np.float32)}
        options = {"pads": [1, 1, 1, 1], "strides": [stride, stride], "kernel_shape": [3, 3]}
        return self.op("Conv", [source, f"{name}.w", f"{name}.b"], name, **options)

    def op(self, op: str, inputs: list[str], name: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
        return name

    def model(self, output: str, sides: list[int]) -> onnx.ModelProto:
        values = [
            helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, 16, 16]),
            helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", *sides]),
        ]
        constants = [numpy_helper.from_array(np.asarray(value), name) for name, value in self.constants.items()]
        graph = helper.make_graph(self.nodes, "net", values[:1], values[1:], constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def residual_network() -> onnx.ModelProto:
    """Stem, a residual block, two convolutions, pool: the stem and the block are a small part of it."""
    net = Writer()
    stem = net.op("Relu", [net.conv("input", "stem", (3, 8), 2)], "stem_relu")
    inner = net.op("Relu", [net.conv(stem, "inner", (8, 8))], "inner_relu")
    block = net.op("Add", [stem, net.conv(inner, "outer", (8, 8))], "block")
    wide = net.op("HardSwish", [net.conv(block, "wide", (8, 32))], "wide_swish")
    last = net.op("Clip", [net.conv(wide, "last", (32, 32)), "zero", "six"], "last_relu6")
    pooled = net.op("Flatten", [net.op("GlobalAveragePool", [last], "pool")], "flat")
    net.constants |= {"fc.w": net.stream.normal(0, 0.2, (5, 32)).astype(np.float32), "fc.b": np.zeros(5, np.float32)}
    net.op("Gemm", [pooled, "fc.w", "fc.b"], "logits", transB=1)
    return net.model("logits", [5])


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Calibrated:
    path = tmp_path_factory.mktemp("prefix") / "net.onnx"
    onnx.save(residual_network(), path)
    return calibrate(path, IMAGES)


@pytest.fixture(scope="module")
def mixed(net: Calibrated) -> QuantizedModel:
    return behind_prefix(net)


def behind_prefix(net: Calibrated) -> QuantizedModel:
    def make(model: onnx.ModelProto, level: Level, images: Batches) -> QuantizedModel:
        return quantize(model, net.calibration, SCHEME, level, images)

    return quantize_behind_prefix(net.model, "fast", net.batches, make, SCHEME)


def answers(model: onnx.ModelProto) -> np.ndarray:
    return np.asarray(prefix.answers(model, IMAGES)[0])


def test_a_cut_is_the_only_way_through() -> None:
    graph = Graph.read(residual_network())
    found = cuts(graph)
    assert [cut.tensor for cut in found] == ["stem_relu", "block", "wide_swish"]
    assert len(found) <= MOST_CUTS
    for cut in found:
        before = {node.name for node in graph.makers(cut.tensor)}
        made = {name for node in graph.nodes if node.name in before for name in node.outputs} | {"input"}
        read = {name for node in graph.nodes if node.name not in before for name in graph.data_inputs(node)}
        assert made & read == {cut.tensor}
        assert 0 < cut.share <= MOST_MACS


def test_shares_are_those_of_the_multiplications() -> None:
    stem, block = 8 * 8 * 27 * 8, 2 * 8 * 8 * 9 * 64
    wide, rest = 8 * 8 * 9 * 8 * 32, 8 * 8 * 9 * 32 * 32 + 5 * 32
    total = stem + block + wide + rest
    shares = [cut.share for cut in cuts(Graph.read(residual_network()))]
    assert shares == pytest.approx([stem / total, (stem + block) / total, (stem + block + wide) / total])


def test_no_output_of_the_network_lies_before_a_cut() -> None:
    model = residual_network()
    model.graph.output.append(helper.make_tensor_value_info("inner_relu", TensorProto.FLOAT, ["N", 8, 8, 8]))
    assert [cut.tensor for cut in cuts(Graph.read(model))] == ["stem_relu"]


def test_what_is_before_the_cut_is_untouched_and_all_behind_it_in_integers(
    net: Calibrated, mixed: QuantizedModel
) -> None:
    graph, source = Graph.read(mixed.model), Graph.read(net.model)
    floats = set(mixed.floats)
    assert "stem" in floats
    assert "last" not in floats
    made = {node.name: node for node in graph.nodes}
    for name in floats:
        theirs = {given: source.constants[given] for given in _node(source, name).inputs if given in source.constants}
        for given, value in theirs.items():
            np.testing.assert_array_equal(graph.constants[f"{given}.in_prefix"], value)
    linear = [node for node in made.values() if node.op in ("Conv", "Gemm") and node.name not in floats]
    assert all(graph.producer[node.inputs[1]].op == "DequantizeLinear" for node in linear)
    first = graph.nodes[0]
    assert (first.op, first.inputs[0]) == ("QuantizeLinear", "input")
    assert all("in float up to" in reason and "% of the multiplications" in reason for reason in mixed.floats.values())


def _node(graph: Graph, name: str) -> prefix.Node:
    return next(node for node in graph.nodes if node.name == name)


def test_it_is_better_than_all_in_integers(net: Calibrated, mixed: QuantizedModel) -> None:
    whole = quantize(net.model, net.calibration, SCHEME, "fast", net.batches)
    wanted = answers(net.model)
    assert sqnr_db(answers(mixed.model), wanted) > sqnr_db(answers(whole.model), wanted) + 1


@pytest.mark.parametrize(("name", "says"), [("sqnr_db", "20.0 dB against 20.0"), ("cuts", "no place to cut")])
def test_where_no_cut_is_better_it_says_so(
    name: str, says: str, net: Calibrated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix, name, {"sqnr_db": lambda found, wanted: 20.0, "cuts": lambda graph: []}[name])
    with pytest.raises(EdgecError, match=says) as refusal:
        behind_prefix(net)
    assert refusal.value.code == "mixed-gains-nothing"


def test_it_depends_on_nothing_but_its_arguments(net: Calibrated, mixed: QuantizedModel, tmp_path: Path) -> None:
    again = behind_prefix(net)
    assert again.model.SerializeToString(deterministic=True) == mixed.model.SerializeToString(deterministic=True)


def test_a_build_says_what_is_in_float(
    tmp_path: Path, tiny_images: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the command to the bundle: the input stays int8, and the file is one piece for XNNPACK."""
    monkeypatch.setattr(prefix, "MOST_MACS", 0.9)
    onnx.save(residual_network(), tmp_path / "net.onnx")
    arguments = ["build", str(tmp_path / "net.onnx"), "--target", "rpi5", "--precision", "mixed", "--json"]
    status = main([*arguments, "--data", str(tiny_images), "--output", str(tmp_path / "out")])
    said = capsys.readouterr()
    assert status == 0, said.err
    result = json.loads(said.out)
    assert result["precision"] == "mixed"
    assert "stem" in {layer["layer"] for layer in result["float_layers"]}
    assert "INT8 and float network" in (tmp_path / "out" / "README.md").read_text()
    content = (tmp_path / "out" / "model.tflite").read_bytes()
    assert delegate_coverage(content).pieces == 1
    assert read_tflite(content).operators[0].kind == "DEQUANTIZE"
    assert main(["verify", str(tmp_path / "out")]) == 0
