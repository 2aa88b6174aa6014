"""One spelling of each function, so that every later pass and rule meets one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgec.targets.tflite.graph import Graph, Node, Tensor
from edgec.targets.tflite.integer import real_bias, real_values


def canonical(graph: Graph) -> Graph:
    """One spelling of each function.

    A spatial ReduceMean is a GlobalAveragePool, a GlobalMaxPool or spatial ReduceMax a MaxPool; a Gemm has its weights
    as rows, a ConvTranspose as (outputs, inputs); Sub and Div by a constant are Add and Mul; a PRelu with one slope is
    a LeakyRelu; a Slice has its begin and steps as attributes, and a Gather of evenly spaced indices is one, while one
    that steps backwards is a Gather; a 1x1
    depthwise convolution that multiplies by 1 and adds one value (the gate of a hard-swish that was not equalized) is
    an Add, which XNNPACK runs faster.
    """
    nodes, tensors = [], dict[str, Tensor]()
    for node in graph.nodes:
        if node.op == "ReduceMean" and _reduces_space(graph, node):
            keep = bool(node.attributes.get("keepdims", 1))
            node = replace(node, op="GlobalAveragePool", inputs=node.inputs[:1], attributes={"keepdims": keep})
        elif node.op in ("ReduceMean", "ReduceMax") and not _reduces_space(graph, node):
            node = replace(node, inputs=node.inputs[:1], attributes={**node.attributes, "axes": _axes(graph, node)})
        elif node.op == "GlobalMaxPool" or (node.op == "ReduceMax" and _reduces_space(graph, node)):
            whole, added = _whole_max_pool(graph, node)
            nodes += whole[:-1]
            node = whole[-1]
            tensors.update(added)
        elif node.op == "Gather" and graph.is_constant(node.inputs[1]):
            picked, added = _picked(graph, node)
            nodes += picked[:-1]
            node = picked[-1]
            tensors.update(added)
        elif node.op == "Slice" and "begin" not in node.attributes:
            node = _turned(graph, _plain_slice(graph, node))
        elif node.op == "PRelu" and graph.is_constant(node.inputs[1]):
            node, constant = _plain_slopes(graph, node)
            tensors[constant.name] = constant
        elif node.op == "ConvTranspose" and graph.is_constant(node.inputs[1]):
            node, constant = _outputs_first(graph, node)
            tensors[constant.name] = constant
        elif node.op in ("Gemm", "MatMul") and _has_columns(graph, node):
            node, constant = _rows(graph, node)
            tensors[constant.name] = constant
        elif node.op == "Conv" and _adds_one_value(graph, node):
            constant = Tensor(f"{node.output}/shift", (1,), None, real_bias(graph, node)[:1].astype(np.float32))
            node = replace(node, op="Add", inputs=(node.inputs[0], constant.name), attributes={})
            tensors[constant.name] = constant
        elif node.op in ("Sub", "Div") and graph.is_constant(node.inputs[1]):
            node, constant = _inverse(graph, node)
            tensors[constant.name] = constant
        nodes.append(node)
    return graph.with_nodes(nodes, tensors)


def _axes(graph: Graph, node: Node) -> list[int]:
    """Of a reduction, from an attribute or an input; all where none are named."""
    rank = len(graph.tensors[node.inputs[0]].shape)
    axes = node.attributes.get("axes")
    if axes is None and len(node.inputs) > 1 and node.inputs[1] and graph.is_constant(node.inputs[1]):
        axes = np.atleast_1d(graph.tensors[node.inputs[1]].values).tolist()
    return sorted(int(axis) % rank for axis in axes) if axes else list(range(rank))


def _reduces_space(graph: Graph, node: Node) -> bool:
    return len(graph.tensors[node.inputs[0]].shape) == 4 and _axes(graph, node) == [2, 3]


def _whole_max_pool(graph: Graph, node: Node) -> tuple[list[Node], dict[str, Tensor]]:
    """MaxPool over the whole map, and a Reshape where its axes go."""
    source, given = graph.tensors[node.inputs[0]], graph.tensors[node.output]
    pool = replace(node, op="MaxPool", inputs=node.inputs[:1], attributes={"kernel_shape": source.shape[2:]})
    if len(given.shape) == 4:
        return [pool], {}
    kept = replace(given, name=f"{given.name}/map", shape=(*source.shape[:2], 1, 1))
    flatten = Node("Flatten", node.name, (kept.name,), node.output)
    return [replace(pool, output=kept.name), flatten], {kept.name: kept}


def _picked(graph: Graph, node: Node) -> tuple[list[Node], dict[str, Tensor]]:
    """A Slice, or a Gather with indices as an attribute, and a Squeeze or Reshape behind where they are no row.

    All in their order are no more than the Reshape: torch writes ``as_strided`` so.
    """
    source, given = graph.tensors[node.inputs[0]], graph.tensors[node.output]
    indices, rank = graph.tensors[node.inputs[1]].values, len(source.shape)
    if graph.is_constant(node.inputs[0]):
        return [node], {}
    axis = int(node.attributes.get("axis", 0)) % rank
    places = [int(index) % source.shape[axis] for index in np.ravel(indices)]
    if indices.ndim > 1 and places == list(range(source.shape[axis])):
        return [Node("Reshape", node.name, node.inputs[:1], node.output)], {}
    step = places[1] - places[0] if len(places) > 1 else 1
    if step > 0 and places == list(range(places[0], places[-1] + 1, step)):
        begin = [places[0] if place == axis else 0 for place in range(rank)]
        steps = [step if place == axis else 1 for place in range(rank)]
        pick = replace(node, op="Slice", inputs=node.inputs[:1], attributes={"begin": begin, "steps": steps})
    else:
        pick = replace(node, inputs=node.inputs[:1], attributes={"axis": axis, "indices": places})
    if indices.ndim == 1:
        return [pick], {}
    sides = (*source.shape[:axis], len(places), *source.shape[axis + 1 :])
    kept = replace(given, name=f"{given.name}/kept", shape=sides)
    apart = Node("Reshape" if indices.ndim else "Squeeze", node.name, (kept.name,), node.output)
    return [replace(pick, output=kept.name), apart], {kept.name: kept}


def _plain_slice(graph: Graph, node: Node) -> Node:
    """Begin and step of every axis as attributes; as it is where they are computed."""
    names = node.inputs[1:]
    if any(name and not graph.is_constant(name) for name in names):
        return node
    shape = graph.tensors[node.inputs[0]].shape
    given = [graph.tensors[name].values.tolist() if name else None for name in names]
    starts, ends, axes, steps = [*given, None, None][:4]
    begin, every = [0] * len(shape), [1] * len(shape)
    for place, (start, _) in enumerate(zip(starts or [], ends or [], strict=True)):
        axis = int(axes[place] if axes else place) % len(shape)
        every[axis] = int(steps[place]) if steps else 1
        begin[axis] = max(slice(start, None, every[axis]).indices(shape[axis])[0], 0)
    return replace(node, inputs=node.inputs[:1], attributes={"begin": begin, "steps": every})


def _turned(graph: Graph, node: Node) -> Node:
    """A Slice that steps backwards along one axis, and takes all of the others, is a Gather."""
    begin, steps = node.attributes.get("begin", []), node.attributes.get("steps", [])
    shapes = [graph.tensors[name].shape for name in (node.inputs[0], node.output)]
    moved = [axis for axis, step in enumerate(steps) if step < 0 or shapes[0][axis] != shapes[1][axis]]
    if len(moved) != 1 or steps[moved[0]] > 0:
        return node
    (axis,) = moved
    indices = [begin[axis] + place * steps[axis] for place in range(shapes[1][axis])]
    return replace(node, op="Gather", attributes={"axis": axis, "indices": indices})


def _plain_slopes(graph: Graph, node: Node) -> tuple[Node, Tensor]:
    """One slope for all is a LeakyRelu; otherwise a slope for each channel, of the other operand's rank."""
    slopes, source = graph.tensors[node.inputs[1]], graph.tensors[node.inputs[0]]
    values = real_values(slopes).astype(np.float32)
    if np.ptp(values) == 0:
        alpha = float(values.ravel()[0])
        return replace(node, op="LeakyRelu", inputs=node.inputs[:1], attributes={"alpha": alpha}), slopes
    spread = np.broadcast_to(values, (1,) * (len(source.shape) - values.ndim) + values.shape)
    constant = Tensor(f"{node.output}/slopes", spread.shape[1:], None, spread[0])
    if slopes.quantization and slopes.quantization.axis is None:
        integers = slopes.values.reshape(spread.shape)[0]
        constant = replace(constant, data=integers, quantization=slopes.quantization)
    return replace(node, inputs=(node.inputs[0], constant.name)), constant


