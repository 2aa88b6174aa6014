"""What every QDQ file must be, whatever happens inside: its scheme's rules, the same bytes again, a close answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from calibrated import Calibrated, calibrate
from onnx import helper, numpy_helper

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.forms.ort import OrtRunner
from edgec.pipeline.forms.scheme import Scheme, load_scheme, parse_scheme, scheme_names
from edgec.pipeline.network.graph import Graph
from edgec.pipeline.quantize.calibrate import Calibration, collect
from edgec.pipeline.quantize.plan import integer_nodes, is_linear, num_channels
from edgec.pipeline.quantize.quantizer import QuantizedModel, quantize
from edgec.pipeline.tasks.metrics import sqnr_db

Network = Callable[[str], Calibrated]
SCHEMES = ("openvino", "tflite", "tensorrt")
MODELS = ("mobilenetv3-small",)
"""Residuals, squeeze-excite, ReLU and hard-swish: every rewrite has something to do."""


def quantized(source: Calibrated, scheme: Scheme | str, level: str = "fast") -> QuantizedModel:
    rules = load_scheme(scheme) if isinstance(scheme, str) else scheme
    return quantize(source.model, source.calibration, rules, level, source.batches)


class Qdq:
    """A QDQ file by tensor name."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes = list(model.graph.node)
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        self.producer = {name: node for node in self.nodes for name in node.output}

    def of(self, *operators: str) -> list[onnx.NodeProto]:
        return [node for node in self.nodes if node.op_type in operators]

    def stored(self, dequantized: str) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
        """Integers (None for an activation), scale and zero_point behind a DequantizeLinear's output."""
        node = self.producer[dequantized]
        assert node.op_type == "DequantizeLinear", f"{dequantized} comes from {node.op_type}"
        return self.constants.get(node.input[0]), self.constants[node.input[1]], self.constants[node.input[2]]


@pytest.fixture(scope="module")
def results(network: Network) -> Callable[[str, str], QuantizedModel]:
    made: dict[tuple[str, str], QuantizedModel] = {}

    def get(model: str, scheme: str) -> QuantizedModel:
        if (model, scheme) not in made:
            made[model, scheme] = quantized(network(model), scheme)
        return made[model, scheme]

    return get


Results = Callable[[str, str], QuantizedModel]
every_network = pytest.mark.parametrize("model", MODELS)
every_scheme = pytest.mark.parametrize("scheme", SCHEMES)


@every_network
@every_scheme
def test_the_file_is_valid_and_answers_like_the_float_network(
    results: Results, network: Network, model: str, scheme: str, tmp_path: Path
) -> None:
    source, result = network(model), results(model, scheme)
    onnx.checker.check_model(result.model, full_check=True)
    onnx.save(source.model, tmp_path / "float.onnx")
    onnx.save(result.model, tmp_path / "qdq.onnx")
    wanted = OrtRunner(tmp_path / "float.onnx").predict(source.images)[0]
    answer = OrtRunner(tmp_path / "qdq.onnx", as_written=True).predict(source.images)[0]
    assert sqnr_db(answer, wanted) > 10


@every_network
@every_scheme
def test_activations_are_stored_as_the_scheme_says(results: Results, model: str, scheme: str) -> None:
    rules, qdq = load_scheme(scheme), Qdq(results(model, scheme).model)
    assert qdq.of("QuantizeLinear")
    for node in qdq.of("QuantizeLinear"):
        scale, zero_point = (qdq.constants[name] for name in node.input[1:])
        assert zero_point.dtype == rules.activation_dtype
        assert (scale > 0).all()
        assert np.isfinite(scale).all()
        assert not rules.activation_symmetric or (zero_point == 0).all()
        assert scale.ndim == 0 or rules.per_channel_depthwise_input
        (reader,) = [other for other in qdq.nodes if node.output[0] in other.input]
        assert reader.op_type == "DequantizeLinear"
        assert list(reader.input[1:]) == list(node.input[1:]), "Q and DQ share their parameters"


