"""One spelling of each function, so that the quantizer meets operators that integer kernels have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from edgec.pipeline.network.graph import Graph, Node
from edgec.pipeline.quantize.affine import Array
from edgec.pipeline.quantize.hard_swish_spelling import read

POINTWISE = {"kernel_shape": [1, 1], "strides": [1, 1], "pads": [0, 0, 0, 0]}


def products_as_gemms(graph: Graph) -> Graph:
    """``MatMul(x, W)`` of vectors, and an Add of one value per column behind it, is a Gemm."""
    nodes: list[Node] = []
    constants: dict[str, Array] = {}
    biased: dict[str, Node] = {}
    for node in graph.nodes:
        weight = graph.constants.get(node.inputs[1]) if node.op == "MatMul" else None
        if weight is not None and weight.ndim == 2 and len(graph.shapes.get(node.inputs[0], ())) == 2:
            reader = graph.only_consumer(node.output)
            bias = _row(graph, reader, weight.shape[1]) if reader is not None and reader.op == "Add" else None
            gemm = replace(node, op="Gemm", attributes={}, inputs=node.inputs[:2])
            if reader is not None and bias is not None:
                constants[f"{node.name}.row"] = bias
                gemm = replace(gemm, inputs=(*gemm.inputs, f"{node.name}.row"), outputs=reader.outputs)
                biased[reader.name] = reader
            nodes.append(gemm)
        elif node.name not in biased:
            nodes.append(node)
    return graph.with_nodes(nodes, constants)


def _row(graph: Graph, add: Node, size: int) -> Array | None:
    """The Add's constant as one value per column; None where it is something else."""
    given = [graph.constants[name] for name in add.inputs if name in graph.constants]
    if len(given) != 1 or given[0].size not in (1, size) or given[0].shape[-1:] not in ((), (1,), (size,)):
        return None
    return np.broadcast_to(given[0].astype(np.float32).reshape(-1), size).copy() if given[0].ndim < 3 else None


def differences_as_sums(graph: Graph) -> Graph:
    """``x - c`` as ``x + (-c)``, ``c - x`` as ``c + (-1) x``, ``x / c`` as ``x (1 / c)``."""
    nodes: list[Node] = []
    constants: dict[str, Array] = {}
    for node in graph.nodes:
        known = [name in graph.constants for name in node.inputs]
        if node.op in ("Sub", "Div") and known == [False, True] and graph.constants[node.inputs[1]].dtype.kind == "f":
            value = graph.constants[node.inputs[1]].astype(np.float32)
            name = f"{node.name}.{'negative' if node.op == 'Sub' else 'reciprocal'}"
            constants[name] = -value if node.op == "Sub" else (1 / value).astype(np.float32)
            node = replace(node, op="Add" if node.op == "Sub" else "Mul", inputs=(node.inputs[0], name))
        nodes.append(node)
    return graph.with_nodes(nodes, constants)


def affines_as_convolutions(graph: Graph) -> Graph:
    """A gain and an offset per channel are a depthwise 1x1 convolution: int8 per channel, int32 offsets, one rounding.

    That is a BatchNormalization which no convolution took in, and a Mul, an Add, or both, by constants per channel.
    """
    nodes: list[Node] = []
    constants: dict[str, Array] = {}
    made: dict[str, int] = {}
    for node in graph.nodes:
        source = next(iter(graph.data_inputs(node)), "")
        shape = graph.shapes.get(source, ())
        gain_offset = _affine(graph, node, shape[1] or 0) if len(shape) == 4 else None
        if gain_offset is None:
            nodes.append(node)
            continue
        gain, offset = gain_offset
        before = made.get(source)
        if before is not None and graph.only_consumer(source) is node:
            weight, bias = nodes[before].inputs[1:3]
            constants[bias] = (constants[bias] * gain + offset).astype(np.float32)
            constants[weight] = (constants[weight] * gain.reshape(-1, 1, 1, 1)).astype(np.float32)
            nodes[before] = replace(nodes[before], outputs=node.outputs[:1])
            made[node.output] = before
            continue
        names = (f"{node.name}.gain", f"{node.name}.offset")
        constants[names[0]] = gain.reshape(-1, 1, 1, 1).astype(np.float32)
        constants[names[1]] = offset.astype(np.float32)
        made[node.output] = len(nodes)
        attributes = {**POINTWISE, "group": len(gain)}
        nodes.append(Node("Conv", (source, *names), node.outputs[:1], attributes, node.name))
    return graph.with_nodes(nodes, constants)


def _affine(graph: Graph, node: Node, channels: int) -> tuple[Array, Array] | None:
    """Gain and offset per channel, float64 ``(C,)``, of a BatchNormalization, Mul or Add; None for anything else."""
    if node.op == "BatchNormalization" and all(name in graph.constants for name in node.inputs[1:5]):
        return norm_affine(node, graph.constants)
    known = [graph.constants[name] for name in node.inputs if name in graph.constants]
    if node.op not in ("Mul", "Add") or len(known) != 1 or known[0].size == 1 or known[0].dtype.kind != "f":
        return None
    shape = (1,) * (4 - known[0].ndim) + known[0].shape
    if shape != (1, channels, 1, 1):
        return None
    value = known[0].astype(np.float64).reshape(-1)
    return (value, np.zeros(channels)) if node.op == "Mul" else (np.ones(channels), value)


