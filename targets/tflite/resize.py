"""Corner conventions of Resize: which of TFLite's picks the pixels that the ONNX node picks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgec.pipeline.network.resize import linear_positions, nearest_positions
from edgec.targets.tflite.graph import Array, Graph, Node


@dataclass(frozen=True)
class Convention:
    """TFLite's two switches; both off is the asymmetric convention."""

    align_corners: bool
    half_pixel: bool


CONVENTIONS = (Convention(False, True), Convention(False, False), Convention(True, False))


def matching_conventions(graph: Graph, node: Node) -> list[Convention]:
    """TFLite's conventions that read the same source positions, along both axes, as the ONNX node does."""
    shapes = [graph.tensors[name].shape[2:] for name in (node.inputs[0], node.output)]
    axes = list(zip(*shapes, _scales(graph, node, *shapes), strict=True))
    linear = node.attributes.get("mode", "nearest") == "linear"
    mine = _tflite_linear if linear else _tflite_nearest
    theirs = linear_positions if linear else nearest_positions
    wanted = [theirs(node.attributes, *axis) for axis in axes]

    def alike(convention: Convention) -> bool:
        read = [mine(convention, size, output_size) for size, output_size, _ in axes]
        return all(np.allclose(one, other, atol=1e-5) for one, other in zip(read, wanted, strict=True))

    return [convention for convention in CONVENTIONS if alike(convention)]


def _scales(graph: Graph, node: Node, before: tuple[int, ...], after: tuple[int, ...]) -> list[float]:
    """Of height and width: TFLite knows sizes alone, and a stated scale need not be their ratio."""
    name = node.inputs[2] if len(node.inputs) > 2 else ""
    stated = graph.tensors[name].data if name else None
    if stated is not None and stated.size == 4:
        return [float(scale) for scale in stated.reshape(-1)[2:]]
    return [output_size / size for size, output_size in zip(before, after, strict=True)]


def _tflite_scale(convention: Convention, size: int, output_size: int) -> float:
    if convention.align_corners and output_size > 1:
        return (size - 1) / (output_size - 1)
    return size / output_size


def _tflite_linear(convention: Convention, size: int, output_size: int) -> Array:
    """``ComputeInterpolationValues`` of TFLite's reference kernel."""
    at, scale = np.arange(output_size), _tflite_scale(convention, size, output_size)
    position = (at + 0.5) * scale - 0.5 if convention.half_pixel else at * scale
    clipped: Array = np.clip(position, 0, size - 1)
    return clipped


def _tflite_nearest(convention: Convention, size: int, output_size: int) -> Array:
    """``GetNearestNeighbor`` of TFLite's reference kernel, in its float32 arithmetic."""
    scale = np.float32(_tflite_scale(convention, size, output_size))
    position = (np.arange(output_size, dtype=np.float32) + np.float32(0.5 if convention.half_pixel else 0.0)) * scale
    picked = np.floor(position + np.float32(0.5)) if convention.align_corners else np.floor(position)
    clipped: Array = np.clip(picked, 0, size - 1)
    return clipped
