"""Chooses the scale of each channel in every stream so that activations and weights lose the least together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

import numpy as np

from edgec.pipeline.forms.scheme import Scheme
from edgec.pipeline.network.graph import Graph, Node
from edgec.pipeline.quantize.affine import Array
from edgec.pipeline.quantize.channels import least_noise_range, rounding_noise
from edgec.pipeline.quantize.executor import on_each_core
from edgec.pipeline.quantize.plan import (
    Network,
    integer_nodes,
    is_depthwise,
    is_gate,
    layer_output,
    num_steps,
    quantized_tensors,
    weight_params,
)
from edgec.pipeline.quantize.rescaling import remove_unused_rescaling
from edgec.pipeline.quantize.streams import Stream, columns, find_streams, is_channel_gain, rescale

EXPONENTS = (0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Of the migration between activations and weights, as in SmoothQuant (Xiao et al. 2023, arXiv:2211.10438)."""

BOUNDS = (8.0, 32.0, 128.0)
"""Largest factor between two channels: what is scaled up in the activation shrinks in the weight."""

WORTH_ITS_COST = 0.5
"""Share of the noise that a rescaling may leave which the runtime has to pay for: with a Mul of its own, or with a gate
of a split hard-swish that multiplies each channel where it would only add 3."""

NEGATIVE_WEIGHTS = (1.0, 2.0, 4.0)
"""Of the negative end against the positive one. In front of hard-swish every channel reaches to -3, however little it
reaches up: equal ends would spend half of the integers on the negative side."""

TAILS = np.log(4.0)
"""Ranges of channels are compared as they will be among four times as many images."""

MOST_GAIN = 36.0
"""Of noise power through a split hard-swish, whose product is up to six times its input."""


def equalize(network: Network, scheme: Scheme) -> Network:
    """Scale every stream by the candidate with the least expected noise. The float function does not change."""
    return scaled_by(network, scheme, stream_factors(network, scheme))


def stream_factors(network: Network, scheme: Scheme) -> dict[str, Array]:
    """For each tensor that is to be scaled, the factors of its stream, ``(C,)``.

    A channel's factor is ``range ** -exponent``, bounded; the range is relative to the widest channel of its tensor
    and the largest over the tensors of the stream. Exponent 1 makes all ranges equal (cross-layer equalization seen
    from the activations); smaller ones leave more to the activations and spare the weights behind.
    """
    stored = stored_tensors(network, scheme)
    halves = _halves(network.graph, scheme)
    found = dict[str, Array]()
    for stream in find_streams(network.graph, frozenset(scheme.equalize)):
        if stored.isdisjoint(stream.tensors) or not halves.isdisjoint(stream.tensors):
            continue
        paths = noise_paths(network, stream)
        candidates = candidate_factors(network, stream, stored)
        noise = partial(expected_noise, network, scheme, stream, stored, paths)
        noises = on_each_core(noise, candidates)
        best = int(np.argmin(noises))
        if noises[best] < (WORTH_ITS_COST if _costs_time(network, stream) else 1.0) * noises[0]:
            network = rescale(network, stream, candidates[best])
            found |= dict.fromkeys(stream.tensors, candidates[best])
    return found


def stored_tensors(network: Network, scheme: Scheme) -> frozenset[str]:
    """Activations that will be integers. A Mul by 1 that waits for a factor makes nothing float."""
    integer, _ = integer_nodes(remove_unused_rescaling(network.graph), scheme, {})
    return frozenset(quantized_tensors(network.graph, scheme, integer)) & network.seen.keys()


def _halves(graph: Graph, scheme: Scheme) -> set[str]:
    """What Muls behind depthwise layers write that have to be whole: with one, such a layer would give floats."""
    if not scheme.whole_depthwise:
        return set()
    gains = [node for node in graph.nodes if is_channel_gain(graph, node)]
    ends = {graph.end(node, ("Relu", "Clip")) for node in graph.nodes if is_depthwise(graph, node)}
    return {node.output for node in gains if node.inputs[0] in ends}


def scaled_by(network: Network, scheme: Scheme, factors: Mapping[str, Array]) -> Network:
    """The network with the factors of ``stream_factors``, which the same function in other operators may have given."""
    for stream in find_streams(network.graph, frozenset(scheme.equalize)):
        if stream.tensors[0] in factors:
            network = rescale(network, stream, factors[stream.tensors[0]])
    return network


