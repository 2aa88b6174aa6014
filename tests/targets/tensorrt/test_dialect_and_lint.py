"""TensorRT's dialect of QDQ: the same bits as the reference; and the rules that tell which Q/DQ will fuse."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import CHANNELS, Builder
from onnx import helper, numpy_helper
from seams import settings_of

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.forms.ort import OrtRunner
from edgec.pipeline.forms.spec import load_target
from edgec.pipeline.network.graph import Graph
from edgec.targets.tensorrt import check, compile_model
from edgec.targets.tensorrt.dialect import to_tensorrt, with_float_weights
from edgec.targets.tensorrt.lint import RULES, lint


def residual_network() -> onnx.ModelProto:
    net = Builder()
    first = net.add("HardSwish", [net.conv(net.pair("input"), "first")], "hs")
    stored = net.pair(first)
    second = net.pair(net.conv(stored, "second"))
    net.pair(net.add("Add", [stored, second], "add"))
    return net.model("logits")


def test_the_dialect_computes_the_same_bits(tmp_path: Path) -> None:
    model = residual_network()
    onnx.save(model, tmp_path / "qdq.onnx")
    ours = to_tensorrt(model)
    onnx.save(ours, tmp_path / "trt.onnx")
    images = np.random.default_rng(0).normal(size=(3, CHANNELS, 8, 8)).astype(np.float32)
    runners = [OrtRunner(tmp_path / f"{name}.onnx", as_written=True, integer_sums=False) for name in ("qdq", "trt")]
    expected, found = (runner.predict(images)[0] for runner in runners)
    np.testing.assert_array_equal(found, expected)
    operators = Counter(node.op_type for node in ours.graph.node)
    assert "HardSwish" not in operators
    assert operators["QuantizeLinear"] == operators["DequantizeLinear"] == 6
    assert ours.opset_import[0].version == 14
    assert all(tensor.data_type != onnx.TensorProto.INT32 for tensor in ours.graph.initializer)
    assert lint(ours) == []


def test_weights_off_their_grid_are_refused() -> None:
    net = Builder()
    net.conv(net.pair("input"), "first")
    net.constants["first.s"][0] = np.nan
    with pytest.raises(EdgecError) as caught:
        to_tensorrt(net.model("logits"))
    assert caught.value.code == "bad-quantization"


def broken(rule: str) -> onnx.ModelProto:
    """A network that breaks one rule."""
    net = Builder()
    if rule == "int8":
        net.conv(net.pair("input", dtype=np.uint8), "c")
    elif rule == "symmetric":
        net.conv(net.pair("input", zero_point=3), "c")
    elif rule == "per-tensor-activation":
        net.conv(net.pair("input", scale=np.full(CHANNELS, 0.1)), "c")
    elif rule == "half-quantized":
        net.conv("input", "c")
    elif rule == "float-weight":
        net.conv(net.conv(net.pair(net.conv(net.pair("input"), "c")), "d", stored=False), "e", stored=False)
    elif rule == "activation-outside":
        net.add("Relu", [net.pair(net.conv(net.pair("input"), "c"))], "r")
    elif rule == "dequantize-for-float":
        net.add("HardSigmoid", [net.pair("input")], "h")
    elif rule == "float-output":
        net.add("AveragePool", [net.pair("input")], "p", kernel_shape=[1, 1])
    elif rule == "few-channels":
        net.constants |= {"g": np.arange(8)}
        net.conv(net.pair(net.add("Gather", ["input", "g"], "few", axis=1)), "c", channels=8)
    return net.model("logits")


EXAMPLES = [
    "int8",
    "symmetric",
    "per-tensor-activation",
    "half-quantized",
    "float-weight",
    "activation-outside",
    "few-channels",
    "float-output",
]


@pytest.mark.parametrize("rule", [*EXAMPLES, "dequantize-for-float"])
def test_each_rule_names_its_node(rule: str) -> None:
    found = lint(to_tensorrt(broken(rule)))
    assert {finding.rule for finding in found} == {rule}
    assert all(finding.node and finding.message for finding in found)


def test_integers_in_the_file_are_found_before_the_rewrite() -> None:
    assert {finding.rule for finding in lint(residual_network())} == {"int8", "stored-integers"}


def test_a_residual_needs_both_sides_or_a_convolution() -> None:
    for source, expected in (("conv", []), ("relu", ["half-quantized"])):
        net = Builder()
        left = net.pair("input")
        right = net.conv(left, "c") if source == "conv" else net.add("Relu", ["input"], "r")
        net.pair(net.add("Add", [left, right], "add"))
        found = [finding.rule for finding in lint(to_tensorrt(net.model("logits"))) if finding.severity == "violation"]
        assert found == expected


def test_every_rule_says_what_it_asks_for() -> None:
    assert all(rule.__doc__ for rule in RULES)


def test_a_file_that_breaks_a_rule_is_no_artifact(tmp_path: Path) -> None:
    onnx.save(broken("symmetric"), tmp_path / "qdq.onnx")
    with pytest.raises(EdgecError) as caught:
        compile_model(tmp_path / "qdq.onnx", tmp_path / "out", settings_of("jetson"))
    assert caught.value.code == "unfusable-qdq"
    assert "input.q" in caught.value.message
    assert not (tmp_path / "out").exists()


def test_a_rewrite_that_changes_answers_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoilt(graph: Graph) -> onnx.ModelProto:
        rewritten = with_float_weights(graph)
        tensor = next(tensor for tensor in rewritten.graph.initializer if tensor.name == "second.bd")
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + 1, tensor.name))
        return rewritten

    onnx.save(residual_network(), tmp_path / "qdq.onnx")
    monkeypatch.setattr("edgec.targets.tensorrt.compiler.with_float_weights", spoilt)
    with pytest.raises(EdgecError) as caught:
        compile_model(tmp_path / "qdq.onnx", tmp_path / "out", settings_of("jetson"))
    assert caught.value.code == "compile-mismatch"


def test_an_operator_that_the_parser_lacks_is_named() -> None:
    model = residual_network()
    model.graph.node.append(helper.make_node("Det", ["logits"], ["det"], "volume"))
    with pytest.raises(EdgecError) as caught:
        check(model, settings_of("jetson"))
    assert caught.value.code == "unsupported-operator"
    assert "'volume'" in caught.value.message


@pytest.mark.parametrize("kind", [onnx.TensorProto.BOOL, onnx.TensorProto.UINT8, onnx.TensorProto.DOUBLE])
def test_outputs_of_other_types_are_refused(kind: int) -> None:
    """What ``build_engine.py`` reads are float32 and integers of 32 and 64 bits, as many as there are."""
    model = residual_network()
    model.graph.output.append(helper.make_tensor_value_info("add", onnx.TensorProto.FLOAT, ["N", CHANNELS, 8, 8]))
    check(model, settings_of("jetson"))
    model.graph.output.append(helper.make_tensor_value_info("odd", kind, ["N", 1]))
    with pytest.raises(EdgecError, match="'odd'") as caught:
        check(model, settings_of("jetson"))
    assert caught.value.code == "unsupported-outputs"


@pytest.mark.parametrize("as_node", [True, False])
def test_an_output_that_is_a_constant_is_named(tiny_onnx: Path, as_node: bool) -> None:
    """Anchors beside the boxes, say: no layer of an engine makes them."""
    model, value = onnx.load(tiny_onnx), numpy_helper.from_array(np.ones((1, 4), np.float32), "anchors")
    if as_node:
        model.graph.node.append(helper.make_node("Constant", [], ["anchors"], value=value))
    else:
        model.graph.initializer.append(value)
    model.graph.output.append(helper.make_tensor_value_info("anchors", onnx.TensorProto.FLOAT, [1, 4]))
    with pytest.raises(EdgecError, match="'anchors' is the same for every picture") as caught:
        check(model, settings_of("jetson"))
    assert caught.value.code == "bad-output"


@pytest.mark.parametrize("name", ["mobilenetv1", "mobilenetv2", "mobilenetv3-small", "mobilenetv3", "xception"])
def test_no_network_of_ours_breaks_a_rule(name: str, tmp_path: Path) -> None:
    """Through the quantizer and the compiler, which refuses violations and compares every output with the reference."""
    import json

    from edgec.pipeline.network.export import export_onnx
    from edgec.pipeline.network.models.initialise import settle_batch_norm
    from edgec.pipeline.network.models.spec import NetworkConfig, build_network
    from edgec.pipeline.quantize.calibrate import collect
    from edgec.pipeline.quantize.quantizer import quantize

    network = build_network(NetworkConfig(name, width_multiplier=0.25, num_classes=10))
    settle_batch_norm(network, 96)
    export_onnx(network, 96, tmp_path / "m.onnx")
    image = np.random.default_rng(0).normal(size=(1, 3, 96, 96)).astype(np.float32)
    statistics = collect(tmp_path / "m.onnx", lambda: iter([image]))
    target = load_target("jetson")
    quantized = quantize(onnx.load(tmp_path / "m.onnx"), statistics, target.scheme, "fast", lambda: iter([image]))
    onnx.save(quantized.model, tmp_path / "qdq.onnx")
    compile_model(tmp_path / "qdq.onnx", tmp_path / "out", settings_of(target))
    rules = {finding["rule"] for finding in json.loads((tmp_path / "out" / "lint.json").read_text())}
    assert rules <= {"float-weight", "float-output"}  # layers with fewer than 16 channels stay in float