def norm_affine(node: Node, constants: Mapping[str, Array]) -> tuple[Array, Array]:
    """Gain and offset of a BatchNormalization (Jacob et al. 2018, arXiv:1712.05877, equation 14)."""
    scale, shift, mean, var = (constants[name].astype(np.float64) for name in node.inputs[1:5])
    gain = scale / np.sqrt(var + node.attributes.get("epsilon", 1e-5))
    return gain, shift - mean * gain


def norms_as_affines(graph: Graph) -> Graph:
    """A BatchNormalization of anything but a feature map as Mul and Add."""
    nodes: list[Node] = []
    constants: dict[str, Array] = {}
    for node in graph.nodes:
        rank = len(graph.shapes.get(node.inputs[0] if node.inputs else "", ()))
        if node.op != "BatchNormalization" or rank == 4 or any(n not in graph.constants for n in node.inputs[1:5]):
            nodes.append(node)
            continue
        names = (f"{node.name}.gain", f"{node.name}.offset")
        for name, value in zip(names, norm_affine(node, graph.constants), strict=True):
            constants[name] = value.astype(np.float32).reshape(1, -1, *[1] * (rank - 2))
        product = f"{node.output}.product"
        nodes.append(Node("Mul", (node.inputs[0], names[0]), (product,), {}, f"{node.name}.product"))
        nodes.append(Node("Add", (product, names[1]), node.outputs[:1], {}, node.name))
    return graph.with_nodes(nodes, constants)


def norms_as_one(graph: Graph) -> Graph:
    """``x / max(|x|, tiny)`` along one axis is LpNormalization: ReduceL2, then Clip, Max or Add, Expand, and Div.

    ``(x - mean) / sqrt(variance + epsilon)`` over the last axes, a gain and an offset is LayerNormalization; over the
    channels of a map it is that between two Transposes.
    """
    nodes: list[Node] = []
    constants: dict[str, Array] = {}
    inside: set[str] = set()
    for node in graph.nodes:
        axis = _normalised_axis(graph, node) if node.op == "Div" else None
        standard = _standardized(graph, node)
        if axis is not None:
            nodes.append(replace(node, op="LpNormalization", inputs=node.inputs[:1], attributes={"axis": axis, "p": 2}))
        elif standard is not None:
            affine, last = _affine_behind(graph, node, standard, inside)
            names = (f"{node.name}.gain", f"{node.name}.offset")
            constants |= dict(zip(names, affine, strict=True))
            nodes += _layer_norm(replace(node, inputs=names, outputs=last.outputs), standard)
        elif node.name not in inside:
            nodes.append(node)
    return graph.with_nodes(read(nodes, graph.outputs), constants)


@dataclass(frozen=True)
class _Standard:
    """What a division by the standard deviation divides.

    Attributes:
        sides: of the axes that a mean is over.
        behind: axes behind these, the positions of a map; 0 where they are the last ones.
    """

    source: str
    sides: tuple[int, ...]
    behind: int
    epsilon: float


def _layer_norm(node: Node, standard: _Standard) -> list[Node]:
    """The normalization in one node of gain and offset, and the Transposes around it that a map needs."""
    attributes = {"axis": -len(standard.sides), "epsilon": standard.epsilon}
    if not standard.behind:
        inputs = (standard.source, *node.inputs)
        return [replace(node, op="LayerNormalization", inputs=inputs, attributes=attributes)]
    last, done = f"{node.output}.last", f"{node.output}.standard"
    return [
        Node("Transpose", (standard.source,), (last,), {"perm": [0, 2, 3, 1]}, f"{node.name}.last"),
        Node("LayerNormalization", (last, *node.inputs), (done,), attributes, node.name),
        Node("Transpose", (done,), node.outputs, {"perm": [0, 3, 1, 2]}, f"{node.name}.first"),
    ]


def _standardized(graph: Graph, node: Node) -> _Standard | None:
    """What ``d / sqrt(mean(d d) + epsilon)`` standardizes, d without mean, whatever spells the division."""
    parts = _deviation(graph, node)
    centred = _made(graph, parts[0], "Sub") if parts else None
    total = _made(graph, parts[1], "Add") if parts else None
    mean = _made(graph, centred.inputs[1], "ReduceMean") if centred is not None else None
    if centred is None or mean is None or total is None or mean.inputs[0] != centred.inputs[0]:
        return None
    least = [graph.constants[name] for name in total.inputs if name in graph.constants]
    variance = next((made for name in total.inputs if (made := _made(graph, name, "ReduceMean"))), None)
    place = _mean_axes(graph, mean)
    if variance is None or len(least) != 1 or least[0].size != 1 or place is None:
        return None
    if place != _mean_axes(graph, variance) or not _is_square(graph, variance.inputs[0], centred.output):
        return None
    return _Standard(mean.inputs[0], *place, float(least[0].item()))


