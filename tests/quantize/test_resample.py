"""Resize in torch against ONNX Runtime, for every convention."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgec.pipeline.network.graph import Node
from edgec.pipeline.network.resize import source_positions
from edgec.pipeline.quantize.executor import compute

COORDINATES = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


def by_onnxruntime(x: np.ndarray, attributes: dict[str, object], given_by: str, values: np.ndarray) -> np.ndarray:
    inputs = ["x", "", "values"] if given_by == "scales" else ["x", "", "", "values"]
    node = helper.make_node("Resize", inputs, ["y"], **attributes)
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", x.shape), ("y", None))]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], [numpy_helper.from_array(values, "values")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]


def by_torch(x: np.ndarray, attributes: dict[str, object], given_by: str, values: np.ndarray) -> np.ndarray:
    inputs = ("x", "", "values") if given_by == "scales" else ("x", "", "", "values")
    node = Node("Resize", inputs, ("y",), attributes, "resize")
    (found,) = compute(node, {"x": torch.from_numpy(x), "values": torch.from_numpy(values)})
    return found.numpy()


def on_a_border(attributes: dict[str, object], size: int, output_size: int) -> bool:
    """Whether the last bit of a position decides which neighbour is the nearest; whole factors are exact."""
    at = source_positions(attributes, size, output_size, output_size / size)
    parts = at - np.floor(at) - (0.5 if str(attributes["nearest_mode"]).startswith("round") else 0.0)
    return output_size % size != 0 and bool((np.abs(parts - np.round(parts)) < 1e-3).any())


@settings(max_examples=150, deadline=None)
@given(
    sides=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    after=st.tuples(st.integers(1, 15), st.integers(1, 15)),
    mode=st.sampled_from(["nearest", "linear"]),
    coordinates=st.sampled_from(COORDINATES),
    rounding=st.sampled_from(ROUNDINGS),
)
def test_sizes_read_what_onnx_runtime_reads(sides, after, mode, coordinates, rounding) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, *sides)).astype(np.float32)
    attributes = {"mode": mode, "coordinate_transformation_mode": coordinates, "nearest_mode": rounding}
    assume(mode == "linear" or not any(on_a_border(attributes, *axis) for axis in zip(sides, after, strict=True)))
    sizes = np.array([2, 3, *after], np.int64)
    expected = by_onnxruntime(x, attributes, "sizes", sizes)
    np.testing.assert_allclose(by_torch(x, attributes, "sizes", sizes), expected, atol=1e-5)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("scale", [2.0, 0.5, 1.7, 0.6])
def test_scales_count_as_stated_and_not_as_the_ratio_of_sizes(mode: str, coordinates: str, scale: float) -> None:
    x = np.random.default_rng(1).standard_normal((1, 2, 5, 6)).astype(np.float32)
    attributes = {"mode": mode, "coordinate_transformation_mode": coordinates, "nearest_mode": "floor"}
    scales = np.array([1, 1, scale, scale], np.float32)
    np.testing.assert_allclose(
        by_torch(x, attributes, "scales", scales), by_onnxruntime(x, attributes, "scales", scales), atol=1e-5
    )


@pytest.mark.parametrize("attributes", [{"mode": "cubic"}, {"mode": "cubic", "cubic_coeff_a": -0.5}])
def test_other_modes_go_to_the_reference(attributes: dict[str, object]) -> None:
    x, sizes = np.random.default_rng(2).standard_normal((1, 1, 4, 4)).astype(np.float32), np.array([1, 1, 8, 8])
    expected = by_onnxruntime(x, attributes, "sizes", sizes)
    np.testing.assert_allclose(by_torch(x, attributes, "sizes", sizes), expected, atol=1e-4)


def test_a_feature_map_of_a_segmenting_network_takes_no_more_memory_than_its_output() -> None:
    """ONNX's evaluator takes gigabytes."""
    import tracemalloc

    x = np.zeros((4, 64, 32, 32), np.float32)
    tracemalloc.start()
    by_torch(x, {"mode": "linear"}, "sizes", np.array([4, 64, 128, 128]))
    assert tracemalloc.get_traced_memory()[1] < 4 << 20  # of Python's and numpy's: tensors are torch's own
    tracemalloc.stop()