def _costs_time(network: Network, stream: Stream) -> bool:
    inserted = any(is_channel_gain(network.graph, node) for node in stream.producers)
    return inserted or any(is_gate(network.graph, node) for node in stream.consumers)


def candidate_factors(network: Network, stream: Stream, stored: Iterable[str]) -> list[Array]:
    """Factors to choose from, each ``(C,)`` and no two alike; the first leaves the stream as it is."""
    seen = [network.seen[name] for name in stream.tensors if name in stored]
    factors = [np.ones(stream.num_channels)]
    for weight in NEGATIVE_WEIGHTS:
        ends = [channels.reach(TAILS) for channels in seen]
        reaches = [np.maximum(-low * weight, high) for low, high in ends]
        reach = np.max([channels / max(channels.max(), 1e-30) for channels in reaches], axis=0)
        reach = np.maximum(reach, 1.0 / max(BOUNDS)).astype(np.float64)
        factors += [np.minimum(reach**-exponent, bound) for exponent in EXPONENTS for bound in BOUNDS]
    return list({each.tobytes(): each for each in factors}.values())


def noise_paths(network: Network, stream: Stream) -> dict[str, dict[str, Array]]:
    """For each tensor, how much of the noise power of each tensor upstream in the stream arrives there, per channel.

    Through Add all of it; through a gate, a pooling or a hard-swish as much as of the signal's own power.
    """
    graph, seen = network.graph, network.seen
    members = set(stream.tensors)
    paths: dict[str, dict[str, Array]] = {}
    for node in graph.nodes:
        if node.output not in members:
            continue
        arriving = {node.output: np.ones(stream.num_channels)}
        for source in node.inputs:
            for origin, share in paths.get(source, {}).items():
                gain = np.ones(1)
                if node.op != "Add" and node.output in seen and source in seen:
                    ratio = seen[node.output].power / np.maximum(seen[source].power, 1e-12)
                    gain = np.minimum(ratio, MOST_GAIN)
                arriving[origin] = arriving.get(origin, np.zeros(stream.num_channels)) + share * gain
        paths[node.output] = arriving
    return paths


def expected_noise(
    network: Network,
    scheme: Scheme,
    stream: Stream,
    stored: frozenset[str],
    paths: Mapping[str, Mapping[str, Array]],
    factors: Array,
) -> float:
    """Noise-to-signal ratio at the outputs of the stream's consumers if the channels are scaled by ``factors``.

    An activation's noise is uniform, the square of the step over 12 (Widrow and Kollar 2008), with the step of its
    widest channel. A weight's error is known; it meets the variance of its input, as its mean goes into the bias.
    """
    graph = network.graph
    noise = {}
    for name in stored.intersection(stream.tensors):
        channels = network.seen[name].scaled(factors)
        low, high = least_noise_range([channels], num_steps(scheme), scheme.activation_symmetric)
        rounding = rounding_noise(low, high, num_steps(scheme), scheme.activation_symmetric)
        noise[name] = rounding + channels.clipping(low, high)
    total = 0.0
    for node in stream.consumers:
        source, target = node.inputs[0], layer_output(graph, scheme, node)
        if source not in network.seen or target not in network.seen or node.op == "Mul":
            continue
        weight = graph.constants[node.inputs[1]].astype(np.float64)
        scaled = weight / columns(node, factors, weight.shape)
        arriving = sum((noise[name] * share for name, share in paths[source].items() if name in noise), np.zeros(1))
        arriving = arriving * np.ones(stream.num_channels)
        from_activations = float((scaled**2 * columns(node, arriving, weight.shape)).sum())
        error = scaled - rounded(scaled, node, scheme)
        variance = network.seen[source].variance * factors**2
        from_weights = float((error**2 * columns(node, variance, weight.shape)).sum())
        total += (from_activations + from_weights) / max(float(network.seen[target].power.sum()), 1e-30)
    return total


def rounded(weight: Array, node: Node, scheme: Scheme) -> Array:
    """The weight on its integer grid."""
    params = weight_params(weight, node, scheme)
    return params.dequantize(params.quantize(weight))