def _outputs_first(graph: Graph, node: Node) -> tuple[Node, Tensor]:
    """Weights (inputs, outputs, H, W) as (outputs, inputs, H, W)."""
    weights = graph.tensors[node.inputs[1]]
    note = weights.quantization
    if note and note.axis is not None:
        note = replace(note, axis=1 - note.axis)
    data = np.ascontiguousarray(weights.values.swapaxes(0, 1))
    first = Tensor(f"{weights.name}/outputs", data.shape, note, data)
    return replace(node, inputs=(node.inputs[0], first.name, *node.inputs[2:])), first


def _has_columns(graph: Graph, node: Node) -> bool:
    weights = graph.tensors[node.inputs[1]]
    return weights.data is not None and len(weights.shape) == 2 and not node.attributes.get("transB")


def _rows(graph: Graph, node: Node) -> tuple[Node, Tensor]:
    """Weights (inputs, outputs) as (outputs, inputs)."""
    weights = graph.tensors[node.inputs[1]]
    note = weights.quantization
    if note and note.axis is not None:
        note = replace(note, axis=1 - note.axis)
    data = np.ascontiguousarray(weights.values.T)
    rows = Tensor(f"{weights.name}/rows", data.shape, note, data)
    return replace(
        node,
        op="Gemm",
        inputs=(node.inputs[0], rows.name, *node.inputs[2:]),
        attributes={**node.attributes, "transB": 1},
    ), rows


