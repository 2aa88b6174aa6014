"""The rewritten file against int32 sums and one float32 factor in numpy, and against the file as written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper, parser

from edgec.pipeline.forms.integer_sums import with_integer_sums
from edgec.pipeline.forms.ort import OrtRunner

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
DEQUANTIZED = """
    q = QuantizeLinear(x, sx, zx)
    d = DequantizeLinear(q, sx, zx)
    w = DequantizeLinear<axis = 0>(wq, sw, zw)
    b = DequantizeLinear<axis = 0>(bq, sb, zb)
"""
STORED = """
    r = QuantizeLinear(y, sy, zy)
    out = DequantizeLinear(r, sy, zy)
"""
SX, ZX, SY, ZY = np.float32(0.1), np.int8(-7), np.float32(0.07), np.int8(11)


def model(body: str, **constants: np.ndarray) -> onnx.ModelProto:
    text = f"{HEAD} net (float[N, 3, 5, 5] x) => (float[N, M, H, W] out) {{ {body} }}"
    parsed = parser.parse_model(text)
    parsed.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items())
    return parsed


def constants(rng: np.random.Generator, shape: tuple[int, ...] = (4, 3, 3, 3)) -> dict[str, np.ndarray]:
    """One quantized convolution of the tensors' names above; every tenth sum of channel 0 is next to a tie."""
    sw = rng.uniform(0.001, 0.01, shape[0]).astype(np.float32)
    sw[0] = 0.1 * SY / SX
    return {
        "sx": SX, "zx": ZX, "sy": SY, "zy": ZY, "sw": sw, "zw": np.zeros(shape[0], np.int8),
        "wq": rng.integers(-127, 128, shape).astype(np.int8), "sb": SX * sw, "zb": np.zeros(shape[0], np.int32),
        "bq": rng.integers(-900, 900, shape[0]).astype(np.int32),
    }  # fmt: skip


