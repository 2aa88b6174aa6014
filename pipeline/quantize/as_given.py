"""What of a network's own parameters a scheme allows, and what became of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from edgec.pipeline.forms.scheme import Scheme
from edgec.pipeline.network.graph import LINEAR, Graph, Node
from edgec.pipeline.quantize.affine import Array, QuantParams, integer_range, same_grid
from edgec.pipeline.quantize.calibrate import Calibration
from edgec.pipeline.quantize.plan import (
    Network,
    Plan,
    channel_axis,
    fused_tensors,
    integer_nodes,
    is_depthwise,
    is_linear,
    make_plan,
    range_params,
)
from edgec.pipeline.quantize.prepare import prepare
from edgec.pipeline.quantize.ranges import observed
from edgec.pipeline.quantize.record import GivenRecord
from edgec.pipeline.quantize.take_apart import Given

FEW_BITS = 31
"""The largest integer of weights that have less than 7 bits."""


def plan_as_given(
    source: Graph, calibration: Calibration, scheme: Scheme, given: Given, floats: Mapping[str, str]
) -> tuple[Network, Plan, GivenRecord]:
    """The network and its plan with the given parameters wherever the scheme allows them.

    Nothing moves a weight or a range: no equalization, no corrected bias, no split hard-swish.

    Args:
        source: the float network that ``given`` belongs to.
        calibration: for tensors that the scheme stores and nobody gave parameters.
        floats: nodes to keep in float, by name, and why.
    """
    scheme = untouching(scheme)
    network = prepare(observed(source, calibration), scheme)
    changed = dict(given.remarks)
    activations = _activations(network.graph, scheme, given, changed)
    weights = _weights(source, network.graph, scheme, given, changed)
    fitting = Plan(activations, weights, {})
    left = {} if scheme.quantize_output else _left_in_float(source, network.graph, scheme, given)
    plan = make_plan(network, scheme, {**left, **floats}, fitting)
    return network, plan, _taken(network.graph, scheme, given, fitting, plan, changed)


def untouching(scheme: Scheme) -> Scheme:
    """The scheme where it takes a network as it is: what is quantized is not chosen for speed either."""
    native = "native" if scheme.hard_swish == "split" else scheme.hard_swish
    return replace(
        scheme,
        equalize=(),
        rescale_activations=False,
        hard_swish=native,
        min_channels=0,
        whole_depthwise=False,
    )


def _activations(graph: Graph, scheme: Scheme, given: Given, changed: dict[str, str]) -> dict[str, QuantParams]:
    known = {*graph.inputs, *graph.producer}
    found = {}
    for name, params in given.activations.items():
        if name not in known:
            changed[name] = "no tensor of this name is left in what the target computes"
            continue
        found[name], why = _fitting(graph, scheme, name, params)
        if why:
            changed[name] = why
    if scheme.quantize_output:
        fused = fused_tensors(graph, scheme)
        for name, params in tuple(found.items()):
            source = _ended(graph, name)
            if source and source not in fused:
                found.setdefault(source, params)
    return found


def _ended(graph: Graph, name: str) -> str:
    """The tensor that a Relu or Clip alone reads to make this one: on the same grid, ending it is exact."""
    made = graph.producer.get(name)
    alone = made is not None and made.op in ("Relu", "Clip") and len(graph.consumers[made.inputs[0]]) == 1
    return made.inputs[0] if made is not None and alone and made.inputs[0] not in graph.outputs else ""


def _fitting(graph: Graph, scheme: Scheme, name: str, params: QuantParams) -> tuple[QuantParams, str]:
    """An activation's parameters in the scheme's type, and why they are others than the given ones, if they are."""
    low, high = float(params.lowest.min()), float(params.highest.max())
    if params.axis is not None:
        readers = graph.consumers.get(name, ())
        alone = bool(readers) and all(is_depthwise(graph, node) for node in readers)
        if not (scheme.per_channel_depthwise_input and alone and params.axis == 1):
            return range_params(low, high, scheme), "the target takes one scale here, not one per channel"
    if params.dtype not in ("int8", "uint8"):
        return range_params(low, high, scheme), f"{params.dtype} does not fit into 8 bits: the same range in 8"
    own = _as_type(params, scheme.activation_dtype)
    if scheme.activation_symmetric and own.zero_point.any():
        return range_params(low, high, scheme), "asymmetric, the target takes int8 around 0: a range that holds it"
    return own, ""


def _as_type(params: QuantParams, dtype: str) -> QuantParams:
    """The same grid in the other 8-bit type."""
    qmin, qmax = integer_range(dtype)
    return replace(params, zero_point=params.zero_point + (qmin - params.qmin), qmin=qmin, qmax=qmax, dtype=dtype)


def _weights(
    source: Graph, graph: Graph, scheme: Scheme, given: Given, changed: dict[str, str]
) -> dict[str, QuantParams]:
    """Of the constants that rewrites made of the given ones."""
    found = {}
    for node, name, origin, own in _constants(source, graph):
        if own not in given.weights:
            continue
        moved = "a rewrite moved it: quantized anew"
        same = _same_values(source.constants[own], graph.constants[name])
        params, why = _on_grid(node, origin, scheme, given.weights[own]) if same else (None, moved)
        if params is not None:
            found[name] = _finer(params, graph.constants[name], scheme)
            why = _lost(params, graph.constants[name])
        if why:
            changed[own] = why
    return found


def _constants(source: Graph, graph: Graph) -> Iterator[tuple[Node, str, Node, str]]:
    """(node, its constant, the node that it was, the constant that it had)."""
    before = {node.name: node for node in source.nodes}
    for node in graph.nodes:
        origin = before.get(node.name)
        if origin is not None:
            pairs = zip(node.inputs, origin.inputs, strict=False)
            yield from ((node, name, origin, own) for name, own in pairs if name in graph.constants)


def _same_values(before: Array, after: Array) -> bool:
    turned = before.ndim == 2 and np.array_equal(before.T, after)
    return turned or np.array_equal(before, after)


def _on_grid(node: Node, origin: Node, scheme: Scheme, params: QuantParams) -> tuple[QuantParams | None, str]:
    """A weight's parameters where its integers can stay what they are; else None and why."""
    kind, zero = params.dtype, params.zero_point
    if (zero - (128 if kind == "uint8" else 0)).any() or kind not in ("int8", "uint8"):
        return None, f"{kind} weights with this zero_point are no int8 grid around 0: quantized anew"
    axis = None
    if params.axis is not None:
        if node.op not in LINEAR or params.axis != channel_axis(origin) or scheme.weight_granularity == "per_tensor":
            return None, "the target has no scale along this axis: quantized anew"
        axis = channel_axis(node)
    lowest = -128 if scheme.weight_lowest else -127
    return QuantParams(params.scale, np.zeros_like(zero), lowest, 127, "int8", axis), ""


