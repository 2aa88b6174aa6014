"""Which tensors are integers and with what parameters: a pure function of graph, statistics and scheme."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgec.pipeline.forms.scheme import Scheme
from edgec.pipeline.network.graph import LINEAR, Graph, Node
from edgec.pipeline.network.scalar_functions import ScalarFunction, scalar_functions
from edgec.pipeline.quantize.affine import (
    Array,
    QuantParams,
    asymmetric_params,
    integer_range,
    same_grid,
    symmetric_params,
)
from edgec.pipeline.quantize.channels import Channels, least_noise_range


@dataclass(frozen=True, eq=False)
class Network:
    """A float graph together with what its activations look like: rewrites change both."""

    graph: Graph
    seen: Mapping[str, Channels]


@dataclass(frozen=True, eq=False)
class Plan:
    """The quantization of one graph.

    Attributes:
        activations: parameters by tensor.
        weights: parameters by constant, the int8 constants of elementwise operators included.
        floats: why a node stays in float, by node name.
    """

    activations: Mapping[str, QuantParams]
    weights: Mapping[str, QuantParams]
    floats: Mapping[str, str]


NOTHING = Plan({}, {}, {})

SAFE_PAIR = 126
"""Steps of two weights of one sign together: each may round up by one, and 255 * 128 fits into 16 bits."""

INT8_MAX = 127


def is_linear(graph: Graph, node: Node) -> bool:
    """A multiplication with a constant weight."""
    return node.op in LINEAR and len(node.inputs) > 1 and node.inputs[1] in graph.constants


def is_depthwise(graph: Graph, node: Node) -> bool:
    """One input channel per group: each output channel reads exactly one input channel."""
    return node.op == "Conv" and is_linear(graph, node) and _fan_in(graph, node) == 1 != _group(node)


def is_gate(graph: Graph, node: Node) -> bool:
    """The ``x + 3`` of a split hard-swish: a depthwise 1x1 convolution that a clip to ``[0, 6]`` follows."""
    if not is_depthwise(graph, node) or graph.constants[node.inputs[1]].shape[2:] != (1, 1):
        return False
    reader = graph.only_consumer(node.output)
    if reader is None or reader.op != "Clip" or len(reader.inputs) != 3:
        return False
    return [float(graph.constants[name]) for name in reader.inputs[1:] if name in graph.constants] == [0.0, 6.0]


def num_channels(graph: Graph, node: Node) -> int:
    """The smaller of a linear node's input and output channels."""
    if is_depthwise(graph, node):
        return _group(node)
    return int(min(graph.constants[node.inputs[1]].shape[:2]))


def _fan_in(graph: Graph, node: Node) -> int:
    return int(graph.constants[node.inputs[1]].shape[1])


def _group(node: Node) -> int:
    return int(node.attributes.get("group", 1))


def channel_axis(node: Node) -> int:
    """The axis of output channels in a linear node's weight."""
    if node.op == "Conv":
        return 0
    if node.op == "Gemm":
        return 0 if node.attributes.get("transB") else 1
    return 1


def float_class(graph: Graph, node: Node) -> str:
    """The name that ``Scheme.float_classes`` has for a node; empty for most."""
    if is_depthwise(graph, node):
        return "depthwise"
    vector = node.op == "Conv" and graph.shapes.get(node.inputs[0], ())[2:] == (1, 1)
    return "pointwise" if vector else ""


