"""Float operators in front of int8 ones in one file: the same answers, and one piece for XNNPACK."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qdq_graphs import MICRO, QdqGraph, run_int8

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.forms.spec import load_target, names, with_precision
from edgec.targets.tflite.compiler import to_tflite
from edgec.targets.tflite.delegate import delegate_coverage
from edgec.targets.tflite.flatbuffer import read_tflite
from edgec.targets.tflite.options import TfliteOptions
from edgec.targets.tflite.prefix import parts_of

XNNPACK = TfliteOptions()
IN_INTEGERS = {"mcu", "stm32h7", "cortex-m7", "cortex-m55"}


def float_then_int8(
    layers: int = 1, activation: str = "Relu", seed: int = 0, residual: bool = False
) -> tuple[onnx.ModelProto, QdqGraph]:
    """Convolutions in float behind the input's pair, then one in integers."""
    g, rng = QdqGraph((1, 4, 9, 9)), np.random.default_rng(seed)
    y = g.x
    for layer in range(layers):
        weights = g.constant(f"float{layer}", rng.normal(0, 0.2, (4, 4, 3, 3)).astype(np.float32))
        made = g.op("Conv", [y, weights], pads=[1, 1, 1, 1])
        made = g.op(activation, [made]) if activation else made
        y = g.op("Add", [y, made]) if residual else made
    y = g.quantize(y, 0.03, -5)
    weights = g.weights("int8", rng.integers(-127, 128, (5, 4, 1, 1)).astype(np.int8), rng.uniform(0.002, 0.01, 5))
    return g.model(g.op("Conv", [y, weights], 0.05, 4)), g


def test_the_operators_and_one_piece() -> None:
    content = to_tflite(float_then_int8(2, "HardSwish")[0], XNNPACK)
    kinds = [op.kind for op in read_tflite(content).operators]
    assert kinds == ["DEQUANTIZE", "CONV_2D", "HARD_SWISH", "CONV_2D", "HARD_SWISH", "QUANTIZE", "CONV_2D"]
    found = delegate_coverage(content)
    assert (found.pieces, found.operators_percent) == (1, 100)


@settings(deadline=None, max_examples=30)
@given(
    layers=st.integers(1, 3),
    activation=st.sampled_from(["Relu", "HardSwish", "Sigmoid", ""]),
    residual=st.booleans(),
    reference=st.booleans(),
    seed=st.integers(0, 99),
)
def test_the_answers_are_those_of_the_file(
    layers: int, activation: str, residual: bool, reference: bool, seed: int
) -> None:
    model, _ = float_then_int8(layers, activation, seed, residual)
    x = np.random.default_rng(seed + 1).integers(-128, 128, (1, 4, 9, 9)).astype(np.int8)
    found = run_int8(model, x, XNNPACK, reference=reference)
    wanted = _as_written(model, (x.astype(np.float32) - 3) * np.float32(0.05))
    steps = np.rint(wanted / np.float32(0.05)) + 4
    assert np.abs(found.astype(int) - steps).max() <= 1


def _as_written(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"input": x})[0])


def test_an_int8_file_has_no_prefix() -> None:
    g, rng = QdqGraph((1, 4, 9, 9)), np.random.default_rng(0)
    pooled = g.op("MaxPool", [g.x], 0.05, 3, kernel_shape=[2, 2])
    weights = g.weights("w", rng.integers(-127, 128, (5, 4, 1, 1)).astype(np.int8), np.full(5, 0.01))
    assert parts_of(g.model(g.op("Conv", [pooled, weights], 0.05))) is None


def test_a_shortcut_over_the_border_is_no_prefix() -> None:
    """What lies before the border is read behind it: the graph is not in two parts."""
    model, _ = float_then_int8()
    inner = next(node.output[0] for node in model.graph.node if node.op_type == "Conv")
    model.graph.output.append(onnx.helper.make_tensor_value_info(inner, onnx.TensorProto.FLOAT, None))
    assert parts_of(model) is None
    with pytest.raises(EdgecError, match="Q/DQ"):
        to_tflite(model, XNNPACK)


def test_boards_in_integers_refuse_float_by_name() -> None:
    with pytest.raises(EdgecError) as refusal:
        to_tflite(float_then_int8()[0], MICRO)
    assert refusal.value.code == "unsupported-operator"


@pytest.mark.parametrize("input_type", ["float32", "uint8"])
def test_another_input_than_int8_is_refused(input_type: str) -> None:
    with pytest.raises(EdgecError) as refusal:
        to_tflite(float_then_int8()[0], replace(XNNPACK, input_type=input_type))
    assert refusal.value.code == "unsupported-precision"


def test_every_board_that_offers_mixed_can_hold_it() -> None:
    mixed = [load_target(name) for name in names() if "mixed" in load_target(name).precisions]
    tflite = [target for target in mixed if target.compiler == "tflite"]
    assert {target.name for target in tflite} == {"arm", "rpi4", "rpi5", "cortex-a53", *IN_INTEGERS}
    for target in tflite:
        assert with_precision(target, "mixed").scheme.prefix
        assert target.options["input_type"] == "int8"