@every_network
@every_scheme
def test_linear_operators_compute_on_integers(results: Results, model: str, scheme: str) -> None:
    """Narrow int8 weights per output channel, zero_point 0; int32 bias of scale input * weight."""
    quantized = results(model, scheme)
    qdq = Qdq(quantized.model)
    linear = [node for node in qdq.of("Conv", "Gemm") if node.name not in quantized.floats]
    assert len(linear) > 20
    for node in linear:
        values, scale, zero_point = qdq.stored(node.input[1])
        assert values is not None
        assert values.dtype == np.int8
        assert values.min() >= -127
        assert (zero_point == 0).all()
        assert scale.shape == (len(values),)
        _, source_scale, _ = qdq.stored(node.input[0])
        bias, bias_scale, bias_zero = qdq.stored(node.input[2])
        assert bias is not None
        assert bias.dtype == np.int32
        assert (bias_zero == 0).all()
        np.testing.assert_allclose(bias_scale, source_scale * scale, rtol=1e-6)


@every_network
@pytest.mark.parametrize("scheme", ["tflite"])
def test_full_integer_leaves_nothing_in_float(results: Results, model: str, scheme: str) -> None:
    """Every operator reads dequantized tensors and its result, unless fused, is quantized at once."""
    result = results(model, scheme)
    qdq = Qdq(result.model)
    assert dict(result.floats) == {}
    for node in qdq.nodes:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            continue
        readers = [other.op_type for other in qdq.nodes if node.output[0] in other.input]
        assert readers in (["QuantizeLinear"], ["Clip"], ["Relu"], ["HardSigmoid"]), f"{node.op_type}: {readers}"
    outputs = {value.name for value in result.model.graph.output}
    assert all(qdq.producer[name].op_type == "DequantizeLinear" for name in outputs)


@every_network
def test_same_scale_operators_keep_their_parameters(results: Results, model: str) -> None:
    qdq = Qdq(results(model, "tflite").model)
    flattens = qdq.of(*load_scheme("tflite").same_scale_operators)
    assert flattens
    for node in flattens:
        (quantize_node,) = [other for other in qdq.nodes if node.output[0] in other.input]
        _, scale, zero_point = qdq.stored(node.input[0])
        assert qdq.constants[quantize_node.input[1]] == scale
        assert qdq.constants[quantize_node.input[2]] == zero_point


@every_network
def test_tensorrt_quantizes_both_inputs_of_a_residual(results: Results, model: str) -> None:
    qdq = Qdq(results(model, "tensorrt").model)
    residuals = [node for node in qdq.of("Add") if not set(node.input) & set(qdq.constants)]
    assert residuals
    for node in residuals:
        for name in node.input:
            _, scale, zero_point = qdq.stored(name)
            assert scale.ndim == 0
            assert zero_point == 0


@every_scheme
def test_what_stays_in_float_is_said_with_its_reason(results: Results, scheme: str) -> None:
    result = results("mobilenetv3-small", scheme)
    names = {node.name for node in result.model.graph.node}
    assert set(result.floats) <= names
    assert all(len(reason) > 10 for reason in result.floats.values())


def same_bytes(first: QuantizedModel, second: QuantizedModel) -> bool:
    return first.model.SerializeToString(deterministic=True) == second.model.SerializeToString(deterministic=True)


def test_same_input_same_bytes(results: Results, network: Network) -> None:
    first = results("mobilenetv3-small", "tflite")
    assert same_bytes(first, quantized(network("mobilenetv3-small"), "tflite"))
    assert not same_bytes(first, results("mobilenetv3-small", "tflite-native"))


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Sets the number of torch's threads, until the end of the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_number_of_threads_changes_no_byte(network: Network, threads: Callable[[int], None], tmp_path: Path) -> None:
    """Torch sums this network in another order with two threads than with one: quantizing takes one."""
    source = network("mobilenetv3-small")
    onnx.save(source.model, tmp_path / "model.onnx")
    made = []
    for number in (1, 2, 3):
        threads(number)
        made.append(quantized(calibrate(tmp_path / "model.onnx", source.images), "openvino"))
        assert torch.get_num_threads() == number, "the others are given back"
    assert same_bytes(made[0], made[1])
    assert same_bytes(made[0], made[2])