def integer_nodes(graph: Graph, scheme: Scheme, excluded: Mapping[str, str]) -> tuple[set[str], dict[str, str]]:
    """Names of the nodes that compute on integers, and the reason for each of the others."""
    integer, floats = set[str](), dict[str, str]()
    tabled = {node.name for function in looked_up(graph, scheme) for node in function.nodes}
    for node in graph.nodes:
        if node.name in excluded:
            floats[node.name] = excluded[node.name]
        elif node.name in tabled:
            integer.add(node.name)
        elif node.op not in scheme.integer_operators:
            floats[node.name] = f"{node.op} computes in float under the scheme '{scheme.name}'"
        elif node.op in LINEAR and not is_linear(graph, node) and not (node.op == "MatMul" and scheme.quantize_output):
            floats[node.name] = "the weight is not a constant"
        elif is_linear(graph, node) and num_channels(graph, node) < scheme.min_channels:
            floats[node.name] = f"fewer than {scheme.min_channels} channels are no faster in integers"
        elif float_class(graph, node) in scheme.float_classes:
            floats[node.name] = f"{float_class(graph, node)} layers compute in float under the scheme '{scheme.name}'"
        elif node.op in ("Add", "Mul") and not scheme.quantize_output and len(graph.data_inputs(node)) < 2:
            floats[node.name] = "an elementwise operation with a constant fuses in float"
        else:
            integer.add(node.name)
    if scheme.whole_depthwise:
        _leave_halves_in_float(graph, scheme, integer, floats)
    return integer, floats


def _leave_halves_in_float(graph: Graph, scheme: Scheme, integer: set[str], floats: dict[str, str]) -> None:
    """Take depthwise convolutions that would give floats out of ``integer``: last first, since one may read another."""
    for node in reversed(graph.nodes):
        if node.name in integer and is_depthwise(graph, node):
            written = graph.end(node, {"Relu", "Clip"}.intersection(scheme.fused_activations))
            readers = graph.consumers.get(written, ())
            if written in graph.outputs or not readers or any(reader.name not in integer for reader in readers):
                integer.remove(node.name)
                floats[node.name] = f"a depthwise layer that gives floats takes floats under the scheme '{scheme.name}'"


def looked_up(graph: Graph, scheme: Scheme) -> list[ScalarFunction]:
    """The functions of single values that stand in tables."""
    if not scheme.tables:
        return []
    return scalar_functions(graph, lambda node: node.op in scheme.integer_operators)


def fused_tensors(graph: Graph, scheme: Scheme) -> set[str]:
    """Tensors that do not exist at run time: between a linear operator or Add and the activation or Add it absorbs.

    Nor do those inside a function that is looked up.
    """
    fused = {name for function in looked_up(graph, scheme) for name in function.interior}
    for node in graph.nodes:
        reader = graph.only_consumer(node.output)
        if node.op in (*LINEAR, "Add") and reader is not None and reader.op in scheme.fused_activations:
            fused.add(node.output)
        if scheme.fused_residual and node.op == "Add":
            fused.update(_summands_in_place(graph, node))
    return fused


def _before_its_end(graph: Graph, scheme: Scheme) -> set[str]:
    """What a linear operator writes for the Relu or Clip that it absorbs."""
    ends = {"Relu", "Clip"}.intersection(scheme.fused_activations)
    linear = (node.output for node in graph.nodes if node.op in LINEAR)
    return {name for name in linear if (reader := graph.only_consumer(name)) is not None and reader.op in ends}


def _summands_in_place(graph: Graph, add: Node) -> list[str]:
    """The summand that its convolution adds to the other one while it computes: the last that only ``add`` reads."""
    producers = [graph.producer[name] for name in graph.data_inputs(add) if name in graph.producer]
    alone = [node.output for node in producers if node.op == "Conv" and graph.only_consumer(node.output) is add]
    return alone[-1:]


def quantized_tensors(graph: Graph, scheme: Scheme, integer: set[str]) -> list[str]:
    """Activations that are stored as integers, in topological order."""
    fused = fused_tensors(graph, scheme)
    wanted: set[str] = set()
    for node in graph.nodes:
        absorbed = node.op in scheme.fused_activations and node.inputs[0] in fused
        if node.name in integer and not absorbed:
            wanted.update(graph.data_inputs(node))
        if scheme.quantize_output and node.name in integer:
            wanted.update(node.outputs if node.op == "Split" else node.outputs[:1])
    order = [*graph.inputs, *(name for node in graph.nodes for name in node.outputs)]
    return [name for name in order if name in wanted and name not in fused]


