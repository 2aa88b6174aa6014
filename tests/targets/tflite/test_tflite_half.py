"""FP16 files: float16 constants in front of float operators, one piece for XNNPACK, float16 arithmetic where asked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, shape_inference
from qdq_graphs import QdqGraph, run_int8, run_onnx

from edgec.pipeline.forms.compiler import settings_of
from edgec.pipeline.forms.spec import load_target, names, with_precision
from edgec.pipeline.quantize.check import pretended
from edgec.targets.tflite.compiler import HALF, HALF_REMARK, check, to_tflite
from edgec.targets.tflite.delegate import delegate_coverage
from edgec.targets.tflite.flatbuffer import read_tflite
from edgec.targets.tflite.options import TfliteOptions

SINGLE = TfliteOptions()
HALVES = replace(SINGLE, constants="float16")


def float_network(activation: str = "Relu", largest: float = 1.0, seed: int = 0) -> ModelProto:
    """Convolution, depthwise convolution and classifier, all in float."""
    g, rng = QdqGraph((1, 4, 9, 9), quantized=False), np.random.default_rng(seed)
    dense = rng.normal(0, 0.3, (8, 4, 3, 3)).astype(np.float32)
    dense[0, 0, 0, 0] = largest
    y = g.op("Conv", ["input", g.constant("w", dense), g.constant("b", rng.normal(0, 1, 8).astype(np.float32))])
    y = g.op(activation, [y]) if activation else y
    y = g.op("Conv", [y, g.constant("d", rng.normal(0, 0.3, (8, 1, 3, 3)).astype(np.float32))], group=8)
    y = g.op("Flatten", [g.op("GlobalAveragePool", [y])])
    return g.model(g.op("Gemm", [y, g.constant("c", rng.normal(0, 1, (5, 8)).astype(np.float32))], transB=1))


def types(content: bytes) -> dict[str, str]:
    """Types of the constants by name."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    kinds = {value: name for name, value in vars(schema.TensorType).items() if not name.startswith("_")}
    return {
        tensor.name.decode(): kinds[tensor.type]
        for tensor in model.subgraphs[0].tensors
        if model.buffers[tensor.buffer].data is not None
    }


@settings(deadline=None, max_examples=25)
@given(
    activation=st.sampled_from(["Relu", "HardSwish", "Sigmoid", "Tanh", ""]),
    reference=st.booleans(),
    seed=st.integers(0, 99),
)
def test_the_answers_are_those_of_rounded_constants(activation: str, reference: bool, seed: int) -> None:
    """Not merely near the float network: equal to it with its constants rounded to float16."""
    model = float_network(activation, seed=seed)
    x = np.random.default_rng(seed + 1).normal(0, 1, (1, 4, 9, 9)).astype(np.float32)
    rounded = ModelProto.FromString(model.SerializeToString())
    for tensor in rounded.graph.initializer:
        values = np.frombuffer(tensor.raw_data, np.float32)
        tensor.raw_data = values.astype(np.float16).astype(np.float32).tobytes()
    found = run_int8(model, x, HALVES, reference=reference)
    np.testing.assert_allclose(found, run_onnx(rounded, x), rtol=1e-4, atol=1e-4)
    assert np.abs(found - run_onnx(model, x)).max() > 0


def test_the_file_is_half_as_large_and_one_piece() -> None:
    found = {name: to_tflite(float_network(), options) for name, options in (("32", SINGLE), ("16", HALVES))}
    kinds = {name: set(types(content).values()) for name, content in found.items()}
    assert "FLOAT16" not in kinds["32"]
    assert "FLOAT32" not in kinds["16"]
    coverage = delegate_coverage(found["16"])
    assert (coverage.pieces, coverage.operators_percent) == (1, 100)


def test_what_would_become_infinite_stays_wide() -> None:
    """65504 is the largest float16; its tensor alone keeps float32."""
    for largest, kind in ((65504.0, "FLOAT16"), (65536.0, "FLOAT32")):
        found = types(to_tflite(float_network(largest=largest), HALVES))
        assert {name.removesuffix("/float16"): of for name, of in found.items()}["w"] == kind
        assert list(found.values()).count("FLOAT32") == (kind == "FLOAT32")


@pytest.mark.parametrize("board", [name for name in names() if load_target(name).compiler == "tflite"])
def test_float16_arithmetic_only_where_a_board_says_so(board: str) -> None:
    target = load_target(board)
    if "fp16" not in target.precisions:
        assert "half_arithmetic" not in target.options
        return
    options: TfliteOptions = settings_of(with_precision(target, "fp16"))
    assert options.constants == "float16"
    computes = HALF.encode() in to_tflite(float_network(), options)
    assert computes == (board == "rpi5")
    assert computes == (HALF_REMARK in check(float_network(), options))
    assert HALF.encode() not in to_tflite(float_network(), settings_of(target))


def test_integers_have_no_halves() -> None:
    """The option is about float operators: a file in integers is the same with it."""
    g, rng = QdqGraph((1, 4, 9, 9)), np.random.default_rng(0)
    weights = g.weights("w", rng.integers(-127, 128, (5, 4, 1, 1)).astype(np.int8), np.full(5, 0.01))
    model = g.model(g.op("Conv", [g.x, weights], 0.05, 4))
    assert to_tflite(model, SINGLE) == to_tflite(model, HALVES)
    assert "DEQUANTIZE" not in {operator.kind for operator in read_tflite(to_tflite(model, HALVES)).operators}


SPELLINGS: dict[str, tuple[str, tuple[tuple[int, ...], ...]]] = {
    "norm": ("BatchNormalization", ((8,), (8,), (8,), (8,))),
    "gain": ("Mul", ((1, 8, 1, 1),)),
    "offset": ("Add", ((8, 1, 1),)),
    "difference": ("Sub", ((1, 8, 1, 1),)),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_what_integers_spell_otherwise_floats_spell_so_too(name: str) -> None:
    """A batch norm that no convolution takes in, say: XNNPACK has no such operator in float either."""
    op, shapes = SPELLINGS[name]
    g, rng = QdqGraph((1, 4, 9, 9), quantized=False), np.random.default_rng(0)
    y = g.op("Conv", ["input", g.constant("w", rng.normal(0, 0.3, (8, 4, 3, 3)).astype(np.float32))])
    y = g.op("Relu", [y])
    given_ = [g.constant(f"p{i}", rng.uniform(0.5, 1, shape).astype(np.float32)) for i, shape in enumerate(shapes)]
    model = g.model(g.op(op, [y, *given_]))
    target = with_precision(load_target("arm"), "fp16")
    asked = pretended(shape_inference.infer_shapes(model), target.scheme)
    options: TfliteOptions = settings_of(target)
    x = rng.normal(0, 1, (1, 4, 9, 9)).astype(np.float32)
    np.testing.assert_allclose(run_int8(asked, x, options), run_onnx(model, x), rtol=2e-2, atol=2e-2)
    assert delegate_coverage(to_tflite(asked, options)).pieces == 1
