"""Networks with Q/DQ of their own: taken apart, and put together again with the same parameters."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st
from onnx import TensorProto, numpy_helper
from pairs import ACTIVATIONS, CHANNELS, SIDE, WEIGHTS, Writer, qdq_network

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.stage import source
from edgec.pipeline.forms.ort import OrtRunner
from edgec.pipeline.forms.scheme import load_scheme
from edgec.pipeline.network.export import OPSET
from edgec.pipeline.network.graph import Graph
from edgec.pipeline.network.import_onnx import has_pairs, read_onnx
from edgec.pipeline.network.opset import to_opset
from edgec.pipeline.quantize.affine import QuantParams, integer_range, same_grid
from edgec.pipeline.quantize.as_given import untouching
from edgec.pipeline.quantize.calibrate import collect
from edgec.pipeline.quantize.check import pretended
from edgec.pipeline.quantize.quantizer import QuantizedModel, quantize
from edgec.pipeline.quantize.stages import FloatPart, GivenPart, given_among
from edgec.pipeline.quantize.take_apart import Given, take_apart
from edgec.targets.tensorrt.lint import lint

IMAGES = np.random.default_rng(8).normal(0, 1, (6, 3, SIDE, SIDE)).astype(np.float32)


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    onnx.save(model, folder / "given.onnx")
    return folder / "given.onnx"


def as_given(path: Path, scheme: str, folder: Path) -> tuple[QuantizedModel, Given]:
    """The stages of a build up to the QDQ file, without onnxsim."""
    read_onnx(path)
    FloatPart().run(folder / "float.onnx", source(path))
    GivenPart().run(folder / "given.json", source(path))
    onnx.save(to_opset(onnx.load(folder / "float.onnx"), OPSET), folder / "imported.onnx")
    model, given = onnx.load(folder / "imported.onnx"), given_among([source(folder / "given.json")])
    assert given is not None
    statistics = collect(folder / "imported.onnx", lambda: iter([IMAGES]))
    rules = load_scheme(scheme)
    return quantize(model, statistics, rules, "as-given", lambda: iter([IMAGES]), given=given), given


def answers(path: Path) -> np.ndarray:
    """Each node as it is written; ONNX Runtime's optimizers change what 4-bit integers answer."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, {"x": IMAGES})[0]
    return found


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


@pytest.mark.parametrize("scheme", ["openvino", "tflite"])
@pytest.mark.parametrize("weight", ["stored", "fake", "per-tensor", "uint8-128", "int4"])
@pytest.mark.parametrize("activation", ["uint8", "int8", "int8-shifted", "clipped", "int4"])
def test_what_fits_is_kept_to_the_bit(activation: str, weight: str, scheme: str, tmp_path: Path) -> None:
    path = saved(qdq_network(activation, weight), tmp_path)
    quantized, given = as_given(path, scheme, tmp_path)
    assert quantized.taken is not None
    assert (quantized.taken.changed, quantized.taken.calibrated) == ({}, ())
    onnx.save(quantized.model, tmp_path / "ours.onnx")
    step = ACTIVATIONS[activation][2]
    theirs, ours = answers(path), answers(tmp_path / "ours.onnx")
    assert np.abs(theirs).max() > 3 * step, "the network answers nothing"
    np.testing.assert_allclose(ours, theirs, atol=1.01 * step)
    assert (np.abs(ours - theirs) < 0.01 * step).mean() > (0.99 if weight == "stored" else 0.7)  # float biases round
    kept = Graph.read(quantized.model)
    for name, params in given.weights.items():
        stored = next(node for node in kept.nodes if node.inputs[0] == f"{name}.quantized")
        values, scale = kept.constants[stored.inputs[0]].astype(np.int64), kept.constants[stored.inputs[1]]
        assert values.dtype == np.int64
        assert not kept.constants[stored.inputs[2]].any()
        exact = constants(onnx.load(tmp_path / "float.onnx"))[name]
        shape = (-1, *[1] * (exact.ndim - 1)) if scale.ndim else ()
        np.testing.assert_array_equal((values * scale.reshape(shape)).astype(np.float32), exact)
        assert weight == "int4" or np.array_equal(scale, params.scale)
        assert weight != "int4" or scheme != "openvino" or np.abs(values).max() <= 64, "pairs that edgec made are safe"


