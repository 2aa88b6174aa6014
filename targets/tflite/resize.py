"""Corner conventions of Resize: which of TFLite's picks the pixels that the ONNX node picks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
    axes = list(zip(*shapes, strict=True))
    linear = node.attributes.get("mode", "nearest") == "linear"
    mine = _tflite_linear if linear else _tflite_nearest
    theirs = _onnx_linear if linear else _onnx_nearest
    return [c for c in CONVENTIONS if all(np.allclose(mine(c, i, o), theirs(node, i, o), atol=1e-5) for i, o in axes)]


def _onnx_positions(node: Node, size: int, output_size: int) -> Array:
    """Source coordinates by ``coordinate_transformation_mode`` (ONNX Resize, operator set 13)."""
    mode = node.attributes.get("coordinate_transformation_mode", "half_pixel")
    at, scale = np.arange(output_size), output_size / size
    if mode == "align_corners":
        return at * (size - 1) / max(output_size - 1, 1)
    if mode == "asymmetric":
        return at / scale
    if mode == "half_pixel" or (mode == "pytorch_half_pixel" and output_size > 1):
        return (at + 0.5) / scale - 0.5
    return np.zeros(output_size) if mode == "pytorch_half_pixel" else np.full(output_size, np.nan)


def _onnx_linear(node: Node, size: int, output_size: int) -> Array:
    return np.clip(_onnx_positions(node, size, output_size), 0, size - 1)


def _onnx_nearest(node: Node, size: int, output_size: int) -> Array:
    rounding = node.attributes.get("nearest_mode", "round_prefer_floor")
    position = _onnx_positions(node, size, output_size)
    rounded = {
        "floor": np.floor(position),
        "ceil": np.ceil(position),
        "round_prefer_floor": np.ceil(position - 0.5),
        "round_prefer_ceil": np.floor(position + 0.5),
    }[rounding]
    picked: Array = np.clip(rounded, 0, size - 1)
    return picked


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