def make_plan(
    network: Network, scheme: Scheme, excluded: Mapping[str, str] | None = None, given: Plan = NOTHING
) -> Plan:
    """Choose every parameter that is not given. Ranges of channels are joined where one scale serves them all.

    Args:
        excluded: nodes to keep in float and why.
        given: parameters that the scheme allows: taken where the runtime prescribes none and kernels bear them. Where
            floats lie between integers, a tensor that the scheme would leave in float is stored as well, but none
            between a layer and the Relu or Clip that ends it: its own Q would part them.
    """
    graph, seen = network.graph, network.seen
    integer, floats = integer_nodes(graph, scheme, excluded or {})
    wanted = quantized_tensors(graph, scheme, integer)
    names = [name for name in wanted if name in seen or name in given.activations]
    if not scheme.quantize_output:
        inside = _before_its_end(graph, scheme)
        names += [name for name in given.activations if name not in names and name not in inside]
    shared = same_scale_groups(graph, scheme, integer, names)
    activations: dict[str, QuantParams] = {}
    for name in names:
        settled = fixed_params(graph, scheme, name)
        if settled is None:
            settled = _given_params(scheme, [given.activations.get(member) for member in shared[name]])
        if settled is None and len(shared[name]) == 1:
            settled = kept_step(graph, scheme, name, activations)
        members = [seen[member] for member in shared[name] if member in seen]
        activations[name] = settled or activation_params(graph, scheme, name, members, integer)
    weights = {
        node.inputs[1]: weight_params(graph.constants[node.inputs[1]], node, scheme)
        for node in graph.nodes
        if node.name in integer and is_linear(graph, node) and node.inputs[0] in activations
    }
    weights |= _elementwise_constants(graph, scheme, integer)
    weights |= {name: given.weights[name] for name in weights if name in given.weights}
    return bounded(graph, scheme, Plan(activations, weights, floats), given.weights)


def _given_params(scheme: Scheme, members: Sequence[QuantParams | None]) -> QuantParams | None:
    """Of tensors that share their parameters: what all that were given say, or the range that holds each of theirs."""
    told = [params for params in members if params is not None]
    if not told or all(same_grid(params, told[0]) for params in told):
        return told[0] if told else None
    low = min(float(params.lowest.min()) for params in told)
    high = max(float(params.highest.max()) for params in told)
    return range_params(low, high, scheme)


def range_params(low: Array | float, high: Array | float, scheme: Scheme, axis: int | None = None) -> QuantParams:
    """The scheme's parameters of one range, or of one for each channel."""
    if scheme.activation_symmetric:
        return symmetric_params(np.maximum(-low, high), scheme.activation_dtype, axis)
    return asymmetric_params(low, high, scheme.activation_dtype, axis)


def activation_params(
    graph: Graph, scheme: Scheme, name: str, members: Sequence[Channels], integer: set[str]
) -> QuantParams:
    """Parameters of one activation; per channel where only depthwise convolutions read it and the scheme allows it.

    Not behind a Concat: OpenVINO moves the ranges to the operands, and does not cut them into their channels.
    """
    readers = graph.consumers.get(name, ())
    alone = all(is_depthwise(graph, node) and node.name in integer for node in readers) and bool(readers)
    per_channel = scheme.per_channel_depthwise_input and alone and not _behind_concat(graph, name)
    low, high = least_noise_range(members, num_steps(scheme), scheme.activation_symmetric, per_channel)
    if per_channel:
        low, high = _alive(low, high)
    return range_params(low, high, scheme, 1 if per_channel else None)


def num_steps(scheme: Scheme) -> int:
    """Of an activation: 255 in 8 bits."""
    lowest, highest = integer_range(scheme.activation_dtype)
    return highest - lowest