@pytest.mark.parametrize("scheme", ["openvino", "tensorrt", "tflite"])
def test_symmetric_int8_is_exact_everywhere(scheme: str, tmp_path: Path) -> None:
    path = saved(qdq_network("int8"), tmp_path)
    quantized, _ = as_given(path, scheme, tmp_path)
    onnx.save(quantized.model, tmp_path / "ours.onnx")
    assert quantized.taken is not None
    assert not quantized.taken.changed
    np.testing.assert_allclose(answers(tmp_path / "ours.onnx"), answers(path), atol=1e-6)


@pytest.mark.parametrize(
    ("activation", "weight", "scheme", "reason"),
    [
        ("uint8", "stored", "tensorrt", "asymmetric, the target takes int8 around 0"),
        ("uint16", "stored", "openvino", "uint16 does not fit into 8 bits"),
        ("uint8", "asymmetric", "tflite", "no int8 grid around 0: quantized anew"),
        ("uint8", "blocks", "openvino", "its scales stand for blocks of 2"),
    ],
)
def test_what_does_not_fit_is_named_and_keeps_its_range(
    activation: str, weight: str, scheme: str, reason: str, tmp_path: Path
) -> None:
    path = saved(qdq_network(activation, weight), tmp_path)
    quantized, _ = as_given(path, scheme, tmp_path)
    assert quantized.taken is not None
    assert any(reason in why for why in quantized.taken.changed.values())
    onnx.save(quantized.model, tmp_path / "ours.onnx")
    theirs, ours = answers(path), answers(tmp_path / "ours.onnx")
    assert 10 * np.log10(np.square(theirs).sum() / np.square(ours - theirs).sum()) > 15


def test_one_scale_per_channel_stays_in_front_of_a_depthwise_convolution_alone(tmp_path: Path) -> None:
    model = qdq_network()
    scales = np.linspace(0.02, 0.05, CHANNELS).astype(np.float32)
    for tensor in model.graph.initializer:
        if tensor.name == "r1.s":
            tensor.CopyFrom(numpy_helper.from_array(scales, "r1.s"))
        if tensor.name == "r1.z":
            tensor.CopyFrom(numpy_helper.from_array(np.zeros(CHANNELS, np.uint8), "r1.z"))
    path = saved(model, tmp_path)
    fits, _ = as_given(path, "openvino", tmp_path)
    not_there, _ = as_given(path, "tflite", tmp_path)
    assert fits.taken is not None
    assert not_there.taken is not None
    assert not fits.taken.changed
    assert not_there.taken.changed == {"r1": "the target takes one scale here, not one per channel"}


@pytest.mark.parametrize("end", ["Relu", "Clip"])
@pytest.mark.parametrize("scheme", ["openvino", "tensorrt", "tflite"])
def test_no_pair_parts_a_layer_from_the_activation_that_it_absorbs(scheme: str, end: str, tmp_path: Path) -> None:
    """ONNX Runtime's quantizer writes one there for symmetric int8: TensorRT would compute both in float."""
    write, values = Writer(), np.random.default_rng(4).normal(0, 0.2, (16, 3, 3, 3))
    bounds = [write.constant("low", 0.0), write.constant("high", 6.0)] if end == "Clip" else []
    conv = write.node("Conv", [write.pair("x", "int8"), write.weight("w1", values, "stored")], "c1", pads=[1] * 4)
    write.node(end, [write.pair(conv, "int8"), *bounds], "r1")
    square = np.random.default_rng(5).normal(0, 0.2, (16, 16, 3, 3))
    write.node("Conv", [write.pair("r1", "int8"), write.weight("w2", square, "stored")], "y", pads=[1] * 4)
    path = saved(write.model(["N", 16, SIDE, SIDE]), tmp_path)
    quantized, _ = as_given(path, scheme, tmp_path)
    assert quantized.taken is not None
    assert quantized.taken.changed["c1"] == "the tensor is inside what the target computes at once"
    assert not [f for f in lint(quantized.model) if f.rule == "activation-outside"]
    onnx.save(quantized.model, tmp_path / "ours.onnx")
    theirs, ours = answers(path), answers(tmp_path / "ours.onnx")
    assert np.square(ours - theirs).sum() < 10**-3.5 * np.square(theirs).sum()