def test_same_input_same_bytes_with_searched_ranges(strange: Calibrated) -> None:
    first, second = (quantized(strange, "openvino", "accurate") for _ in range(2))
    assert same_bytes(first, second)


def test_seven_bit_weights(strange: Calibrated) -> None:
    qdq = Qdq(quantized(strange, parse_scheme({"extends": "openvino", "reduce_range": True})).model)
    for node in qdq.of("Conv", "Gemm"):
        values, _, _ = qdq.stored(node.input[1])
        assert values is not None
        assert np.abs(values.astype(int)).max() <= 64


def test_one_scale_per_tensor(strange: Calibrated) -> None:
    rules = parse_scheme({"extends": "tflite", "weight_granularity": "per_tensor"})
    qdq = Qdq(quantized(strange, rules).model)
    assert all(qdq.stored(node.input[1])[1].ndim == 0 for node in qdq.of("Conv", "Gemm"))


def test_small_convolutions_stay_in_float_where_the_scheme_says_so(strange: Calibrated) -> None:
    graph = Graph.read(strange.model)
    small = {n.name for n in graph.nodes if is_linear(graph, n) and num_channels(graph, n) < 16}
    for least, expected in ((0, set()), (16, small)):
        scheme = replace(load_scheme("tensorrt"), min_channels=least)
        floats = integer_nodes(graph, scheme, {})[1]
        assert {name for name, reason in floats.items() if "channels" in reason} == expected
    assert small


@pytest.fixture
def strange(tiny_onnx: Path, tmp_path: Path) -> Calibrated:
    """The tiny network with operators that no scheme names between its layers."""
    model = onnx.load(tiny_onnx)
    nodes = list(model.graph.node)
    nodes[2].input[0] = "strange"
    softsign = helper.make_node("Softsign", ["r1"], ["soft"], "softsign")
    erf = helper.make_node("Erf", ["soft"], ["strange"], "erf")
    del model.graph.node[:]
    model.graph.node.extend([*nodes[:2], softsign, erf, *nodes[2:]])
    onnx.save(model, tmp_path / "strange.onnx")
    return calibrate(
        tmp_path / "strange.onnx", np.random.default_rng(8).normal(0, 1, (12, 3, 32, 32)).astype(np.float32)
    )


@every_scheme
def test_unknown_operators_stay_in_float_or_stand_in_tables(strange: Calibrated, scheme: str, tmp_path: Path) -> None:
    result = quantized(strange, scheme)
    assert ({"softsign", "erf"} <= set(result.floats)) != load_scheme(scheme).tables
    onnx.save(strange.model, tmp_path / "float.onnx")
    onnx.save(result.model, tmp_path / "qdq.onnx")
    wanted = OrtRunner(tmp_path / "float.onnx").predict(strange.images)[0]
    assert sqnr_db(OrtRunner(tmp_path / "qdq.onnx", as_written=True).predict(strange.images)[0], wanted) > 20


def code(error: pytest.ExceptionInfo[EdgecError]) -> str:
    return error.value.code


def test_refusals_of_a_calibration(network: Network, tmp_path: Path) -> None:
    source = network("mobilenetv3-small")
    with pytest.raises(EdgecError) as error:
        quantize(source.model, Calibration({}, 4), load_scheme("tflite"), "fast", source.batches)
    assert code(error) == "calibration-mismatch"
    with pytest.raises(EdgecError) as error:
        quantize(source.model, source.calibration, load_scheme("tflite"), "fast", lambda: iter([]))
    assert code(error) == "empty-calibration"
    onnx.save(source.model, tmp_path / "model.onnx")
    with pytest.raises(EdgecError) as error:
        collect(tmp_path / "model.onnx", lambda: iter([]))
    assert code(error) == "empty-calibration"


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_network_that_breaks_on_an_image_is_refused(tiny_onnx: Path, bad: float) -> None:
    images = np.zeros((4, 3, 32, 32), np.float32)
    images[2, 1, 5, 5] = bad
    with pytest.raises(EdgecError) as error:
        collect(tiny_onnx, lambda: iter([images[:2], images[2:]]))
    assert code(error) == "activation-not-finite"


