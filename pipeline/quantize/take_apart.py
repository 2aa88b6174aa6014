"""A network that comes with Q/DQ pairs of its own: the float network in it, and the parameters that it was given."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.network.graph import LINEAR, Graph, Node
from edgec.pipeline.quantize.affine import Array, QuantParams, integer_range
from edgec.pipeline.quantize.plan import is_linear
from edgec.pipeline.quantize.spelling import norm_affine

STORED_AS = {
    "int4": ("int8", -8, 7),
    "uint4": ("uint8", 0, 15),
    "int8": ("int8", -128, 127),
    "uint8": ("uint8", 0, 255),
    "int16": ("int16", -(2**15), 2**15 - 1),
    "uint16": ("uint16", 0, 2**16 - 1),
    "int32": ("int32", -(2**31), 2**31 - 1),
}
"""The type that holds an ONNX type's integers, and which of its integers that type has."""

UNBOUNDED = (*LINEAR, "Add", "BatchNormalization", "Sub")
"""Operators behind which quantizers leave a Relu away."""

RELU6 = 6.0
MOST_VALUES = 2**24


@dataclass(frozen=True, eq=False)
class Given:
    """Parameters that a network brought along.

    Attributes:
        activations: by tensor of the float network.
        weights: by constant of the float network, whose values lie on this grid.
        remarks: what had to be taken otherwise than it was given, by tensor.
    """

    activations: Mapping[str, QuantParams]
    weights: Mapping[str, QuantParams]
    remarks: Mapping[str, str] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """As JSON; float32 survives it."""
        tables = {kind: {n: _plain(p) for n, p in getattr(self, kind).items()} for kind in ("activations", "weights")}
        path.write_text(json.dumps({**tables, "remarks": dict(self.remarks)}, indent=1, sort_keys=True))

    @classmethod
    def load(cls, path: Path) -> Given:
        """What ``save`` wrote."""
        read = json.loads(path.read_text())
        activations, weights = (
            {name: _params(entry) for name, entry in read[kind].items()} for kind in ("activations", "weights")
        )
        return cls(activations, weights, read["remarks"])


def _plain(params: QuantParams) -> dict[str, Any]:
    return {**asdict(params), "scale": params.scale.tolist(), "zero_point": params.zero_point.tolist()}


def _params(entry: dict[str, Any]) -> QuantParams:
    scale, zero_point = np.array(entry["scale"], np.float32), np.array(entry["zero_point"], np.int32)
    return QuantParams(**{**entry, "scale": scale, "zero_point": zero_point})


def take_apart(graph: Graph, path: Path) -> tuple[Graph, Given]:
    """Split a QDQ network.

    1. A pair on an activation goes, and its readers read the float tensor. A Clip of the integers, a type of fewer
       than 8 bits, and a Relu that the integers' end stands for, become a Clip or Relu of the floats in front of it:
       the same function.
    2. A DequantizeLinear of constants, or a pair on them, becomes the float values that its integers stand for.
    3. What follows a quantized weight exactly goes into it: Transpose, and a gain and offset per channel behind its
       convolution, which change its scale and not its integers.

    Args:
        path: for messages.

    Raises:
        EdgecError: ``already-quantized`` where it is no float network with Q/DQ: scales that are computed, 8-bit
            floats, operators that read integers.
    """
    walk = _Walk(graph, path)
    for node in graph.nodes:
        walk.take(node)
    return _with_gains(*walk.result())


@dataclass(frozen=True, eq=False)
class _Stored:
    """An integer tensor: of an activation ``source``, or of a constant's ``values``."""

    source: str
    values: Array | None
    params: QuantParams | None
    """None for blocks of a scale each."""