def test_the_lowest_integer_moves_where_the_target_lacks_it(tmp_path: Path) -> None:
    model = qdq_network()
    stored = next(tensor for tensor in model.graph.initializer if tensor.name == "w1.q")
    values = numpy_helper.to_array(stored).copy()
    values[0, 0, 0, 0] = -128
    stored.CopyFrom(numpy_helper.from_array(values, "w1.q"))
    path = saved(model, tmp_path)
    for scheme, lowest, changed in (("openvino", -128, {}), ("tflite", -127, {"w1.dq"})):
        quantized, _ = as_given(path, scheme, tmp_path)
        assert quantized.taken is not None
        assert set(quantized.taken.changed) == set(changed)
        assert constants(quantized.model)["w1.dq.quantized"].min() == lowest


def test_a_weight_behind_a_transpose_keeps_its_integers(tmp_path: Path) -> None:
    path = saved(qdq_network(transposed=True), tmp_path)
    quantized, _ = as_given(path, "tflite", tmp_path)
    onnx.save(quantized.model, tmp_path / "ours.onnx")
    assert quantized.taken is not None
    assert not quantized.taken.changed
    np.testing.assert_allclose(answers(tmp_path / "ours.onnx"), answers(path), atol=0.0301)


def test_layers_that_were_left_in_float_stay_so_where_the_target_has_floats(tmp_path: Path) -> None:
    model = qdq_network()
    gemm = next(node for node in model.graph.node if node.op_type == "Gemm")
    gemm.input[0] = "f"
    path = saved(model, tmp_path)
    openvino, _ = as_given(path, "openvino", tmp_path)
    assert openvino.floats["logits.node"] == "the given network has no Q/DQ in front of it"
    tflite, _ = as_given(path, "tflite", tmp_path)
    assert "logits.node" not in tflite.floats


def test_gaps_are_calibrated_and_said(tmp_path: Path) -> None:
    write = Writer()
    weight = write.weight("w", np.random.default_rng(1).normal(0, 1, (4, 3, 1, 1)), "stored")
    write.node("Sigmoid", [write.node("Conv", [write.pair("x", "int8"), weight], "c", kernel_shape=[1, 1])], "s")
    write.node("Mul", ["c", "s"], "y")
    quantized, _ = as_given(saved(write.model(["N", 4, SIDE, SIDE]), tmp_path), "tflite", tmp_path)
    assert quantized.taken is not None
    assert quantized.taken.calibrated == ("c", "y")  # what a sigmoid has is prescribed


def test_the_relu_that_integers_stand_for_comes_back(tmp_path: Path) -> None:
    """A quantizer leaves it away: unsigned integers with the zero_point 0 end where it ends."""
    write = Writer()
    weight = write.weight("w", np.random.default_rng(1).normal(0, 1, (4, 3, 1, 1)), "stored")
    write.node("Conv", [write.pair("x", "int8"), weight], "c", kernel_shape=[1, 1])
    parameters = [write.constant("c.s", 6 / 255), write.constant("c.z", 0, TensorProto.UINT8)]
    write.node("DequantizeLinear", [write.node("QuantizeLinear", ["c", *parameters], "c.q"), *parameters], "y")
    path = saved(write.model(["N", 4, SIDE, SIDE]), tmp_path)
    graph, _ = take_apart(Graph.read(onnx.load(path)), path)
    onnx.save(graph.write(), tmp_path / "float.onnx")
    plain = OrtRunner(tmp_path / "float.onnx").predict(10 * IMAGES)[0]
    assert (plain.min(), plain.max()) == (0.0, 6.0)