@pytest.mark.parametrize("name", scheme_names())
def test_bundled_schemes_load(name: str) -> None:
    assert load_scheme(name).name == name


def test_a_scheme_may_extend_another() -> None:
    rules = parse_scheme({"extends": "tflite", "name": "mine", "weight_granularity": "per_tensor"})
    assert (rules.name, rules.weight_granularity) == ("mine", "per_tensor")
    assert rules.fixed_output == load_scheme("tflite").fixed_output


@pytest.mark.parametrize(
    ("table", "expected", "named"),
    [
        ({"extends": "tflit"}, "unknown-scheme", "tflite"),
        ({"extends": "tflite", "activation_dtype": "int4"}, "bad-scheme", "activation_dtype"),
        ({"extends": "tflite", "wieght_granularity": "per_tensor"}, "bad-scheme", "wieght_granularity"),
        ({"activation_dtype": "int8"}, "bad-scheme", "name"),
        ({"extends": "tflite", "equalize": ["everything"]}, "bad-scheme", "equalize"),
        ({"extends": "tflite", "min_channels": -1}, "bad-scheme", "min_channels"),
        ({"extends": "tflite", "max_requantization": -1.0}, "bad-scheme", "max_requantization"),
        ({"extends": "tflite", "fixed_output": [["Sigmoid", 0.0, 0]]}, "bad-scheme", "Sigmoid"),
        ({"extends": "tflite", "fixed_output": [["Sigmoid", 0.1, 128]]}, "bad-scheme", "-128 to 127"),
        ({"extends": "tensorrt", "activation_dtype": "uint8"}, "bad-scheme", "activation_symmetric"),
        ({"extends": "tflite", "hard_swish": "float", "equalize": ["hard_swish"]}, "bad-scheme", "hard_swish"),
    ],
)
def test_bad_schemes(table: dict[str, object], expected: str, named: str) -> None:
    with pytest.raises(EdgecError) as error:
        parse_scheme(table)
    assert code(error) == expected
    assert named in str(error.value)


@pytest.mark.parametrize("field", ["integer_operators", "same_scale_operators", "fused_activations"])
def test_a_misspelt_operator_does_not_just_stay_in_float(tmp_path: Path, field: str) -> None:
    (tmp_path / "mine.toml").write_text(f'name = "mine"\nextends = "tflite"\n{field} = ["MaxPol"]\n')
    with pytest.raises(EdgecError) as error:
        load_scheme(str(tmp_path / "mine.toml"))
    assert (code(error), error.value.hint) == ("bad-scheme", "did you mean 'MaxPool'?")


def test_a_scheme_may_extend_a_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text('name = "base"\nextends = "tflite"\nmin_channels = 3\n')
    (tmp_path / "mine.toml").write_text('name = "mine"\nextends = "base.toml"\nreduce_range = true\n')
    rules = load_scheme(str(tmp_path / "mine.toml"))
    assert (rules.name, rules.min_channels, rules.reduce_range) == ("mine", 3, True)


@pytest.mark.parametrize("files", [("a", "a"), ("a", "b", "c", "a")], ids=["itself", "in a circle"])
def test_a_scheme_that_extends_itself(tmp_path: Path, files: tuple[str, ...]) -> None:
    for name, base in pairwise(files):
        (tmp_path / f"{name}.toml").write_text(f'name = "{name}"\nextends = "{base}.toml"\n')
    with pytest.raises(EdgecError) as error:
        load_scheme(str(tmp_path / "a.toml"))
    assert (code(error), "extends itself" in error.value.message) == ("bad-scheme", True)