def _behind_concat(graph: Graph, name: str) -> bool:
    """A Concat made it, or what no convolution has mixed since."""
    made = graph.producer.get(name)
    while made is not None and made.op != "Concat" and not is_linear(graph, made):
        data = graph.data_inputs(made)
        made = graph.producer.get(data[0]) if len(data) == 1 else None
    return made is not None and made.op == "Concat"


def _alive(low: Array, high: Array) -> tuple[Array, Array]:
    """Widen channels that were never active to 1/256 of the widest one: unseen inputs may wake them."""
    reach = np.maximum(-low, high)
    return low, high + np.maximum(reach.max(initial=0.0) / 256 - reach, 0.0)


def weight_params(weight: Array, node: Node, scheme: Scheme) -> QuantParams:
    """Symmetric parameters from the largest magnitude, per output channel or per tensor."""
    axis = channel_axis(node) if scheme.weight_granularity == "per_channel" else None
    if node.op == "ConvTranspose" and _group(node) > 1:
        axis = None
    others = tuple(i for i in range(weight.ndim) if i != axis)
    bound = np.abs(weight).max(axis=others if axis is not None else None, initial=0.0)
    if scheme.needs_safe_pairs:
        bound = np.maximum(bound, pair_reach(weight, node, axis is not None))
    return symmetric_params(bound, "int8", axis, scheme.weight_narrow_range, scheme.reduce_range)


def pair_reach(weight: Array, node: Node, per_channel: bool) -> Array:
    """Least range of a layer's weight with which no sum of two neighbouring products leaves 16 bits.

    x86 without VNNI adds neighbouring products in int16 (``vnni.py``): those of input channels 2i and 2i + 1 of a
    group, or, where a kernel unrolls the window first, of what then are neighbours. Only where both weights have one
    sign can they leave it: 255 times 128 steps fit. Depthwise kernels add no pairs.

    Returns:
        ``(O,)``, or a scalar.
    """
    if node.op == "MatMul" and weight.ndim != 2:
        return np.zeros(())
    rows = input_channels_last(weight, node)
    if rows.shape[-1] == 1 and len(rows) == _group(node) > 1:
        return np.zeros(())
    sums = [_pair_sums(rows).reshape(len(rows), -1), _pair_sums(rows.reshape(len(rows), -1))]
    reach = np.maximum(*(each.max(axis=1, initial=0.0) for each in sums))
    return np.asarray((reach if per_channel else reach.max(initial=0.0)) * (INT8_MAX / SAFE_PAIR))


def _pair_sums(rows: Array) -> Array:
    """Of neighbours along the last axis, 2i and 2i + 1: their magnitudes together where they have one sign, else 0."""
    even, odd = rows[..., 0:-1:2], rows[..., 1::2]
    sums: Array = np.abs(even + odd) * (even * odd > 0)
    return sums