@pytest.mark.parametrize("divided", [False, True])
def test_a_norm_behind_a_quantized_weight_goes_into_its_scale(divided: bool, tmp_path: Path) -> None:
    """Training exports the norm, and ``conv / f`` before it, that it folded for the quantizer alone."""
    draw, write = np.random.default_rng(2), Writer()
    gain, var = np.array([1.5, -0.5, 2.0, 0.25]), np.array([1.0, 2.0, 0.5, 1.0])
    weight = write.weight("w", draw.normal(0, 1, (4, 3, 1, 1)), "stored")
    made = write.node("Conv", [write.pair("x", "int8"), weight], "c", kernel_shape=[1, 1])
    if divided:
        made = write.node("Div", [made, write.constant("f", gain.reshape(1, 4, 1, 1))], "d")
    norm = [write.constant(name, v) for name, v in (("g", gain), ("o", [1.0] * 4), ("m", [0.5] * 4), ("v", var))]
    write.node("BatchNormalization", [made, *norm], "n")
    write.pair("n", "int8", "y")
    path = saved(write.model(["N", 4, SIDE, SIDE]), tmp_path)
    before = constants(onnx.load(path))
    quantized, _ = as_given(path, "tflite", tmp_path)
    onnx.save(quantized.model, tmp_path / "ours.onnx")
    factor = (1 if divided else gain) / np.sqrt(var + 1e-5)
    after = constants(quantized.model)
    name = next(name for name in after if name.endswith("weight.quantized"))
    np.testing.assert_array_equal(after[name], before["w.q"] * np.sign(factor).reshape(4, 1, 1, 1).astype(np.int8))
    np.testing.assert_allclose(after[name.replace("quantized", "scale")], before["w.s"] * np.abs(factor), rtol=1e-6)
    np.testing.assert_allclose(answers(tmp_path / "ours.onnx"), answers(path), atol=0.0501)


def test_tensors_that_are_read_both_ways_and_pairs_that_differ_are_named(tmp_path: Path) -> None:
    write = Writer()
    one, other = write.pair("x", "int8"), write.node("Relu", ["x"], "r")
    parameters = [write.constant("x.s2", 0.01), write.constant("x.z2", 0, TensorProto.INT8)]
    stored = write.node("QuantizeLinear", ["x", *parameters], "x.q2")
    both = write.node("Add", [one, write.node("DequantizeLinear", [stored, *parameters], "x.dq2")], "s")
    write.node("Add", [both, other], "y")
    path = saved(write.model(["N", 3, SIDE, SIDE]), tmp_path)
    _, given = take_apart(Graph.read(onnx.load(path)), path)
    assert given.remarks["x"] == "it is read with and without Q/DQ: every reader gets it with"
    write.nodes[-1].input[1] = "s"
    path = saved(write.model(["N", 3, SIDE, SIDE]), tmp_path)
    model = onnx.load(path)
    model.graph.node.remove(next(node for node in model.graph.node if node.op_type == "Relu"))
    _, given = take_apart(Graph.read(model), path)
    assert given.remarks["x"] == "it has several Q/DQ pairs that differ: the first one is taken"


def float8(write: Writer) -> None:
    parameters = [write.constant("x.s", 1.0), write.constant("x.z", 0, TensorProto.FLOAT8E4M3FN)]
    stored = write.node("QuantizeLinear", ["x", *parameters], "q")
    write.node("DequantizeLinear", [stored, *parameters], "y")


def computed(write: Writer) -> None:
    scale = write.node("ReduceMax", [write.node("Abs", ["x"], "a")], "s", keepdims=0)
    write.node("DequantizeLinear", [write.node("QuantizeLinear", ["x", scale], "q"), scale], "y")


def moved(write: Writer) -> None:
    write.pair("x", "uint8", "y")
    write.node("Flatten", ["x.q"], "f")
    write.nodes[1], write.nodes[2] = write.nodes[2], write.nodes[1]


def rescaled(write: Writer) -> None:
    write.pair("x", "uint8", "y")
    write.nodes[-1].input[1] = write.constant("other", 0.5)


