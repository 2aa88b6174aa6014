"""Integer arithmetic that the passes and the lowering rules share: bounds, biases, constants."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgec.targets.tflite.graph import Array, Graph, Node, Quantization, Tensor

MAX_BIAS = 2**30  # half of int32: leaves room for the accumulated products


ACTIVATIONS = {
    (-np.inf, np.inf): "NONE",
    (0.0, np.inf): "RELU",
    (0.0, 6.0): "RELU6",
    (-1.0, 1.0): "RELU_N1_TO_1",
}


def activation_of(graph: Graph, node: Node) -> str | None:
    """The TFLite activation that a Relu or Clip is, ``NONE`` where int8 saturation alone clips as it does.

    None for any other operator and for bounds that neither TFLite nor the output's range knows.
    """
    bounds, note = clip_bounds(graph, node), graph.tensors[node.output].quantization
    if bounds is None or bounds in ACTIVATIONS or note is None:
        return None if bounds is None else ACTIVATIONS.get(bounds)
    slack = 1e-3 * note.scale[0]
    low = -np.inf if note.low >= bounds[0] - slack else bounds[0]
    high = np.inf if note.high <= bounds[1] + slack else bounds[1]
    return ACTIVATIONS.get((low, high))


def clip_bounds(graph: Graph, node: Node) -> tuple[float, float] | None:
    """What a Relu or Clip clips to; None for any other operator and for computed bounds."""
    if node.op == "Relu":
        return 0.0, np.inf
    if node.op != "Clip" or any(name and not graph.is_constant(name) for name in node.inputs[1:]):
        return None
    given = [real_values(graph.tensors[name]).item() if name else None for name in node.inputs[1:3]]
    low, high = [*given, None, None][:2]
    unbounded = float(np.finfo(np.float32).max)
    return (
        -np.inf if low is None or low <= -unbounded else low,
        np.inf if high is None or high >= unbounded else high,
    )


def covers(note: Quantization, low: float, high: float) -> bool:
    """Saturation of int8 does what a clip to ``[low, high]`` would do, to within a thousandth of a step."""
    slack = 1e-3 * note.scale[0]
    return note.low >= low - slack and note.high <= high + slack


def saturates(note: Quantization) -> bool:
    """No integer lies outside ``[0, 1]``; of int16, whose RELU cuts off what is negative, none above 1."""
    return covers(note, note.low if note.is_wide else 0.0, 1.0)


def real_values(tensor: Tensor) -> Array:
    """A constant's values in float64."""
    data = tensor.values.astype(np.float64)
    note = tensor.quantization
    if note is None:
        return data
    shape = [-1 if axis == note.axis else 1 for axis in range(data.ndim)]
    result: Array = (data - note.zero_point) * np.asarray(note.scale, np.float64).reshape(
        shape if note.axis is not None else [1] * data.ndim
    )
    return result


def real_bias(graph: Graph, node: Node) -> Array:
    """The bias of a Conv or Gemm in float64, zeros where it has none."""
    if len(node.inputs) > 2 and node.inputs[2]:
        return np.ravel(real_values(graph.tensors[node.inputs[2]]))
    return np.zeros(graph.tensors[node.inputs[1]].shape[0])


def integer_bias(graph: Graph, node: Node) -> tuple[Tensor, Array]:
    """Weights and bias, int32 or beside int16 int64, of a Conv or Gemm with output channels on axis 0 of the weights.

    The bias has scale ``input_scale * weight_scale`` by definition, so a channel of (almost) zero weights with a tiny
    scale cannot hold an ordinary bias: such a channel gets a larger weight scale, at which its weights round to the
    little they were.
    """
    weights, source = graph.tensors[node.inputs[1]], graph.tensors[node.inputs[0]].quantization
    assert weights.quantization is not None
    assert source is not None
    assert weights.data is not None
    channels = weights.shape[0]
    scale = np.broadcast_to(np.asarray(weights.quantization.scale, np.float32), channels).astype(np.float64)
    bias = real_bias(graph, node)
    steps = source.scale[0] * scale
    if np.abs(bias / steps).max() > MAX_BIAS:
        fitted = np.maximum(scale, np.abs(bias) / (source.scale[0] * MAX_BIAS)).astype(np.float32)
        ratio = (scale / fitted).reshape([-1] + [1] * (weights.data.ndim - 1))
        data = np.rint(weights.data * ratio).astype(np.int8)
        weights = replace(weights, data=data, quantization=Quantization(tuple(map(float, fitted)), 0, 0))
        steps = source.scale[0] * fitted.astype(np.float64)
    stored = graph.tensors[node.inputs[2]] if len(node.inputs) > 2 and node.inputs[2] else None
    if stored is not None and stored.quantization and np.allclose(stored.quantization.scale, steps, rtol=1e-5, atol=0):
        return weights, stored.values.astype(bias_dtype(source))
    return weights, np.rint(bias / steps).astype(bias_dtype(source))


def bias_dtype(source: Quantization) -> str:
    """Of the accumulator of an operator that reads such integers."""
    return "int64" if source.is_wide else "int32"


def quantized_constant(tensor: Tensor, dtype: str = "int8") -> Tensor:
    """A constant beside integers in their type: a float one symmetric, so that a single value is exact."""
    if tensor.data is None or (tensor.quantization and dtype == "int8"):
        return tensor
    if tensor.quantization:
        note = replace(tensor.quantization, dtype=dtype)
        return replace(tensor, data=tensor.data.astype(dtype), quantization=note)
    limit = np.iinfo(dtype).max
    largest = float(np.abs(tensor.data).max()) or 1.0
    scale = np.float32(largest / limit)
    data = np.clip(np.rint(tensor.data / scale), -limit, limit).astype(dtype)
    return replace(tensor, data=data, quantization=Quantization((float(scale),), 0, dtype=dtype))
