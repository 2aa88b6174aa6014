"""Padding constants and masks are outliers by construction: they set no range, or are refused where they matter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.forms.ort import OrtRunner
from edgec.pipeline.forms.scheme import load_scheme
from edgec.pipeline.network.graph import Graph
from edgec.pipeline.quantize.calibrate import collect
from edgec.pipeline.quantize.masked import bottomless, masked
from edgec.pipeline.quantize.quantizer import QuantizedModel, quantize
from edgec.pipeline.tasks.metrics import sqnr_db

SIDE = 16
CHANNELS = 8


def network(middle: list[onnx.NodeProto], constants: dict[str, np.ndarray]) -> onnx.ModelProto:
    """A convolution with signed results ``c``, what is put between, and a classifier over ``m``."""
    stream = np.random.default_rng(2)
    weights = {
        "stem": stream.normal(0, 0.3, (CHANNELS, 3, 3, 3)).astype(np.float32),
        "bias": np.full(CHANNELS, -1, np.float32),
        "head": stream.normal(0, 0.3, (5, CHANNELS, 1, 1)).astype(np.float32),
        **constants,
    }
    nodes = [
        helper.make_node("Conv", ["input", "stem", "bias"], ["c"], "stem", pads=[1] * 4, kernel_shape=[3, 3]),
        *middle,
        helper.make_node("Conv", ["m", "head"], ["h"], "head", kernel_shape=[1, 1]),
        helper.make_node("GlobalAveragePool", ["h"], ["g"], "pool"),
        helper.make_node("Flatten", ["g"], ["logits"], "flatten"),
    ]
    graph = helper.make_graph(
        nodes,
        "masked",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 5])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def padded(value: float, pads: tuple[int, int, int, int] = (0, 0, 1, 1), kernel: int = 3) -> onnx.ModelProto:
    """A Pad by a constant in front of a max-pool, as TensorFlow's SAME is exported."""
    middle = [
        helper.make_node("Pad", ["c", "pads", "value"], ["p"], "pad"),
        helper.make_node("MaxPool", ["p"], ["m"], "max", kernel_shape=[kernel] * 2, strides=[2, 2]),
    ]
    amounts = np.array([0, 0, *pads[:2], 0, 0, *pads[2:]])
    return network(middle, {"pads": amounts, "value": np.float32(value)})


def selected(value: float) -> onnx.ModelProto:
    """Where with a constant mask in front of a max-pool: every window keeps some values."""
    kept = np.indices((SIDE, SIDE)).sum(axis=0) % 2 == 0
    middle = [
        helper.make_node("Where", ["kept", "c", "value"], ["w"], "where"),
        helper.make_node("MaxPool", ["w"], ["m"], "max", kernel_shape=[2, 2], strides=[2, 2]),
    ]
    return network(middle, {"kept": kept, "value": np.float32(value)})


def moved(value: float) -> onnx.ModelProto:
    """The pad's result is moved before a maximum reads it."""
    middle = [
        helper.make_node("Pad", ["c", "pads", "value"], ["p"], "pad"),
        helper.make_node("Transpose", ["p"], ["t"], "turn", perm=[0, 1, 3, 2]),
        helper.make_node("MaxPool", ["t"], ["m"], "max", kernel_shape=[3, 3], strides=[2, 2]),
    ]
    return network(middle, {"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "value": np.float32(value)})


def images(seed: int, count: int = 24) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, (count, 3, SIDE, SIDE)).astype(np.float32)


def quantized(model: onnx.ModelProto, scheme: str, folder: Path) -> QuantizedModel:
    onnx.save(model, folder / "float.onnx")
    seen = images(0)
    calibration = collect(folder / "float.onnx", lambda: iter([seen]))
    return quantize(model, calibration, load_scheme(scheme), "fast", lambda: iter([seen]))


def fidelity(made: QuantizedModel, folder: Path) -> float:
    """On other images than those that calibrated, in dB."""
    onnx.save(made.model, folder / "qdq.onnx")
    wanted = OrtRunner(folder / "float.onnx").predict(images(1))[0]
    return sqnr_db(OrtRunner(folder / "qdq.onnx", as_written=True).predict(images(1))[0], wanted)


BOTTOMS = (-1e9, -65504.0, float(np.finfo(np.float32).min), -np.inf)


@pytest.mark.parametrize("scheme", ["openvino", "tflite", "tflite-native", "tensorrt"])
@pytest.mark.parametrize("value", BOTTOMS)
@pytest.mark.parametrize("build", [padded, selected, moved])
def test_a_mask_sets_no_range(build: type, value: float, scheme: str, tmp_path: Path) -> None:
    made = quantized(build(value), scheme, tmp_path)
    assert fidelity(made, tmp_path) > 18
    assert all(db > 10 for db in made.layer_sqnr_db.values()), "what lies under a mask is no layer's noise"


def test_a_mask_costs_as_much_as_the_padding_of_the_pool(tmp_path: Path) -> None:
    """Known answer: a max-pool that pads by itself is the same function."""
    own = [helper.make_node("MaxPool", ["c"], ["m"], "max", kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1])]
    plain = fidelity(quantized(network(own, {}), "tflite", tmp_path), tmp_path)
    assert fidelity(quantized(padded(-1e9), "tflite", tmp_path), tmp_path) > plain - 1


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pads=st.tuples(*[st.integers(0, 2)] * 4).filter(any),
    value=st.one_of(st.just(-np.inf), st.floats(-(2.0**100), -(2.0**-6), width=32)),
)
def test_any_padding_below_the_values_is_as_good(pads: tuple[int, int, int, int], value: float, tmp_path: Path) -> None:
    made = quantized(padded(value, pads), "tflite", tmp_path)
    assert fidelity(made, tmp_path) > 18


@pytest.mark.parametrize("value", [-0.5, 0.0, 2.0])
def test_a_constant_among_the_values_counts_as_one(value: float, tmp_path: Path) -> None:
    assert fidelity(quantized(padded(value), "tflite", tmp_path), tmp_path) > 18


def refused(model: onnx.ModelProto, scheme: str, folder: Path) -> EdgecError:
    with pytest.raises(EdgecError) as caught:
        quantized(model, scheme, folder)
    assert caught.value.code == "constant-outlier"
    return caught.value


def test_a_constant_that_is_read_as_a_value_is_refused_by_name(tmp_path: Path) -> None:
    middle = [
        helper.make_node("Pad", ["c", "pads", "value"], ["p"], "frame"),
        helper.make_node("AveragePool", ["p"], ["m"], "mean", kernel_shape=[3, 3], strides=[2, 2]),
    ]
    model = network(middle, {"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "value": np.float32(-1e9)})
    assert "frame" in refused(model, "tflite", tmp_path).message
    assert quantized(model, "openvino", tmp_path), "there it is read in float"


def test_a_window_of_constants_alone_is_refused_by_name(tmp_path: Path) -> None:
    """The pool's answer is the constant: 8 bits would make it the least of the values."""
    error = refused(padded(-1e9, (4, 4, 0, 0)), "tflite", tmp_path)
    assert "pad" in error.message
    assert "max" in error.message


def test_who_reads_decides() -> None:
    model = padded(-np.inf)
    graph = Graph.read(model)
    assert masked(graph) == {"p": ("c", -np.inf)}
    assert bottomless(graph) == {"p"}
    model.graph.output.append(helper.make_tensor_value_info("p", TensorProto.FLOAT, None))
    assert masked(Graph.read(model)) == {}, "the network's own answer"
    assert set(masked(Graph.read(moved(-5)))) == {"p", "t"}
