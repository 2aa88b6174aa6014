"""The bounds of a Clip are kept away from Q and DQ, in whose steps TensorRT 8.6 took them on a GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import CHANNELS, Builder
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.pipeline.core.scratch import scratch
from edgec.pipeline.forms.ort import OrtRunner
from edgec.pipeline.network.graph import Array, Graph
from edgec.targets.tensorrt.bounds import meets_quantizer
from edgec.targets.tensorrt.dialect import to_tensorrt
from edgec.targets.tensorrt.lint import lint
from edgec.targets.tensorrt.proof import same_function

INPUTS = (4 * np.random.default_rng(0).normal(size=(2, CHANNELS, 8, 8))).astype(np.float32)
OWN_RANGE = 6 / 127
"""The scale of a ReLU6 whose Q saturates where it does."""


def clip(net: Builder, source: str, low: float | None, high: float | None, name: str = "clip") -> str:
    bounds = {f"{name}.lo": low, f"{name}.hi": high}
    net.constants |= {key: np.float32(value) for key, value in bounds.items() if value is not None}
    return net.add("Clip", [source, *(key if value is not None else "" for key, value in bounds.items())], name)


def stem(low: float | None = 0, high: float | None = 6, scale: float = OWN_RANGE, between: str = "") -> Builder:
    """The smallest network that fails: a convolution in float, a Clip, and a Q."""
    net = Builder()
    clipped = clip(net, net.conv("input", "stem", stored=False), low, high)
    net.constants["stem.w"] = net.constants["stem.w"] / np.float32(500)
    net.conv(net.pair(net.block(clipped, between, "between") if between else clipped, scale=scale), "next")
    return net


def clips(model: onnx.ModelProto) -> list[str]:
    return [finding.node for finding in lint(model) if finding.rule == "clip-bounds"]


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node if node.op_type not in ("QuantizeLinear", "DequantizeLinear")]


def as_tensorrt_8_6(model: onnx.ModelProto) -> onnx.ModelProto:
    """The file as the engine computed it: bounds of a Clip beside a Q count steps of it."""
    graph = Graph.read(model)
    constants: dict[str, Array] = {}
    for node in graph.nodes:
        neighbour = meets_quantizer(graph, node)
        if neighbour is None:
            continue
        scale = graph.constants[neighbour.inputs[1]]
        constants |= {name: np.asarray(graph.constants[name] * scale, np.float32) for name in node.inputs[1:] if name}
    return graph.with_constants(constants).write()


def answers(model: onnx.ModelProto, tmp_path: Path) -> Array:
    onnx.save(model, tmp_path / "net.onnx")
    return OrtRunner(tmp_path / "net.onnx", as_written=True, integer_sums=False).predict(INPUTS)[0]


def test_the_pattern_that_failed_on_a_gpu(tmp_path: Path) -> None:
    raw = stem().model("logits")
    assert clips(raw) == ["clip"]
    ours = to_tensorrt(raw)
    assert clips(ours) == []
    assert operators(ours) == ["Conv", "Relu", "Conv"]
    expected = answers(raw, tmp_path)
    np.testing.assert_array_equal(answers(ours, tmp_path), expected)
    np.testing.assert_array_equal(answers(as_tensorrt_8_6(ours), tmp_path), expected)
    assert np.abs(answers(as_tensorrt_8_6(raw), tmp_path) - expected).max() > 0.1


def test_a_clip_inside_an_integer_kernel_stays() -> None:
    """Seen right on a GPU, 60 times in two networks."""
    net = Builder()
    net.conv(net.pair(clip(net, net.conv(net.pair("input"), "c"), 0, 6), scale=OWN_RANGE), "d")
    ours = to_tensorrt(net.model("logits"))
    assert operators(ours) == ["Conv", "Clip", "Conv"]
    assert clips(ours) == []


@pytest.mark.parametrize(
    ("low", "high", "scale", "left"),
    [
        (0, 6, OWN_RANGE, ["Relu"]),
        (0, 6, 3 / 127, ["Relu"]),
        (-1, 1, 1 / 128, []),
        (-1, 1, 0.001, []),
        (0, 6, 6 / 100, ["Relu", "Sub", "Relu", "Sub"]),
        (-1, 6, OWN_RANGE, ["Sub", "Relu", "Add"]),
        (-9, 5, OWN_RANGE, ["Sub", "Relu", "Sub"]),
        (None, 5, OWN_RANGE, ["Sub", "Relu", "Sub"]),
        (0, None, OWN_RANGE, ["Clip"]),
        (None, 0, OWN_RANGE, ["Clip"]),
    ],
)
def test_only_the_bounds_that_the_quantizer_lacks_are_computed(
    low: float | None, high: float | None, scale: float, left: list[str]
) -> None:
    raw = stem(low, high, scale).model("logits")
    ours = to_tensorrt(raw)
    assert operators(ours) == ["Conv", *left, "Conv"]
    same_function(ours, raw, INPUTS, 80.0)


@pytest.mark.parametrize("between", ["MaxPool", "half", "Relu"])
def test_a_quantizer_is_seen_through_what_it_wanders_through(between: str) -> None:
    raw = stem(between=between).model("logits")
    assert clips(raw) == ["clip"]
    ours = to_tensorrt(raw)
    assert clips(ours) == []
    same_function(ours, raw, INPUTS, 80.0)


def test_behind_a_residual_sum_and_between_two_quantizers() -> None:
    net = Builder()
    stored = net.pair("input")
    summed = net.add("Add", [stored, net.pair(net.conv(stored, "c"))], "sum")
    net.pair(clip(net, net.pair(clip(net, summed, 0, 6)), -1, 4, "second"), scale=0.5)
    raw = net.model("logits")
    assert clips(raw) == ["clip", "second"]
    ours = to_tensorrt(raw)
    assert clips(ours) == []
    same_function(ours, raw, INPUTS, 80.0)


def test_a_map_that_is_also_an_output_keeps_its_bounds() -> None:
    net = Builder()
    net.conv(net.pair(clip(net, "input", 0, 6), scale=0.001), "c")
    model = net.model("logits")
    shape = onnx.helper.make_tensor_value_info("clip", onnx.TensorProto.FLOAT, ["N", CHANNELS, 8, 8])
    model.graph.output.append(shape)
    ours = to_tensorrt(model)
    assert clips(ours) == []
    same_function(ours, model, INPUTS, 80.0)


def test_computed_bounds_are_left_to_the_lint() -> None:
    net = Builder()
    largest = net.add("ReduceMax", ["input"], "largest", keepdims=0)
    net.conv(net.pair(net.add("Clip", ["input", "", largest], "clip")), "c")
    assert clips(to_tensorrt(net.model("logits"))) == ["clip"]


BOUND = st.one_of(st.none(), st.floats(-3, 3, width=32, allow_subnormal=False))


@settings(deadline=None, max_examples=60)
@given(
    low=BOUND,
    high=BOUND,
    scale=st.floats(0.0078125, 0.25, width=32, allow_subnormal=False),
    place=st.sampled_from(["stem", "sum", "between"]),
)
def test_any_bounds_at_any_scale(low: float | None, high: float | None, scale: float, place: str) -> None:
    if low is not None and high is not None and low > high:
        low, high = high, low
    net = Builder(seed=3)
    source = "input" if place == "stem" else net.pair("input", scale=0.023171)  # no ties with any step
    made = net.add("Add", [source, source], "sum") if place == "sum" else source
    net.pair(clip(net, made, low, high), scale=scale)
    raw = net.model("logits")
    ours = to_tensorrt(raw)
    assert clips(ours) == []
    with scratch("bounds") as folder:
        expected, found = (answers(model, folder) for model in (raw, ours))
    assert np.mean(np.abs(found - expected) > 1e-6) < 0.01  # a rounding of the sum may cross half a step
