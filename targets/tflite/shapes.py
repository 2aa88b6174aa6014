"""Rules that move values: slices, reshapes, transposes, channel shuffles, the longest value's index."""

from __future__ import annotations

import numpy as np

from edgec.targets.tflite.graph import Node, Tensor
from edgec.targets.tflite.layout import stored_axis
from edgec.targets.tflite.lowering import Lowering, stored_shape
from edgec.targets.tflite.writer import B, schema


def reshape(to: Lowering, node: Node) -> None:
    """RESHAPE to the stored shape of the output."""
    shape = stored_shape(to.graph.tensors[node.output])
    inputs = [to.activation(node.inputs[0]), to.indices(f"{node.output}/shape", shape)]
    to.emit(B.RESHAPE, inputs, node.output, schema.ReshapeOptionsT(newShape=np.asarray(shape, np.int32)))


def transpose(to: Lowering, node: Node) -> None:
    """The Transpose that the model asks for, between stored orders; RESHAPE where they are the same bytes."""
    source, output = to.graph.tensors[node.inputs[0]], to.graph.tensors[node.output]
    wanted = [int(axis) for axis in node.attributes.get("perm", range(len(source.shape))[::-1])]
    _permuted(to, node, [stored_axis(source, wanted[axis]) for axis in _stored_axes(output)])


def relayout(to: Lowering, node: Node) -> None:
    """The same tensor in the other order."""
    source, output = to.graph.tensors[node.inputs[0]], to.graph.tensors[node.output]
    _permuted(to, node, [stored_axis(source, axis) for axis in _stored_axes(output)])


def _permuted(to: Lowering, node: Node, order: list[int]) -> None:
    shape = stored_shape(to.graph.tensors[node.inputs[0]])
    if [axis for axis in order if shape[axis] > 1] == [axis for axis in range(len(shape)) if shape[axis] > 1]:
        return reshape(to, node)
    inputs = [to.activation(node.inputs[0]), to.indices(f"{node.output}/order", order)]
    return to.emit(B.TRANSPOSE, inputs, node.output, schema.TransposeOptionsT())


def _stored_axes(tensor: Tensor) -> tuple[int, ...]:
    """The ONNX axis of each stored one."""
    return (0, 2, 3, 1) if len(tensor.shape) == 4 and tensor.channels_last else tuple(range(len(tensor.shape)))


def slice_(to: Lowering, node: Node) -> None:
    """SLICE; STRIDED_SLICE where every second value is taken, or fewer."""
    begin, steps = node.attributes["begin"], node.attributes["steps"]
    output = to.graph.tensors[node.output]
    axes, size = _stored_axes(output), stored_shape(output)
    first = to.indices(f"{node.output}/begin", [begin[axis] for axis in axes])
    source = to.activation(node.inputs[0])
    if all(step == 1 for step in steps):
        inputs = [source, first, to.indices(f"{node.output}/size", size)]
        return to.emit(B.SLICE, inputs, node.output, schema.SliceOptionsT())
    strides = [steps[axis] for axis in axes]
    end = [begin[axis] + (side - 1) * steps[axis] + 1 for axis, side in zip(axes, size, strict=True)]
    inputs = [source, first, to.indices(f"{node.output}/end", end), to.indices(f"{node.output}/strides", strides)]
    return to.emit(B.STRIDED_SLICE, inputs, node.output, schema.StridedSliceOptionsT())


def gather(to: Lowering, node: Node) -> None:
    """GATHER along the stored axis."""
    axis = stored_axis(to.graph.tensors[node.inputs[0]], node.attributes["axis"])
    inputs = [to.activation(node.inputs[0]), to.indices(f"{node.output}/indices", node.attributes["indices"])]
    to.emit(B.GATHER, inputs, node.output, schema.GatherOptionsT(axis=axis), 2)


def channel_shuffle(to: Lowering, node: Node) -> None:
    """RESHAPE, TRANSPOSE and RESHAPE of the last stored axis alone."""
    n, c, h, w = to.shape(node.output)
    groups = node.attributes["groups"]
    apart = to.scratch(node.output, "groups", (n, h, w, groups, c // groups))
    turned = to.scratch(node.output, "turned", (n, h, w, c // groups, groups))
    shape = to.indices(f"{node.output}/apart", (n, h, w, groups, c // groups))
    to.emit(B.RESHAPE, [to.activation(node.inputs[0]), shape], apart, schema.ReshapeOptionsT())
    order = to.indices(f"{node.output}/order", (0, 1, 2, 4, 3))
    to.emit(B.TRANSPOSE, [apart, order], turned, schema.TransposeOptionsT())
    whole = to.indices(f"{node.output}/shape", (n, h, w, c))
    to.emit(B.RESHAPE, [turned, whole], node.output, schema.ReshapeOptionsT())


def arg_max(to: Lowering, node: Node) -> None:
    """ARG_MAX with int32 indices; a RESHAPE keeps the axis."""
    source, output = to.graph.tensors[node.inputs[0]], to.graph.tensors[node.output]
    axis = stored_axis(source, int(node.attributes.get("axis", 0)))
    inputs = [to.activation(node.inputs[0]), to.indices(f"{node.output}/axis", [axis])]
    options = schema.ArgMaxOptionsT(outputType=schema.TensorType.INT32)
    if not node.attributes.get("keepdims", 1):
        return to.emit(B.ARG_MAX, inputs, node.output, options)
    shape = stored_shape(source)
    flat = to.writer.tensor(f"{node.output}/flat", shape[:axis] + shape[axis + 1 :], "int32")
    to.emit(B.ARG_MAX, inputs, flat, options)
    kept = to.indices(f"{node.output}/shape", stored_shape(output))
    return to.emit(B.RESHAPE, [flat, kept], node.output, schema.ReshapeOptionsT())


def cast(to: Lowering, node: Node) -> None:
    """CAST of indices to another type."""
    to.emit(B.CAST, [to.activation(node.inputs[0])], node.output, schema.CastOptionsT())