def input_channels_last(weight: Array, node: Node) -> Array:
    """The weight as ``(O, ..., I)``: output channels of all groups in front, input channels of a group behind."""
    if node.op == "ConvTranspose":
        groups = _group(node)
        apart = weight.reshape(groups, len(weight) // groups, *weight.shape[1:])
        return np.moveaxis(apart, 1, -1).reshape(groups * weight.shape[1], *weight.shape[2:], -1)
    return np.moveaxis(weight, 1 - channel_axis(node), -1)


def same_scale_groups(graph: Graph, scheme: Scheme, integer: set[str], names: list[str]) -> dict[str, list[str]]:
    """For each tensor, the tensors that share its parameters, itself included."""
    group = {name: [name] for name in names}
    for node in graph.nodes:
        if node.op not in scheme.same_scale_operators or node.name not in integer:
            continue
        tied = [name for name in (*graph.data_inputs(node), *node.outputs) if name in group]
        merged = list(dict.fromkeys(member for name in tied for member in group[name]))
        for member in merged:
            group[member] = merged
    return group


def fixed_params(graph: Graph, scheme: Scheme, name: str) -> QuantParams | None:
    """What the runtime prescribes for a tensor; None where it leaves it free."""
    producer = graph.producer.get(name)
    for operator, scale, zero_point in scheme.fixed_output:
        if producer is not None and producer.op == operator:
            qmin, qmax = integer_range(scheme.activation_dtype)
            return QuantParams(
                np.array(scale, np.float32), np.array(zero_point, np.int32), qmin, qmax, scheme.activation_dtype
            )
    return None


def kept_step(graph: Graph, scheme: Scheme, name: str, planned: Mapping[str, QuantParams]) -> QuantParams | None:
    """A Relu of a stored tensor picks from its integers: at the same step nothing is rounded.

    XNNPACK rounds the ratio of two steps to 1/256 when it requantizes; 1 is exact.
    """
    producer = graph.producer.get(name)
    if producer is None or producer.op != "Relu" or not scheme.quantize_output or scheme.activation_symmetric:
        return None
    source = planned.get(producer.inputs[0])
    return None if source is None else replace(source, zero_point=np.full_like(source.zero_point, source.qmin))


def _elementwise_constants(graph: Graph, scheme: Scheme, integer: set[str]) -> dict[str, QuantParams]:
    """Constants of integer Add, Mul and Sub: symmetric, per tensor, so that a single value is exact."""
    tabled = {node.name for function in looked_up(graph, scheme) for node in function.nodes}
    return {
        name: symmetric_params(np.abs(graph.constants[name]).max(), "int8", narrow=True)
        for node in graph.nodes
        if node.op in ("Add", "Mul", "PRelu", "Sub") and node.name in integer and node.name not in tabled
        for name in node.inputs
        if name in graph.constants
    }


def bounded(graph: Graph, scheme: Scheme, plan: Plan, given: Collection[str] = ()) -> Plan:
    """Keep int32 biases, requantization factors and, where the scheme asks for it, pairs of products within what
    kernels take.

    A dead weight channel has a tiny scale: its bias, in steps of input_scale * weight_scale, would leave 32 bits. A
    dead output tensor has a tiny scale too: XNNPACK refuses input_scale * weight_scale / output_scale >= 256.

    Args:
        given: weights whose pairs stay as the network brought them along.
    """
    weights, activations = dict(plan.weights), dict(plan.activations)
    for node in graph.nodes:
        if not is_linear(graph, node) or node.inputs[1] not in weights:
            continue
        params, source = weights[node.inputs[1]], activations[node.inputs[0]]
        if len(node.inputs) > 2 and node.inputs[2]:
            bias = np.abs(graph.constants[node.inputs[2]]).astype(np.float64)
            factor = source.scale.astype(np.float64)
            needed = bias / (2.0**30 * (np.repeat(factor, bias.size // factor.size) if factor.ndim else factor))
            needed = needed if params.axis is not None else needed.max()
            params = replace(params, scale=np.maximum(params.scale, needed).astype(np.float32))
        if scheme.needs_safe_pairs and node.inputs[1] not in given:
            needed = pair_reach(graph.constants[node.inputs[1]], node, params.axis is not None) / INT8_MAX
            params = replace(params, scale=np.maximum(params.scale, needed).astype(np.float32))
        weights[node.inputs[1]] = params
        target = layer_output(graph, scheme, node)
        if scheme.max_requantization and target in activations:
            least = float(source.scale.max() * params.scale.max()) / (0.9 * scheme.max_requantization)
            stored = activations[target]
            if float(stored.scale.max()) < least:
                activations[target] = replace(stored, scale=np.full_like(stored.scale, least))
    return Plan(activations, weights, plan.floats)


def layer_output(graph: Graph, scheme: Scheme, node: Node) -> str:
    """The tensor in which a linear node's result is stored: its own output, or that of the activation it absorbs."""
    reader = graph.only_consumer(node.output)
    return reader.output if reader is not None and reader.op in scheme.fused_activations else node.output
