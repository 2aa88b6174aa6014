"""What a deep learning accelerator (DLA) of an Orin or Xavier would take of a network, read off the file.

The limits are those of "DLA Supported Layers and Restrictions" in NVIDIA's TensorRT developer guide, and of the ONNX
operator matrix for Orin's DLA in NVIDIA's Deep-Learning-Accelerator-SW. No DLA was at hand: this is reading, no test.
Everything else falls back to the GPU, and each change of side is a copy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgec.pipeline.network.graph import Graph, Node

MOST_PIECES = 16
"""Loadables that one core holds at the same time."""

LARGEST_SIDE = 8192

Limit = tuple[int, int]
CONVOLUTION: dict[str, Limit] = {"kernel_shape": (1, 32), "pads": (0, 31), "strides": (1, 8), "dilations": (1, 32)}
POOLING: dict[str, Limit] = {"kernel_shape": (1, 8), "pads": (0, 7), "strides": (1, 16)}
NATIVE = (
    "Relu",
    "Sigmoid",
    "Tanh",
    "LeakyRelu",
    "PRelu",
    "Add",
    "Sub",
    "Mul",
    "Max",
    "Sum",
    "BatchNormalization",
    "LRN",
)
"""Operators without limits of their own beyond those of every layer."""


@dataclass(frozen=True)
class DlaPlacement:
    """Where the nodes of a network would run.

    Attributes:
        num_nodes: on the DLA.
        fallback: reason by node for those on the GPU.
        num_pieces: runs of neighbouring nodes on the DLA, each of which is a loadable.
    """

    num_nodes: int
    fallback: dict[str, str]
    num_pieces: int


def dla_placement(graph: Graph) -> DlaPlacement:
    """Of a float graph with fixed shapes; Q and DQ are not taken before TensorRT 11."""
    reasons = {node.name: why_not(graph, node) for node in graph.nodes}
    sides = [not reasons[node.name] for node in graph.nodes]
    pieces = sum(here and not before for before, here in zip([False, *sides], sides, strict=False))
    return DlaPlacement(sum(sides), {name: reason for name, reason in reasons.items() if reason}, pieces)


def why_not(graph: Graph, node: Node) -> str:
    """Why a DLA does not take a node; empty where it does."""
    shape = graph.shapes.get(node.output, ())
    if any((side or 1) > LARGEST_SIDE for side in shape[1:]):
        return f"a side of {max(side or 1 for side in shape[1:])}, at most {LARGEST_SIDE} is taken"
    if node.op in NATIVE:
        return "" if len(shape) == 4 else "only maps (N, C, H, W) are taken"
    check = CHECKS.get(node.op)
    return check(graph, node) if check else f"{node.op} is not among its layers"


def _convolution(graph: Graph, node: Node) -> str:
    kernel, pads = _sides(node, "kernel_shape"), _sides(node, "pads")
    if any(pad >= side for pad, side in zip(pads, kernel * 2, strict=False)):
        return "padding as large as the kernel"
    groups, channels = int(node.attributes.get("group", 1)), graph.shapes.get(node.output, (1, 1))[1] or 1
    if max(groups, channels) > LARGEST_SIDE:
        return f"{max(groups, channels)} channels or groups, at most {LARGEST_SIDE} are taken"
    return _outside(node, CONVOLUTION)


def _transposed(graph: Graph, node: Node) -> str:
    if any(_sides(node, "pads")) or any(side != 1 for side in _sides(node, "dilations")):
        return "padding or dilation of a transposed convolution"
    if int(node.attributes.get("group", 1)) > 1:
        return "groups of a transposed convolution"
    return _outside(node, {"kernel_shape": (1, 32)})


def _pooling(graph: Graph, node: Node) -> str:
    return _outside(node, POOLING)


def _clip(graph: Graph, node: Node) -> str:
    low, high = (graph.constants.get(name) if name else None for name in (*node.inputs[1:], "", "")[:2])
    fits = low is not None and high is not None and float(low) == 0 and 1 <= float(high) <= 127
    return "" if fits else "Clip from 0 to between 1 and 127 is taken"


def _product(graph: Graph, node: Node) -> str:
    return "" if node.inputs[1] in graph.constants else "a product of two activations"


def _concat(graph: Graph, node: Node) -> str:
    return "" if node.attributes.get("axis") == 1 else "Concat along another axis than the channels"


def _shuffle(graph: Graph, node: Node) -> str:
    ranks = {len(graph.shapes.get(name, ())) for name in (node.inputs[0], node.output)}
    return "" if ranks == {4} else f"{node.op} of other than four dimensions"


def _sides(node: Node, name: str) -> list[int]:
    return [int(side) for side in node.attributes.get(name, ())]


def _outside(node: Node, limits: dict[str, Limit]) -> str:
    for name, (least, most) in limits.items():
        wrong = [side for side in _sides(node, name) if not least <= side <= most]
        if wrong:
            return f"{name} {wrong[0]}, {least} to {most} are taken"
    return ""


Check = Callable[[Graph, Node], str]
CHECKS: dict[str, Check] = {
    "Conv": _convolution,
    "ConvTranspose": _transposed,
    "MaxPool": _pooling,
    "AveragePool": _pooling,
    "Clip": _clip,
    "Gemm": _product,
    "MatMul": _product,
    "Concat": _concat,
    "Reshape": _shuffle,
    "Transpose": _shuffle,
    "Slice": _shuffle,
    "Softmax": _shuffle,
}