def halted(write: Writer) -> None:
    write.pair("x", "uint8", "y")
    for tensor in write.constants:
        if tensor.name == "x.s":
            tensor.CopyFrom(numpy_helper.from_array(np.float32(0), "x.s"))


@pytest.mark.parametrize(
    ("write", "why"),
    [
        (float8, "is of the type float8_e4m3fn"),
        (computed, "computes its parameters"),
        (moved, "reads integers"),
        (rescaled, "has other parameters than the QuantizeLinear"),
        (halted, "has a scale that is not positive"),
    ],
)
def test_what_are_no_plain_pairs_is_refused(write: object, why: str, tmp_path: Path) -> None:
    writer = Writer()
    write(writer)  # type: ignore[operator]
    path = saved(writer.model(["N", 3, SIDE, SIDE]), tmp_path)
    with pytest.raises(EdgecError) as caught:
        take_apart(Graph.read(onnx.load(path)), path)
    assert caught.value.code == "already-quantized"
    assert why in caught.value.message


def test_scales_that_are_computed_from_constants_are_known(tmp_path: Path) -> None:
    write = Writer()
    scale = write.node("Div", [write.constant("top", 6.0), write.constant("steps", 255.0)], "scale")
    zero = write.constant("zero", 0, TensorProto.UINT8)
    write.node("DequantizeLinear", [write.node("QuantizeLinear", ["x", scale, zero], "q"), scale, zero], "y")
    path = saved(write.model(["N", 3, SIDE, SIDE]), tmp_path)
    _, given = take_apart(Graph.read(onnx.load(path)), path)
    assert given.activations["x"].scale == np.float32(6.0) / np.float32(255.0)


def test_given_parameters_survive_their_file(tmp_path: Path) -> None:
    path = saved(qdq_network("clipped", "fake"), tmp_path)
    _, given = take_apart(Graph.read(onnx.load(path)), path)
    given.save(tmp_path / "given.json")
    again = Given.load(tmp_path / "given.json")
    for one, other in ((given.activations, again.activations), (given.weights, again.weights)):
        assert one.keys() == other.keys()
        assert all(same_grid(one[name], other[name]) and one[name].dtype == other[name].dtype for name in one)


@pytest.mark.parametrize("weight", WEIGHTS)
def test_the_check_sees_the_nodes_that_quantization_makes(weight: str, tmp_path: Path) -> None:
    path = saved(qdq_network("int8", weight), tmp_path)
    for scheme in ("openvino", "tflite"):
        quantized, given = as_given(path, scheme, tmp_path)
        asked = pretended(onnx.load(tmp_path / "imported.onnx"), load_scheme(scheme), given)
        assert [node.name for node in asked.graph.node] == [node.name for node in quantized.model.graph.node]


def test_pairs_are_found(tmp_path: Path) -> None:
    path = saved(qdq_network(), tmp_path)
    FloatPart().run(tmp_path / "float.onnx", source(path))
    assert has_pairs(path)
    assert not has_pairs(tmp_path / "float.onnx")


def test_nothing_of_a_scheme_moves_what_is_given() -> None:
    rules = untouching(load_scheme("tflite"))
    assert (rules.equalize, rules.rescale_activations, rules.hard_swish, rules.min_channels) == ((), False, "native", 0)
    assert untouching(rules) == rules
    assert load_scheme("tensorrt").whole_depthwise
    assert not untouching(load_scheme("tensorrt")).whole_depthwise


@drawn(st.floats(2**-10, 16.0, width=32), st.integers(0, 255), st.integers(0, 255))
def test_unsigned_and_signed_bytes_are_one_grid(scale: float, zero: int, stored: int) -> None:
    unsigned = QuantParams(np.float32(scale), np.array(zero, np.int32), *integer_range("uint8"), "uint8")
    signed = replace(unsigned, zero_point=unsigned.zero_point - 128, qmin=-128, qmax=127, dtype="int8")
    assert same_grid(unsigned, signed)
    value = unsigned.dequantize(np.array(stored))
    assert signed.dequantize(np.array(stored - 128)) == value
    assert not same_grid(unsigned, replace(signed, zero_point=signed.zero_point + 1))