def integers_of(given: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """int32 sums ``(N, M, 3, 3)`` of a 3x3 convolution without padding."""
    q = np.clip(np.rint(x / SX) + ZX, -128, 127).astype(np.int64) - int(ZX)
    windows = np.lib.stride_tricks.sliding_window_view(q, (3, 3), axis=(2, 3))
    return np.einsum("nchwij,mcij->nmhw", windows, given["wq"].astype(np.int64)) + given["bq"][:, None, None]


def requantized(total: np.ndarray, sw: np.ndarray) -> np.ndarray:
    """Stored integers less their zero_point: one float32 factor for each channel, rounded half to even."""
    factor = (SX * sw / SY).astype(np.float32)[:, None, None]
    return np.clip(np.rint(total.astype(np.float32) * factor), -128 - int(ZY), 127 - int(ZY))


def executed(network: onnx.ModelProto, x: np.ndarray, folder: Path) -> np.ndarray:
    onnx.save(network, folder / "network.onnx")
    return OrtRunner(folder / "network.onnx", as_written=True).predict(x)[0]


def as_written(network: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(network.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize(
    ("activation", "low", "high"),
    [
        ("y = Conv(d, w, b)", -np.inf, np.inf),
        ("s = Conv(d, w, b) y = Relu(s)", 0, np.inf),
        ("s = Conv(d, w, b) y = Clip(s, zero, six)", 0, 6 / SY),
        ("s = Conv(d, w, b) y = Clip(s, , six)", -np.inf, 6 / SY),
    ],
)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_convolution_is_an_integer_sum_and_one_factor(
    activation: str, low: float, high: float, tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    given_constants = constants(rng)
    network = model(DEQUANTIZED + activation + STORED, zero=np.float32(0), six=np.float32(6), **given_constants)
    x = rng.normal(scale=5, size=(3, 3, 5, 5)).astype(np.float32)
    steps = requantized(integers_of(given_constants, x), given_constants["sw"])
    expected = np.rint(np.clip(steps, low, high)).astype(np.float32) * SY
    np.testing.assert_array_equal(executed(network, x, tmp_path_factory.mktemp("network")), expected)


def test_sums_in_the_middle_between_two_integers_go_to_the_even_one(tmp_path: Path) -> None:
    """A weight of 127 steps, 1.5 output steps for each input step, an offset of 127.5: every other input is a tie."""
    step = np.float32(1.5 * 6 / 255)
    scales = {"sx": step, "sy": np.float32(6 / 255), "sw": np.full(3, 1 / 127, np.float32)}
    network = model(
        DEQUANTIZED + "y = Conv<group = 3>(d, w, b)" + STORED,
        **{**constants(np.random.default_rng(0), (3, 1, 1, 1)), **scales, "zx": np.int8(0), "zy": np.int8(-128)},
    )
    for tensor in network.graph.initializer:
        fixed = {
            "wq": np.full((3, 1, 1, 1), 127, np.int8),
            "bq": np.full(3, 10795, np.int32),
            "sb": step * scales["sw"],
        }
        if tensor.name in fixed:
            tensor.CopyFrom(numpy_helper.from_array(fixed[tensor.name], tensor.name))
    q = np.arange(-75, 75)
    x = np.resize(q, (2, 3, 5, 5)).astype(np.float32) * step
    expected = np.clip(np.rint(np.resize(q, x.shape) * 1.5 + 127.5), 0, 255) * scales["sy"]
    np.testing.assert_array_equal(executed(network, x, tmp_path), expected.astype(np.float32))


def test_hard_sigmoid_joins_the_sum(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    given_constants = {**constants(rng), "sy": np.float32(1 / 255), "zy": np.int8(-128)}
    body = "s = Conv(d, w, b) y = HardSigmoid<alpha = 0.16666667, beta = 0.5>(s)"
    x = rng.normal(scale=3, size=(3, 3, 5, 5)).astype(np.float32)
    sixth = np.float32(0.16666667)
    steep = sixth * given_constants["sw"]
    offset = np.rint(0.5 / (np.float64(SX) * steep) + given_constants["bq"])[:, None, None]
    total = integers_of({**given_constants, "bq": np.zeros(4, np.int64)}, x) + offset
    factor = (SX * steep / given_constants["sy"]).astype(np.float32)[:, None, None]
    expected = np.clip(np.rint(total.astype(np.float32) * factor), 0, 255).astype(np.float32) * given_constants["sy"]
    found = executed(model(DEQUANTIZED + body + STORED, **given_constants), x, tmp_path)
    assert 0 < found.min() < found.max() < 1 or len(np.unique(found)) > 20
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "body",
    [
        "y = Mul(d, d)",
        "y = GlobalAveragePool(d)",
        "s = Conv(d, w, b) y = Sigmoid(s)",  # the factor alone: what is stored is something else
        "s = Conv(d, w, b) t = Relu(s) y = Add(s, t)",  # read twice
        "y = Conv(x, w, b)",  # float input
        "f = Identity(w) y = Conv(d, f, b)",
        "c = Clip(b, zero, six) y = Conv(d, w, c)",
    ],
)
def test_function_stays_what_is_written(body: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    scalars = {"zero": np.float32(0), "six": np.float32(6)}
    network = model(DEQUANTIZED + body + STORED, **scalars, **constants(rng))
    x = rng.normal(size=(2, 3, 5, 5)).astype(np.float32)
    steps = np.rint((executed(network, x, tmp_path) - as_written(network, x)) / SY)
    assert np.abs(steps).max() <= 1
    assert np.mean(steps != 0) < 0.02


def test_fully_connected_layer_in_either_orientation(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    given_constants = constants(rng, (75, 8))
    columns = {"sw": given_constants["sw"][:8], "zw": np.zeros(8, np.int8), "sb": given_constants["sb"][:8]}
    columns |= {"bq": given_constants["bq"][:8], "zb": np.zeros(8, np.int32)}
    flat = DEQUANTIZED.replace("w = DequantizeLinear<axis = 0>", "w = DequantizeLinear<axis = 1>")
    tail = "v = Unsqueeze(g, axes) out = Identity(v)"
    body = (
        flat + "f = Flatten(d) y = Gemm(f, w, b) r = QuantizeLinear(y, sy, zy) g = DequantizeLinear(r, sy, zy)" + tail
    )
    network = model(body, axes=np.array([2, 3]), **{**given_constants, **columns})
    x = rng.normal(scale=5, size=(3, 3, 5, 5)).astype(np.float32)
    assert np.abs(executed(network, x, tmp_path) - as_written(network, x)).max() <= 1.01 * SY


def test_float_network_is_left_alone() -> None:
    network = model("out = Relu(x)")
    assert list(with_integer_sums(network).graph.node) == list(network.graph.node)
