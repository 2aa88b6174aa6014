"""The torch executor against ONNX Runtime: every attribute told or left away, answers and shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException

from edgec.pipeline.network.graph import Graph
from edgec.pipeline.quantize import executor
from edgec.pipeline.quantize.executor import on_each_core, one_thread, run

DRAW = np.random.default_rng(3)
quick = settings(max_examples=60, deadline=None)


def agrees(op: str, shape: Sequence[int], *constants: Any, domain: str = "", **attributes: Any) -> None:
    """The answer of one node to noise; what ONNX Runtime refuses is no case."""
    names = [f"c{place}" if value is not None else "" for place, value in enumerate(constants)]
    known = [numpy_helper.from_array(v, n) for n, v in zip(names, constants, strict=True) if v is not None]
    node = helper.make_node(op, ["x", *names], ["y"], "n", domain=domain, **attributes)
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, sides) for name, sides in (("x", shape), ("y", None))
    )
    opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid(domain, 1)] if domain else [])]
    model = helper.make_model(helper.make_graph([node], "g", [x], [y], known), opset_imports=opsets, ir_version=8)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    feed = DRAW.normal(size=tuple(shape)).astype(np.float32)
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        (expected,) = session.run(None, {"x": feed})
    except (Fail, InvalidArgument, RuntimeException):
        return
    got = run(Graph.read(model), {"x": torch.from_numpy(feed)})["y"].numpy()
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, atol=1e-4)


def told(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


sides = st.tuples(st.integers(7, 9), st.integers(7, 9))
small = st.none() | st.tuples(st.integers(1, 3), st.integers(1, 3))
pads = st.none() | st.tuples(*[st.integers(0, 1)] * 4)
automatic = st.sampled_from([None, "SAME_UPPER", "SAME_LOWER", "VALID"])


@quick
@given(st.sampled_from(["MaxPool", "AveragePool"]), sides, st.integers(2, 3), small, pads, automatic, st.data())
def test_pools(op, size, kernel, strides, around, auto_pad, data) -> None:
    assume(around is None or auto_pad is None)
    more = {"count_include_pad": data.draw(st.booleans())} if op == "AveragePool" else {}
    if op == "MaxPool" and auto_pad is None:
        more = {"dilations": data.draw(small)}
    ceil = data.draw(st.sampled_from([None, 1])) if auto_pad is None else None
    asked = told(strides=strides, pads=around, auto_pad=auto_pad, ceil_mode=ceil, **more)
    agrees(op, (2, 3, *size), kernel_shape=[kernel, kernel], **asked)


@quick
@given(sides, st.integers(1, 4), small, pads, automatic, st.sampled_from([1, 2]), small, st.data())
def test_transposed_convolutions(size, kernel, strides, around, auto_pad, group, dilations, data) -> None:
    assume(around is None or auto_pad is None)
    rows, columns = strides or (1, 1)
    whole = [(side - 1) * step + kernel for side, step in zip(size, (rows, columns), strict=True)]
    cut = data.draw(st.none() | st.tuples(st.integers(0, 2), st.integers(0, 2))) if around is None else None
    shape = [side - less for side, less in zip(whole, cut, strict=True)] if cut and dilations is None else None
    extra = data.draw(st.none() | st.tuples(st.integers(0, rows - 1), st.integers(0, columns - 1)))
    asked = told(strides=strides, pads=around, auto_pad=auto_pad, dilations=dilations, output_shape=shape)
    asked |= told(output_padding=extra if shape is None else None)
    assume(shape is None or min(shape) > 0)
    weight = DRAW.normal(size=(4, 4 // group, kernel, kernel)).astype(np.float32)
    bias = DRAW.normal(size=4).astype(np.float32) if data.draw(st.booleans()) else None
    agrees("ConvTranspose", (2, 4, *size), weight, *([] if bias is None else [bias]), group=group, **asked)


@quick
@given(*[st.integers(-9, 9)] * 2, st.sampled_from([0, 1, 2, 3, -1, -3]), st.sampled_from([-3, -2, -1, 1, 2]))
def test_slices_in_both_directions(start, end, axis, step) -> None:
    agrees("Slice", (2, 5, 4, 6), *(np.array([value]) for value in (start, end, axis, step)))


@pytest.mark.parametrize(
    ("start", "end"), [(-1, -(2**63)), (2**63 - 1, -(2**31)), (-2, -100), (3, 0), (3, -4), (3, -5)]
)
def test_a_slice_to_the_first(start, end) -> None:
    agrees("Slice", (2, 4, 3, 3), np.array([start]), np.array([end]), np.array([1]), np.array([-1]))


@pytest.mark.parametrize("axis", [None, *range(-4, 5)])
def test_flattening_at_any_axis(axis: int | None) -> None:
    agrees("Flatten", (2, 3, 4, 5), **told(axis=axis))


@pytest.mark.parametrize("axes", [[0], [-1], [1, -1], [-1, -2], [3, 0], [-3]])
def test_axes_from_behind(axes: list[int]) -> None:
    agrees("Unsqueeze", (2, 3), np.array(axes))


@pytest.mark.parametrize("op", ["ReduceMean", "ReduceMax", "ReduceL2", "ReduceMin"])
@pytest.mark.parametrize("axes", [None, [1], [-1, 2]])
@pytest.mark.parametrize("keepdims", [None, 0])
def test_reductions(op: str, axes: list[int] | None, keepdims: int | None) -> None:
    agrees(op, (2, 3, 4, 5), **told(axes=axes, keepdims=keepdims))


@pytest.mark.parametrize("size", [1, 3, 5])
def test_response_normalization(size: int) -> None:
    agrees("LRN", (2, 6, 3, 3), size=size, alpha=0.5)


@pytest.mark.parametrize(
    ("op", "shape"), [("MaxPool", (2, 3, 9)), ("AveragePool", (2, 3, 9)), ("MaxPool", (1, 2, 4, 5, 6))]
)
def test_pools_of_any_rank(op: str, shape: tuple[int, ...]) -> None:
    agrees(op, shape, kernel_shape=[2] * (len(shape) - 2), strides=[2] * (len(shape) - 2))


def test_what_the_evaluator_lacks_runs_in_onnx_runtime() -> None:
    agrees("GlobalLpPool", (2, 3, 4, 5), p=2)
    agrees("QuickGelu", (2, 3), domain="com.microsoft")


@pytest.mark.parametrize("cores", [1, 3])
def test_each_core_has_one_thread_of_torch(cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new thread had as many as there are cores, whatever its parent had: MobileNetV1's sums came out differently."""
    monkeypatch.setattr(executor, "num_cores", lambda: cores)
    before = torch.get_num_threads()
    with one_thread():
        assert on_each_core(lambda thing: (thing, torch.get_num_threads()), range(5)) == [(i, 1) for i in range(5)]
    assert torch.get_num_threads() == before