def _inverse(graph: Graph, node: Node) -> tuple[Node, Tensor]:
    """x - c as x + (-c), x / c as x * (1 / c)."""
    source = graph.tensors[node.inputs[1]]
    values = source.values.astype(np.float32)
    if source.quantization:
        values = (values - source.quantization.zero_point) * np.float32(source.quantization.scale[0])
    name = f"{node.output}/{'negative' if node.op == 'Sub' else 'reciprocal'}"
    constant = Tensor(name, source.shape, None, -values if node.op == "Sub" else (1 / values).astype(np.float32))
    return replace(node, op="Add" if node.op == "Sub" else "Mul", inputs=(node.inputs[0], name)), constant


def _adds_one_value(graph: Graph, node: Node) -> bool:
    """Weights all 1 and a bias that is one value, at every pixel on its own."""
    if not all(graph.is_constant(name) for name in node.inputs[1:]) or len(node.inputs) < 3:
        return False
    weights = graph.tensors[node.inputs[1]]
    plain = node.attributes.get("strides", [1, 1]) == [1, 1] and not any(node.attributes.get("pads", ()))
    if weights.shape[1:] != (1, 1, 1) or node.attributes.get("group", 1) != weights.shape[0] or not plain:
        return False
    bias = real_bias(graph, node)
    return bool(np.allclose(real_values(weights), 1.0, rtol=1e-5) and np.ptp(bias) <= 1e-3 * abs(bias[0]))
