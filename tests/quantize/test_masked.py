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
from edgec.pipeline.quantize.calibrate import Calibration, collect
from edgec.pipeline.quantize.masked import bottomless, masked
from edgec.pipeline.quantize.quantizer import QuantizedModel, quantize
from edgec.pipeline.quantize.ranges import observed
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


TOKENS = 16


def attends(mask: np.ndarray | None, flipped: bool = False) -> onnx.ModelProto:
    """Sixteen positions look at each other, by a product of rows and a matrix and one of two computed operands."""
    stream = np.random.default_rng(3)
    scores = "scores" if mask is None else "open"
    inputs = ["mask", "scores"] if flipped else ["scores", "mask"]
    middle = [
        helper.make_node("AveragePool", ["c"], ["small"], "small", kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Reshape", ["small", "flat"], ["columns"], "flatten-map"),
        helper.make_node("Transpose", ["columns"], ["rows"], "rows", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["rows", "wq"], ["queries"], "queries"),
        helper.make_node("MatMul", ["queries", "columns"], ["scores"], "scores"),
        *([helper.make_node("Add", inputs, ["open"], "mask")] if mask is not None else []),
        helper.make_node("Softmax", [scores], ["weights"], "softmax", axis=-1),
        helper.make_node("MatMul", ["weights", "rows"], ["mixed"], "mix"),
        helper.make_node("Transpose", ["mixed"], ["back"], "back", perm=[0, 2, 1]),
        helper.make_node("Reshape", ["back", "map"], ["m"], "to-map"),
    ]
    constants = {
        "flat": np.array([0, CHANNELS, TOKENS]),
        "map": np.array([0, CHANNELS, 4, 4]),
        "wq": stream.normal(0, 0.5, (CHANNELS, CHANNELS)).astype(np.float32),
    }
    return network(middle, constants | ({} if mask is None else {"mask": mask.astype(np.float32)}))


def causal(value: float) -> np.ndarray:
    """Each position looks at itself and those before."""
    return np.where(np.tri(TOKENS, dtype=bool), 0.0, value)[None]


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


@pytest.mark.parametrize("scheme", ["openvino", "tflite", "tflite-native", "tensorrt"])
@pytest.mark.parametrize("value", BOTTOMS)
def test_a_mask_that_is_added_sets_no_range(value: float, scheme: str, tmp_path: Path) -> None:
    """It costs what attention without a mask costs, but for the bits that its foot takes."""
    plain = fidelity(quantized(attends(None), scheme, tmp_path), tmp_path)
    made = quantized(attends(causal(value), flipped=value < -1e5), scheme, tmp_path)
    assert fidelity(made, tmp_path) > min(plain - 6, 30)
    assert all(db > 10 for db in made.layer_sqnr_db.values())


def test_added_masks_in_the_integer_kernels(tmp_path: Path) -> None:
    from edgec.targets.tflite.compiler import to_tflite
    from edgec.targets.tflite.options import TfliteOptions
    from edgec.targets.tflite.runner import LiteRtRunner

    made = quantized(attends(causal(-np.inf)), "tflite", tmp_path)
    (tmp_path / "m.tflite").write_bytes(to_tflite(made.model, TfliteOptions()))
    wanted = OrtRunner(tmp_path / "float.onnx").predict(images(1))[0]
    for reference in (False, True):
        runner = LiteRtRunner(tmp_path / "m.tflite", xnnpack=not reference, reference=reference)
        assert sqnr_db(runner.predict(images(1))[0], wanted) > 20


def test_rows_of_a_mask_move_as_a_whole(tmp_path: Path) -> None:
    """A Softmax takes differences: a row that is far below all others, and a mask that is one value for all."""
    steps = np.linspace(0, 3, TOKENS)[None, None]
    low = np.where(np.arange(TOKENS)[None, :, None] == 2, -1e4, 0) + steps
    near = observed(*seen_of(attends(low), tmp_path)).graph
    (add,) = [node for node in near.nodes if node.name == "mask"]
    np.testing.assert_allclose(near.constants[add.inputs[1]], np.broadcast_to(steps - 3, low.shape), atol=1e-3)
    for mask in (np.full((1, 1, 1), -1e9), np.full(1, -1e9)):
        near = observed(*seen_of(attends(mask), tmp_path)).graph
        (add,) = [node for node in near.nodes if node.name == "mask"]
        assert not near.constants[add.inputs[1]].any()


def test_a_position_bias_stays_as_it_is(tmp_path: Path) -> None:
    model = attends(np.random.default_rng(0).normal(0, 1, (1, TOKENS, TOKENS)))
    graph = observed(*seen_of(model, tmp_path)).graph
    assert next(node for node in graph.nodes if node.name == "mask").inputs == ("scores", "mask")
    assert bottomless(graph) == frozenset()


def seen_of(model: onnx.ModelProto, folder: Path) -> tuple[Graph, Calibration]:
    onnx.save(model, folder / "float.onnx")
    return Graph.read(model), collect(folder / "float.onnx", lambda: iter([images(0)]))


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


def framed(value: float) -> onnx.ModelProto:
    """A Pad by a constant that a mean reads."""
    middle = [
        helper.make_node("Pad", ["c", "pads", "value"], ["p"], "frame"),
        helper.make_node("AveragePool", ["p"], ["m"], "mean", kernel_shape=[3, 3], strides=[2, 2]),
    ]
    return network(middle, {"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "value": np.float32(value)})


def test_a_constant_that_is_read_as_a_value_is_refused_by_name(tmp_path: Path) -> None:
    assert "frame" in refused(framed(-1e9), "tflite", tmp_path).message
    assert quantized(framed(-1e9), "openvino", tmp_path), "there it is read in float"


def test_what_a_constant_may_be_depends_on_the_integers(tmp_path: Path) -> None:
    assert "int8 cannot hold" in refused(framed(-1e4), "tflite", tmp_path).message
    assert quantized(framed(-1e4), "tflite-16x8", tmp_path)
    assert "int16 cannot hold" in refused(framed(-1e9), "tflite-16x8", tmp_path).message


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