def _finer(params: QuantParams, weight: Array, scheme: Scheme) -> QuantParams:
    """Weights of few bits on a grid as fine as 8 bits allow, 7 where pairs have to be safe: the same values, and a bias
    in finer steps."""
    largest = int(np.abs(params.quantize(weight).astype(np.int64)).max(initial=1))
    if largest > FEW_BITS:
        return params
    highest = integer_range("int8", narrow=True, reduced=scheme.needs_safe_pairs)[1]
    times = 1 << (highest // max(largest, 1)).bit_length() - 1
    return replace(params, scale=(params.scale / times).astype(np.float32))


def _lost(params: QuantParams, weight: Array) -> str:
    """What the target's lowest integer costs."""
    half = 0.5 * params.shaped(weight.ndim)[0]
    beyond = (np.abs(params.dequantize(params.quantize(weight)) - weight) > half).any()
    return "its values at -128 become -127, the lowest that the target takes" if beyond else ""


def _left_in_float(source: Graph, graph: Graph, scheme: Scheme, given: Given) -> dict[str, str]:
    """Nodes that the scheme would take, and that the given network computes in float."""
    integer, _ = integer_nodes(graph, scheme, {})
    fused = fused_tensors(graph, scheme)
    weighted = {
        node.name for node, *_, own in _constants(source, graph) if own in given.weights or own in given.remarks
    }
    left = {}
    for node in graph.nodes:
        if node.name not in integer:
            continue
        if any(name not in given.activations and name not in fused for name in graph.data_inputs(node)):
            left[node.name] = "the given network has no Q/DQ in front of it"
        elif is_linear(graph, node) and node.name not in weighted:
            left[node.name] = "the given network has no Q/DQ on its weight"
    return left


def _taken(
    graph: Graph, scheme: Scheme, given: Given, fitting: Plan, plan: Plan, changed: dict[str, str]
) -> GivenRecord:
    """Compare what was given with what is planned: nothing is said of a parameter but what the plan holds."""
    fused = fused_tensors(graph, scheme)
    for name, params in given.activations.items():
        if name in changed:
            continue
        if name not in plan.activations:
            inside = "inside what the target computes at once" if name in fused else "in float on the target"
            changed[name] = f"the tensor is {inside}"
        elif not same_grid(plan.activations[name], params):
            changed[name] = "the target prescribes another, or one for several tensors"
    for name, params in fitting.weights.items():
        if name in plan.weights and not np.array_equal(plan.weights[name].scale, params.scale):
            changed[name] = "its bias needs a larger step to fit into 32 bits"
    prescribed = {operator for operator, _, _ in scheme.fixed_output}
    steps = {params.scale.tobytes() for params in fitting.activations.values()}
    calibrated = tuple(
        name
        for name, params in plan.activations.items()
        if name not in given.activations and params.scale.tobytes() not in steps
        if name not in graph.producer or graph.producer[name].op not in prescribed
    )
    return GivenRecord(len(given.activations), len(given.weights), changed, calibrated)