class _Walk:
    """One walk over a graph in topological order."""

    def __init__(self, graph: Graph, path: Path) -> None:
        self._graph, self._path = graph, path
        self._constants = dict(graph.constants)
        self._alias: dict[str, str] = {}
        self._integers: dict[str, _Stored] = {}
        self._nodes: list[Node] = []
        self._made: dict[str, Node] = {}
        self._activations: dict[str, QuantParams] = {}
        self._weights: dict[str, QuantParams] = {}
        self._remarks: dict[str, str] = {}

    def take(self, node: Node) -> None:
        """One node of the given network."""
        node = replace(node, inputs=tuple(self._alias.get(name, name) for name in node.inputs))
        if node.op == "QuantizeLinear":
            self._quantize(node)
        elif node.op == "DequantizeLinear":
            self._dequantize(node)
        elif node.op == "Clip" and node.inputs[0] in self._integers:
            self._narrow(node)
        elif node.op == "Cast" and node.inputs[0] in self._integers:
            self._integers[node.output] = self._integers[node.inputs[0]]  # a type that holds them: DQ checks it
        elif any(name in self._integers for name in node.inputs):
            self._refuse(node, "reads integers")
        elif node.op == "Transpose" and node.inputs[0] in self._weights:
            self._transpose(node)
        elif node.inputs and all(not name or name in self._constants for name in node.inputs):
            self._constants.update(zip(node.outputs, self._computed(node), strict=False))
        else:
            self._nodes.append(node)
            self._made.update((name, node) for name in node.outputs)

    def _computed(self, node: Node) -> list[Array]:
        """What a node makes of constants: exporters compute zero_points and scaled weights."""
        from onnx.reference import ReferenceEvaluator

        if node.op == "ConstantOfShape" and np.prod(self._constants[node.inputs[0]], dtype=np.float64) > MOST_VALUES:
            self._refuse(node, f"makes more than {MOST_VALUES} values")
        opsets = {entry.domain: entry.version for entry in self._graph.model.opset_import}
        evaluator = ReferenceEvaluator(node.proto(), opsets=opsets)
        return list(evaluator.run(None, {name: self._constants[name] for name in node.inputs if name}))

    def result(self) -> tuple[Graph, Given]:
        """The float network and what was found."""
        for name in self._graph.outputs:
            if name in self._integers:
                self._refuse(self._graph.producer[name], "is an output of the network")
        for name in self._activations:
            readers = [reader.op for reader in self._graph.consumers.get(name, ())]
            if readers and any(op != "QuantizeLinear" for op in readers):
                self._remarks[name] = "it is read with and without Q/DQ: every reader gets it with"
        renamed = self._renamed_outputs()
        nodes = (_renamed(node, renamed) for node in self._nodes)
        activations = {renamed.get(name, name): params for name, params in self._activations.items()}
        remarks = {renamed.get(name, name): why for name, why in self._remarks.items()}
        graph = replace(self._graph, nodes=tuple(nodes), constants=self._constants)
        return _own_domain(graph), Given(activations, self._weights, remarks)

    def _renamed_outputs(self) -> dict[str, str]:
        """The float tensor behind a network output takes that output's name; an Identity where it has one already."""
        renamed: dict[str, str] = {}
        fixed = {*self._graph.inputs, *self._graph.outputs}
        for name in self._graph.outputs:
            source = self._alias.get(name, name)
            if source in fixed or source in renamed:
                if source != name:
                    self._nodes.append(Node("Identity", (source,), (name,), {}, f"{name}.same"))
            else:
                renamed[source] = name
        return renamed

    def _quantize(self, node: Node) -> None:
        source = node.inputs[0]
        params = self._read(node, self._type_of(node, "uint8"), source)
        values = self._constants.get(source)
        if values is not None and params is not None:
            values = params.quantize(values)
        elif values is not None:
            self._refuse(node, "quantizes blocks; store their integers")
        self._integers[node.output] = _Stored(source, values, params)

    def _narrow(self, node: Node) -> None:
        stored = self._integers[node.inputs[0]]
        bounds = [int(self._constant(node, name).item()) if name else None for name in (*node.inputs[1:], "", "")[:2]]
        if stored.params is None:
            self._refuse(node, "clips blocks")
        low = max(stored.params.qmin, stored.params.qmin if bounds[0] is None else bounds[0])
        high = min(stored.params.qmax, stored.params.qmax if bounds[1] is None else bounds[1])
        values = None if stored.values is None else np.clip(stored.values, low, high)
        self._integers[node.output] = replace(stored, values=values, params=replace(stored.params, qmin=low, qmax=high))

    def _dequantize(self, node: Node) -> None:
        source = node.inputs[0]
        stored = self._integers.get(source)
        if stored is None:
            if source not in self._constants:
                self._refuse(node, "reads integers that no QuantizeLinear made")
            kind = self._constants[source].dtype.name
            values = self._constants[source]
            stored = _Stored("", values, self._read(node, kind, source))
        elif not _alike(stored.params, self._read(node, self._type_of(node, "uint8"), stored.source)):
            self._refuse(node, "has other parameters than the QuantizeLinear in front of it")
        read = node.output in self._graph.consumers or node.output in self._graph.outputs
        if not read:
            return
        if stored.values is not None:
            self._constants[node.output] = self._values(node, stored)
        else:
            self._alias[node.output] = self._paired(node, stored)

    def _values(self, node: Node, stored: _Stored) -> Array:
        """Floats that a constant's integers stand for."""
        if stored.params is not None:
            if stored.params.dtype != "int32":
                self._weights[node.output] = stored.params
            return stored.params.dequantize(np.asarray(stored.values).astype(np.int64))
        values = np.asarray(stored.values).astype(np.float32)
        axis, size = int(node.attributes.get("axis", 1)), int(node.attributes["block_size"])
        scale, zero = (np.asarray(self._constant(node, name), np.float32) if name else 0 for name in node.inputs[1:3])
        spread = [
            np.repeat(part, size, axis).take(range(values.shape[axis]), axis) for part in (scale, zero + 0 * scale)
        ]
        self._remarks[node.output] = f"its scales stand for blocks of {size}"
        floats: Array = ((values - spread[1]) * spread[0]).astype(np.float32)
        return floats

    def _paired(self, node: Node, stored: _Stored) -> str:
        """The float tensor that stands for an activation's pair."""
        params, name = stored.params, stored.source
        if params is None:
            self._refuse(node, "has blocks in an activation")
        bounds = self._saturation(node, params, name)
        if bounds is not None:
            name = f"{name}.within"
            if name not in self._activations:
                self._clip(stored.source, name, bounds)
            if params.dtype in ("int8", "uint8"):
                qmin, qmax = integer_range(params.dtype)
                params = replace(params, qmin=qmin, qmax=qmax)
        if name in self._activations and not _alike(self._activations[name], params):
            self._remarks[name] = "it has several Q/DQ pairs that differ: the first one is taken"
        self._activations.setdefault(name, params)
        return name

    def _saturation(self, node: Node, params: QuantParams, source: str) -> tuple[Array, Array] | None:
        """Where the floats have to end in front of a pair: None where its type alone ends them.

        Quantizers leave a Relu away where the integers start at 0, and a Clip to 6 where they end at 6 as well: the
        float network needs it.
        """
        full = params.dtype not in ("int8", "uint8") or (params.qmin, params.qmax) == integer_range(params.dtype)
        if params.axis is not None:
            if not full:
                self._refuse(node, "has a scale per channel and fewer integers than its type")
            return None
        low, high = np.array(params.lowest, np.float32), np.array(params.highest, np.float32)
        if not full:
            return low, high
        made = self._made.get(source)
        if low != 0 or made is None or made.op not in UNBOUNDED:
            return None
        return low, high if abs(high - RELU6) < 1e-5 else np.array(np.inf, np.float32)

    def _clip(self, source: str, name: str, bounds: tuple[Array, Array]) -> None:
        """One Clip or Relu, also where another stands in front of it."""
        before = self._made.get(source)
        if before is not None and before.op in ("Relu", "Clip") and before.inputs[0] not in self._integers:
            ends = [self._constants[end] for end in before.inputs[1:] if end in self._constants]
            if before.op == "Relu" or len(ends) == 2:
                least, most = ends if before.op == "Clip" else (np.float32(0), np.float32(np.inf))
                bounds = np.maximum(bounds[0], least), np.minimum(bounds[1], most)
                source = before.inputs[0]
        if bounds[0] == 0 and np.isinf(bounds[1]):
            self._nodes.append(Node("Relu", (source,), (name,), {}, name))
            return
        names = (f"{name}.low", f"{name}.high")
        self._constants.update(zip(names, bounds, strict=True))
        self._nodes.append(Node("Clip", (source, *names), (name,), {}, name))

    def _transpose(self, node: Node) -> None:
        source, params = node.inputs[0], self._weights[node.inputs[0]]
        order = list(node.attributes.get("perm") or range(self._constants[source].ndim)[::-1])
        self._constants[node.output] = np.transpose(self._constants[source], order)
        axis = None if params.axis is None else order.index(params.axis)
        self._weights[node.output] = replace(params, axis=axis)

    def _type_of(self, node: Node, otherwise: str) -> str:
        zero = self._constants.get(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
        if zero is not None:
            return zero.dtype.name
        number = int(node.attributes.get("output_dtype", 0))
        if not number:
            return otherwise
        from onnx.helper import tensor_dtype_to_np_dtype

        return tensor_dtype_to_np_dtype(number).name

    def _read(self, node: Node, kind: str, source: str) -> QuantParams | None:
        """Parameters of a Q or DQ; None for blocks."""
        if kind not in STORED_AS:
            self._refuse(node, f"is of the type {kind}, expected integers of 4 to 32 bits")
        dtype, qmin, qmax = STORED_AS[kind]
        scale = np.asarray(self._constant(node, node.inputs[1]), np.float32)
        if not (np.isfinite(scale).all() and (scale > 0).all()):
            self._refuse(node, "has a scale that is not positive")
        if node.attributes.get("block_size", 0):
            return None
        has_zero = len(node.inputs) > 2 and node.inputs[2]
        zero = np.asarray(self._constant(node, node.inputs[2])).astype(np.int32) if has_zero else np.zeros_like(scale)
        if scale.size == 1:
            return QuantParams(scale.reshape(()), zero.astype(np.int32).reshape(()), qmin, qmax, dtype)
        axis = int(node.attributes.get("axis", 1))
        rank = len(self._graph.shapes.get(source, ())) or 4
        return QuantParams(scale, zero.astype(np.int32), qmin, qmax, dtype, axis % rank)

    def _constant(self, node: Node, name: str) -> Array:
        if name not in self._constants:
            self._refuse(node, "computes its parameters")
        return self._constants[name]

    def _refuse(self, node: Node, why: str) -> NoReturn:
        message = f"'{self._path}': the node '{node.name}' ({node.op}) {why}"
        raise EdgecError("already-quantized", message, "give edgec the float network, or one with plain Q/DQ pairs")


def _alike(one: QuantParams | None, other: QuantParams | None) -> bool:
    if one is None or other is None:
        return one is other
    same = np.array_equal(one.scale, other.scale) and np.array_equal(one.zero_point, other.zero_point)
    return same and one.axis == other.axis


def _renamed(node: Node, names: Mapping[str, str]) -> Node:
    inputs, outputs = (tuple(names.get(name, name) for name in side) for side in (node.inputs, node.outputs))
    return replace(node, inputs=inputs, outputs=outputs)


def _own_domain(graph: Graph) -> Graph:
    """Without the operator sets of other makers that no node is left of."""
    import onnx

    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    used = {node.domain for node in graph.nodes} | {"", "ai.onnx"}
    kept = [entry for entry in graph.model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    return replace(graph, model=model)


def _with_gains(graph: Graph, given: Given) -> tuple[Graph, Given]:
    """Gains and offsets per channel behind a convolution of a quantized weight go into its scale and bias.

    Training that folds a BatchNormalization for the quantizer alone exports ``conv / f`` and the norm behind it.
    """
    nodes: list[Node] = []
    constants, weights = dict(graph.constants), dict(given.weights)
    place: dict[str, int] = {}
    for node in graph.nodes:
        source = next(iter(graph.data_inputs(node)), "")
        index = place.get(source)
        size = constants[nodes[index].inputs[1]].shape[0] if index is not None else 0
        affine = _affine(graph, node, size) if size and graph.only_consumer(source) is node else None
        if index is None or affine is None or source in given.activations:
            if node.op == "Conv" and is_linear(graph, node) and node.inputs[1] in weights:
                place[node.output] = len(nodes)
            nodes.append(node)
            continue
        conv, (gain, offset) = nodes[index], affine
        names = (f"{node.name}.gained_weight", f"{node.name}.gained_bias")
        bias = constants[conv.inputs[2]] if len(conv.inputs) > 2 and conv.inputs[2] else np.zeros(size)
        constants[names[1]] = (bias * gain + offset).astype(np.float32)
        constants[names[0]], weights[names[0]] = _gained(constants[conv.inputs[1]], weights[conv.inputs[1]], gain)
        nodes[index] = replace(conv, inputs=(conv.inputs[0], *names), outputs=node.outputs[:1])
        place[node.output] = index
    return replace(graph, nodes=tuple(nodes), constants=constants), replace(given, weights=weights)


def _gained(weight: Array, params: QuantParams, gain: Array) -> tuple[Array, QuantParams]:
    """The same integers, or their opposites, at scales times the gain's magnitude."""
    scale, zero = (np.broadcast_to(part, gain.shape) for part in (params.scale, params.zero_point))
    sign = np.where(gain < 0, -1, 1)
    if params.zero_point.any() or (params.axis not in (None, 0)):
        return (weight * gain.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.float32), params
    integers = params.quantize(weight).astype(np.int64) * sign.reshape(-1, *[1] * (weight.ndim - 1))
    magnitude = np.maximum(scale.astype(np.float64) * np.abs(gain), np.finfo(np.float32).tiny).astype(np.float32)
    gained = replace(params, scale=magnitude, zero_point=zero.astype(np.int32).copy(), axis=0)
    return gained.dequantize(np.clip(integers, params.qmin, params.qmax)), gained


def _affine(graph: Graph, node: Node, channels: int) -> tuple[Array, Array] | None:
    """Gain and offset per channel, float64 ``(C,)``, of what is one; None for anything else."""
    if node.op == "BatchNormalization" and all(name in graph.constants for name in node.inputs[1:5]):
        return norm_affine(node, graph.constants)
    if node.op not in ("Add", "Div", "Mul", "Sub") or len(node.inputs) != 2:
        return None
    given = [graph.constants.get(name) for name in node.inputs]
    value = given[1] if given[0] is None else given[0] if given[1] is None and node.op in ("Add", "Mul") else None
    if value is None or (1,) * (4 - value.ndim) + value.shape not in ((1, channels, 1, 1), (1, 1, 1, 1)):
        return None
    value = np.broadcast_to(value.astype(np.float64).reshape(-1), channels)
    if node.op in ("Mul", "Div"):
        return (value if node.op == "Mul" else 1 / value), np.zeros(channels)
    return np.ones(channels), value if node.op == "Add" else -value