def _deviation(graph: Graph, node: Node) -> tuple[str, str] | None:
    """``(d, v)`` of ``d / sqrt(v)``: a Div, or a Mul by the Reciprocal or a Pow."""
    if node.op == "Div":
        root = _root(graph, node.inputs[1], 0.5)
        return (node.inputs[0], root) if root else None
    if node.op != "Mul" or len(node.inputs) != 2:
        return None
    for one, other in (node.inputs, node.inputs[::-1]):
        inverse, divided = _made(graph, other, "Reciprocal"), _made(graph, other, "Div")
        if divided is not None and np.all(graph.constants.get(divided.inputs[0], 0) == 1):
            inverse = replace(divided, inputs=divided.inputs[1:])
        root = _root(graph, inverse.inputs[0], 0.5) if inverse is not None else _root(graph, other, -0.5)
        if root:
            return one, root
    return None


def _root(graph: Graph, name: str, exponent: float) -> str:
    """What a Sqrt, or a Pow by ``exponent``, makes a tensor of; empty where neither does."""
    if exponent == 0.5 and (made := _made(graph, name, "Sqrt")):
        return made.inputs[0]
    power = _made(graph, name, "Pow")
    known = graph.constants.get(power.inputs[1]) if power is not None else None
    return power.inputs[0] if power is not None and known is not None and np.all(known == exponent) else ""


def _made(graph: Graph, name: str, op: str) -> Node | None:
    """What makes a tensor, where it is this operator."""
    node = graph.producer.get(name)
    return node if node is not None and node.op == op else None


def _is_square(graph: Graph, name: str, source: str) -> bool:
    if product := _made(graph, name, "Mul"):
        return tuple(product.inputs) == (source, source)
    power = _made(graph, name, "Pow")
    exponent = graph.constants.get(power.inputs[1]) if power is not None and power.inputs[0] == source else None
    return exponent is not None and bool(np.all(exponent == 2))


def _mean_axes(graph: Graph, mean: Node) -> tuple[tuple[int, ...], int] | None:
    """Sides of the axes that a ReduceMean takes, and how many lie behind; None where it drops them, or takes others.

    It takes the last ones, or the channels of a map.
    """
    shape, axes = graph.shapes.get(mean.inputs[0], ()), mean.attributes.get("axes")
    if axes is None and len(mean.inputs) > 1 and mean.inputs[1] in graph.constants:
        axes = graph.constants[mean.inputs[1]].tolist()
    if mean.op != "ReduceMean" or not axes or not shape or not mean.attributes.get("keepdims", 1):
        return None
    taken = sorted(int(axis) % len(shape) for axis in axes)
    behind = len(shape) - 1 - taken[-1]
    known = [side for side in shape[taken[0] : taken[-1] + 1] if side]
    if (behind and not (len(shape) == 4 and taken == [1])) or len(known) != len(taken):
        return None
    return tuple(known), behind


def _is_row(values: Array, standard: _Standard) -> bool:
    """One value for each place of the only axis."""
    place = values.ndim - 1 - standard.behind
    return (values.size,) == standard.sides and place >= 0 and values.shape[place] == values.size


def _affine_behind(graph: Graph, node: Node, standard: _Standard, inside: set[str]) -> tuple[tuple[Array, Array], Node]:
    """Gain and offset of the normalized sides from constants behind a node, and the last node of these.

    What goes into them joins ``inside``.
    """
    sides, rank = standard.sides, len(graph.shapes.get(node.output, ()))
    found = [np.ones(sides, np.float32), np.zeros(sides, np.float32)]
    for place, op in enumerate(("Mul", "Add")):
        reader = graph.only_consumer(node.output)
        given = [graph.constants[name] for name in reader.inputs if name in graph.constants] if reader else []
        fits = len(given) == 1 and given[0].ndim <= rank and (given[0].size == 1 or _is_row(given[0], standard))
        if reader is not None and reader.op == op and fits:
            found[place] = np.broadcast_to(given[0].astype(np.float32).reshape(-1), sides).copy()
            inside.add(reader.name)
            node = reader
    return (found[0], found[1]), node


def _normalised_axis(graph: Graph, div: Node) -> int | None:
    below = graph.producer.get(div.inputs[1])
    while below is not None and below.op in ("Clip", "Max", "Add", "Expand"):
        least = [graph.constants[name] for name in below.inputs[1:2] if name in graph.constants]
        if below.op != "Expand" and not (least and least[0].size == 1 and 0 <= least[0].item() <= 1e-4):
            return None
        below = graph.producer.get(below.inputs[0])
    if below is None or below.op != "ReduceL2" or below.inputs[0] != div.inputs[0]:
        return None
    axes = below.attributes.get("axes")
    if axes is None and len(below.inputs) > 1 and below.inputs[1] in graph.constants:
        axes = graph.constants[below.inputs[1]].tolist()
    return int(axes[0]) if axes and len(axes) == 1 and below.attributes.get("keepdims", 1) else None
