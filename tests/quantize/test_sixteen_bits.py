"""The first layers in 16 bits: less noise, a price for memory, one file that runs, and none of it in other files."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from calibrated import Calibrated, calibrate
from onnx import TensorProto, helper, numpy_helper
from test_prefix import IMAGES, Writer, residual_network

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.forms.scheme import Level, Scheme, load_scheme, parse_scheme
from edgec.pipeline.forms.spec import first_layers, load_target, with_precision
from edgec.pipeline.network.graph import Graph
from edgec.pipeline.quantize import prefix
from edgec.pipeline.quantize.affine import integer_range, symmetric_params
from edgec.pipeline.quantize.calibrate import Batches
from edgec.pipeline.quantize.prefix import answers, worth_db
from edgec.pipeline.quantize.quantizer import QuantizedModel, quantize
from edgec.pipeline.quantize.sixteen_bits import arena_bytes, quantize_first_in_16_bits
from edgec.pipeline.tasks.metrics import sqnr_db
from edgec.targets.tflite.compiler import to_tflite
from edgec.targets.tflite.flatbuffer import read_tflite
from edgec.targets.tflite.options import TfliteOptions
from edgec.targets.tflite.runner import LiteRtRunner

EIGHT, SIXTEEN = load_scheme("tflite-native"), load_scheme("tflite-16x8")
MICRO = TfliteOptions(gemm="convolution", xnnpack=False, runtime="tflite-micro")


def squeezing_network() -> onnx.ModelProto:
    """Hard-swish, squeeze-excite and a residual block, then two wider layers."""
    net = Writer()

    def point(source: str, name: str, channels: tuple[int, int]) -> str:
        weight = net.stream.normal(0, 0.5, (channels[1], channels[0], 1, 1)).astype(np.float32)
        net.constants |= {f"{name}.w": weight, f"{name}.b": net.stream.normal(0, 0.1, channels[1]).astype(np.float32)}
        return net.op("Conv", [source, f"{name}.w", f"{name}.b"], name, kernel_shape=[1, 1])

    stem = net.op("HardSwish", [net.conv("input", "stem", (3, 8), 2)], "stem_swish")
    squeezed = net.op("Relu", [point(net.op("GlobalAveragePool", [stem], "mean"), "reduce", (8, 4))], "reduce_relu")
    gate = net.op("HardSigmoid", [point(squeezed, "expand", (4, 8))], "gate", alpha=1 / 6, beta=0.5)
    block = net.op("Add", [point(net.op("Mul", [stem, gate], "excited"), "project", (8, 8)), stem], "block")
    last = net.op("HardSwish", [net.conv(block, "last", (8, 64))], "last_swish")
    pooled = net.op("Flatten", [net.op("GlobalAveragePool", [last], "pool")], "flat")
    net.constants |= {"fc.w": net.stream.normal(0, 0.2, (5, 64)).astype(np.float32), "fc.b": np.zeros(5, np.float32)}
    net.op("Gemm", [pooled, "fc.w", "fc.b"], "logits", transB=1)
    return net.model("logits", [5])


@pytest.fixture(scope="module", params=[residual_network, squeezing_network])
def net(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Calibrated:
    path = tmp_path_factory.mktemp("sixteen") / "net.onnx"
    onnx.save(request.param(), path)
    return calibrate(path, IMAGES)


def made(
    net: Calibrated, ram_bytes: int | None = None, level: Level = "fast", finer: Scheme = SIXTEEN
) -> QuantizedModel:
    def make(model: onnx.ModelProto, level: Level, images: Batches, scheme: Scheme = EIGHT) -> QuantizedModel:
        return quantize(model, net.calibration, scheme, level, images)

    return quantize_first_in_16_bits(net.model, level, net.batches, partial(make, scheme=finer), make, ram_bytes)


@pytest.fixture(scope="module")
def mixed(net: Calibrated) -> QuantizedModel:
    return made(net)


def whole(net: Calibrated) -> QuantizedModel:
    return quantize(net.model, net.calibration, EIGHT, "fast", net.batches)


def types(model: onnx.ModelProto) -> list[np.dtype]:
    """Of the stored tensors, in order."""
    graph = Graph.read(model)
    stored = [n for n in graph.nodes if n.op == "QuantizeLinear"]
    return [graph.constants[node.inputs[2]].dtype for node in stored]


def test_the_noise_falls_and_the_record_says_so(net: Calibrated, mixed: QuantizedModel) -> None:
    expected = answers(net.model, IMAGES)[0]
    finer, coarse = (sqnr_db(answers(found.model, IMAGES)[0], expected) for found in (mixed, whole(net)))
    record = mixed.prefix
    assert record is not None
    assert finer > coarse + 1
    assert (record.sqnr_db, record.int8_sqnr_db) == pytest.approx((finer, coarse))
    assert record.num_images == len(IMAGES)
    assert f"up to '{record.tensor}', compute in 16 bits" in record.words()
    assert not mixed.floats
    first = {node.name for node in Graph.read(net.model).makers(record.tensor)}
    assert first & mixed.layer_sqnr_db.keys()
    assert "logits" in mixed.layer_sqnr_db


def test_the_first_tensors_have_16_bits_and_the_others_8(mixed: QuantizedModel) -> None:
    found = types(mixed.model)
    border = found.index(np.dtype(np.int8))
    assert border > 1
    assert set(found[:border]) == {np.dtype(np.int16)}
    assert set(found[border:]) == {np.dtype(np.int8)}
    graph = Graph.read(mixed.model)
    points = [graph.constants[node.inputs[2]] for node in graph.nodes if node.op == "QuantizeLinear"]
    assert all(not point.any() for point in points if point.dtype == np.int16)
    onnx.checker.check_model(mixed.model, full_check=True)


def test_only_a_file_with_16_bits_is_in_their_opset(net: Calibrated, mixed: QuantizedModel) -> None:
    assert [entry.version for entry in mixed.model.opset_import] == [21]
    assert [entry.version for entry in whole(net).model.opset_import] == [17]


def test_the_artifact_is_as_far_from_float_as_the_reference(
    net: Calibrated, mixed: QuantizedModel, tmp_path: Path
) -> None:
    (tmp_path / "model.tflite").write_bytes(to_tflite(mixed.model, MICRO))
    given = LiteRtRunner(tmp_path / "model.tflite", xnnpack=False, reference=True).predict(IMAGES)[0]
    expected = answers(net.model, IMAGES)[0]
    assert sqnr_db(given, expected) > sqnr_db(answers(whole(net).model, IMAGES)[0], expected)
    file = read_tflite((tmp_path / "model.tflite").read_bytes())
    kinds = [operator.kind for operator in file.operators]
    assert kinds.count("QUANTIZE") == 1
    border = kinds.index("QUANTIZE")
    assert all(file.tensors[op.outputs[0]].dtype == "int16" for op in file.operators[:border])
    assert all(file.tensors[op.outputs[0]].dtype == "int8" for op in file.operators[border:])


def test_equal_requests_give_equal_files(net: Calibrated, mixed: QuantizedModel) -> None:
    assert made(net).model.SerializeToString() == mixed.model.SerializeToString()


def test_a_higher_level_is_that_of_the_layers_behind(net: Calibrated, mixed: QuantizedModel) -> None:
    found = made(net, level="accurate")
    assert found.kept is not None
    assert found.prefix is not None
    assert mixed.prefix is not None
    assert found.prefix.tensor == mixed.prefix.tensor


def test_memory_limits_the_place(net: Calibrated, mixed: QuantizedModel) -> None:
    record = mixed.prefix
    assert record is not None
    assert made(net, ram_bytes=2 * record.arena_bytes).prefix == record
    with pytest.raises(EdgecError, match="no place to cut that fits") as refusal:
        made(net, ram_bytes=record.int8_arena_bytes // 2)
    assert refusal.value.code == "mixed-gains-nothing"


def test_layers_without_16_bits_are_not_among_the_first(net: Calibrated) -> None:
    bare = parse_scheme({"extends": "tflite-16x8", "name": "bare", "integer_operators": ["Gemm"]})
    with pytest.raises(EdgecError) as refusal:
        made(net, finer=bare)
    assert refusal.value.code == "mixed-gains-nothing"


def test_a_gain_has_to_pay_for_its_memory() -> None:
    assert worth_db(3.0, 0, 1000) == 3.0
    assert worth_db(3.0, 1000, 1000) == 2.0
    assert worth_db(3.0, -500, 1000) == 3.0
    assert worth_db(0.5, 0, 1000) > worth_db(2.0, 2000, 1000)


def test_no_gain_is_refused(net: Calibrated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefix, "cuts", lambda graph: [])
    with pytest.raises(EdgecError) as refusal:
        made(net)
    assert refusal.value.code == "mixed-gains-nothing"


def test_the_arena_is_the_largest_sum_of_living_tensors() -> None:
    """input 48 int16, a 48 int16, b 48 int8; c 48 int8 of a and b: at c input is gone, a and b live."""
    nodes, constants = [], [numpy_helper.from_array(np.float32(1), "s")]
    for dtype in (np.int8, np.int16):
        constants.append(numpy_helper.from_array(np.array(0, dtype), np.dtype(dtype).name))

    def stored(name: str, dtype: str) -> str:
        nodes.append(helper.make_node("QuantizeLinear", [name, "s", dtype], [f"{name}.q"], f"{name}.q"))
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}.q", "s", dtype], [f"{name}.d"], f"{name}.d"))
        return f"{name}.d"

    source = stored("input", "int16")
    nodes.append(helper.make_node("Relu", [source], ["a"], "a"))
    first = stored("a", "int16")
    nodes.append(helper.make_node("Sigmoid", [first], ["b"], "b"))
    second = stored("b", "int8")
    nodes.append(helper.make_node("Add", [first, second], ["c"], "c"))
    nodes.append(helper.make_node("Identity", [stored("c", "int8")], ["y"], "y"))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 4, 4]) for name in ("input", "y")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    assert arena_bytes(Graph.read(model)) == max(48 * 2 + 48 * 2, 48 * 2 + 48 + 48)


def test_known_answers_of_16_bits() -> None:
    assert integer_range("int16") == (-32768, 32767)
    params = symmetric_params(32767.0, "int16")
    assert params.quantize(np.array([0.5, 1.5, 4e4, -4e4])).tolist() == [0, 2, 32767, -32768]


@pytest.mark.parametrize(
    "wrong", [{"activation_symmetric": False}, {"fixed_output": [["Softmax", 0.1, 40000]]}], ids=["zero", "range"]
)
def test_a_scheme_of_16_bits_is_symmetric(wrong: dict[str, object]) -> None:
    with pytest.raises(EdgecError) as refusal:
        parse_scheme({"extends": "tflite-16x8", "name": "mine", **wrong})
    assert refusal.value.code == "bad-scheme"


@pytest.mark.parametrize("board", ["mcu", "stm32h7", "cortex-m7", "cortex-m55"])
def test_boards_in_integers_take_16_bits_first(board: str) -> None:
    target = load_target(board)
    assert first_layers(target) == (None, None)
    mixed = with_precision(target, "mixed")
    assert first_layers(mixed) == (SIXTEEN, target.device.ram_bytes)
    assert (mixed.scheme.hard_swish, mixed.scheme.equalize) == (target.scheme.hard_swish, target.scheme.equalize)
    assert first_layers(with_precision(load_target("rpi4"), "mixed")) == (None, None)
