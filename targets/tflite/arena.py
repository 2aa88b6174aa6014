"""A smaller arena for the same answers: fewer padded copies, and runs of operators in strips, where they gain enough.

TFLite Micro keeps every tensor from the operator that writes it to the last that reads it, so that the arena is what
the worst operator needs, and behind the tensors, to the end, what kernels keep for themselves. Each run in strips
takes away the worst operator for more multiplications, in rows that strips share, and more operators.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from edgec.pipeline.network.models.padding import same_pads
from edgec.targets.tflite.flatbuffer import FileOperator, FileTensor, TfliteFile
from edgec.targets.tflite.graph import Graph, Node, Tensor
from edgec.targets.tflite.live import memory_steps, planned_bytes
from edgec.targets.tflite.options import TfliteOptions
from edgec.targets.tflite.padding import padding_code
from edgec.targets.tflite.strips import WINDOWS, Run, can_strip, in_strips
from edgec.targets.tflite.window import window_of

MAX_MORE_MACS = 0.10
"""Of the network's multiplications, what wider windows and all strips together may add."""
MIN_GAIN = 0.10
"""Of the arena: below, the graph stays whole."""
STEP = 0.02
"""How finely arenas are tried, and what fewer multiplications may cost of the smallest one."""
MAX_STRIPS = 10  # TFLite Micro joins as many tensors at a time
MAX_RUN = 24  # nodes: where maps are large, a network has not come further
LARGE = 5  # times smaller than the worst node: no run is looked for there
OPERATOR_BYTES, CHANNEL_BYTES = 200, 8
"""What TFLite Micro keeps of an operator, about, and of a convolution's channel: factor and shift, 32 bits each."""
LAYERS = ("Conv", "ConvTranspose", "Gemm")


@dataclass(frozen=True)
class Cost:
    """Of a graph.

    Attributes:
        arena_bytes: what TFLite Micro should take, about.
        macs: of convolutions.
    """

    arena_bytes: int
    macs: int


@dataclass(frozen=True)
class _Priced:
    """A run, what tensors take while it runs, and how many multiplications it adds."""

    run: Run
    live_bytes: int
    more_macs: int


def smaller_arena(graph: Graph, options: TfliteOptions) -> Graph:
    """The graph with wider windows in place of padded copies, and in strips, where either saves ``MIN_GAIN``."""
    wide = widened(graph, options)
    most_macs = round((1 + MAX_MORE_MACS) * cost(graph, options).macs)
    for other in (wide, _least(wide, options, most_macs)):
        price = cost(other, options)
        if price.arena_bytes <= (1 - MIN_GAIN) * cost(graph, options).arena_bytes and price.macs <= most_macs:
            graph = other
    return graph


def widened(graph: Graph, options: TfliteOptions) -> Graph:
    """Depthwise windows that pad unlike SAME get rows and columns of zeros behind their weights until SAME pads so.

    PyTorch's 3x3 windows at stride 2 pad the top and the left; of 4x4 SAME pads so too, and no PAD copies the map.
    """
    if options.padding != "same":
        return graph
    nodes, tensors = list[Node](), dict[str, Tensor]()
    for node in graph.nodes:
        more = _more_weights(graph, node) if _padded(graph, node, options) else None
        if more is not None:
            weights = graph.tensors[node.inputs[1]]
            data = np.pad(weights.values, ((0, 0), (0, 0), (0, more[0]), (0, more[1])))
            wider = replace(weights, name=f"{weights.name}/{node.output}", shape=data.shape, data=data)
            tensors[wider.name] = wider
            attributes = {**node.attributes, "kernel_shape": data.shape[2:], "auto_pad": "SAME_UPPER"}
            node = replace(node, inputs=(node.inputs[0], wider.name, *node.inputs[2:]), attributes=attributes)
        nodes.append(node)
    return graph.with_nodes(nodes, tensors)


def _more_weights(graph: Graph, node: Node) -> tuple[int, int] | None:
    """Rows and columns of zeros that make SAME of a depthwise window's padding."""
    if node.op != "Conv" or graph.tensors[node.inputs[1]].shape[1] > 1 or not graph.is_constant(node.inputs[1]):
        return None
    window = window_of(graph, node)
    source, output = (graph.tensors[name].shape[2:] for name in (node.inputs[0], node.output))
    found = []
    for axis in (0, 1):
        for more in range(window.kernel[axis]):
            stride, kernel = window.strides[axis], window.kernel[axis] + more
            before, _ = same_pads(source[axis], kernel, stride, window.dilations[axis])
            if before == window.pads[axis] and -(-source[axis] // stride) == output[axis]:
                found.append(more)
                break
    return (found[0], found[1]) if len(found) == 2 else None


def cost(graph: Graph, options: TfliteOptions) -> Cost:
    """Reckoned from the graph alone, before anything is lowered."""
    channels = sum(graph.tensors[node.inputs[1]].shape[0] for node in graph.nodes if node.op in LAYERS)
    kept = OPERATOR_BYTES * len(graph.nodes) + CHANNEL_BYTES * channels
    return Cost(planned_bytes(_outline(graph, options)) + kept, sum(_macs(graph, node) for node in graph.nodes))


def _macs(graph: Graph, node: Node) -> int:
    if node.op not in LAYERS:
        return 0
    shape = graph.tensors[node.inputs[0] if node.op == "ConvTranspose" else node.output].shape
    return prod(graph.tensors[node.inputs[1]].shape) * prod(shape[1:-1] if node.op == "Gemm" else shape[2:])


def _least(graph: Graph, options: TfliteOptions, most_macs: int) -> Graph:
    """Lower what tensors may take step by step, as long as runs in strips keep it; of near ones the cheapest."""
    live, runs = _live(graph, options), tuple(_runs(graph, options, most_macs))
    found, most_bytes = [(cost(graph, options), graph)], float(max(live, default=0))
    while most_bytes and (chosen := _cheapest(live, runs, most_bytes)) is not None:
        stripped = graph
        for priced in reversed(chosen):
            stripped = in_strips(stripped, priced.run)
        if (price := cost(stripped, options)).macs > most_macs:
            break
        found.append((price, stripped))
        most_bytes *= 1 - STEP
    least = min(price.arena_bytes for price, _ in found)
    near = [place for place, (price, _) in enumerate(found) if price.arena_bytes * (1 - STEP) <= least]
    return found[min(near, key=lambda place: found[place][0].macs)][1]


def _cheapest(live: Sequence[int], runs: Sequence[_Priced], most_bytes: float) -> tuple[_Priced, ...] | None:
    """Runs beside each other, with the fewest multiplications, that leave no node above ``most_bytes``; None without.

    The shortest way from the first node to the last: over a node as it is, or over a run.
    """
    ways: list[tuple[int, tuple[_Priced, ...]] | None] = [(0, ())]
    for node, live_bytes in enumerate(live):
        before = ways[node] if live_bytes <= most_bytes else None
        steps = [before] if before else []
        for priced in runs:
            way = ways[priced.run.first] if priced.run.last == node and priced.live_bytes <= most_bytes else None
            if way:
                steps.append((way[0] + priced.more_macs, (*way[1], priced)))
        ways.append(min(steps, key=lambda step: step[0], default=None))
    return ways[-1][1] if ways[-1] else None


def _runs(graph: Graph, options: TfliteOptions, most_macs: int) -> Iterator[_Priced]:
    """Runs that begin where maps grow and end where they shrink, with up to ``MAX_STRIPS`` strips.

    None without a node that takes more than those that no strips change, and than a share of the worst.
    """
    live, size = _live(graph, options), {one.name: _bytes(one) for one in graph.activations()}
    can, macs = [can_strip(graph, node) for node in graph.nodes], cost(graph, options).macs
    least = max((one for one, may in zip(live, can, strict=True) if not may), default=0)
    least = max(least, max(live, default=0) // LARGE)
    for first, start in enumerate(graph.nodes):
        if first and size[start.output] <= size[start.inputs[0]]:
            continue
        for last in range(first, min(first + MAX_RUN, len(graph.nodes))):
            end = graph.nodes[last]
            if not can[last]:
                break
            shrinks = last > first and size[end.output] < size[end.inputs[0]]
            if not shrinks or max(live[first : last + 1]) <= least or not _leaves_once(graph, first, last):
                continue
            for count in range(2, min(MAX_STRIPS, graph.tensors[end.output].shape[2]) + 1):
                stripped = in_strips(graph, run := Run(first, last, count))
                more = sum(_macs(stripped, node) for node in stripped.nodes) - macs
                if macs + more > most_macs:
                    break
                behind = len(graph.nodes) - 1 - last
                yield _Priced(run, max(_live(stripped, options)[first : len(stripped.nodes) - behind]), more)


def _bytes(tensor: Tensor) -> int:
    return prod(tensor.shape) * np.dtype(_dtype(tensor)).itemsize


def _dtype(tensor: Tensor) -> str:
    return tensor.quantization.dtype if tensor.quantization else tensor.dtype


def _leaves_once(graph: Graph, first: int, last: int) -> bool:
    """Nothing behind the run reads any of it but the last node's result."""
    inner = graph.nodes[first : last + 1]
    names = {node.output for node in inner[:-1]}
    read = {name for node in graph.nodes[last + 1 :] for name in node.inputs}
    return not names & read.union(graph.outputs.values())


def _live(graph: Graph, options: TfliteOptions) -> list[int]:
    """Bytes of all tensors that live while each node runs; of a padded node, while its worse half runs."""
    steps = memory_steps(_outline(graph, options))
    live = dict.fromkeys((node.output for node in graph.nodes), 0)
    for step in steps:
        live[step.operator] = max(live[step.operator], step.live_bytes)
    return list(live.values())


def _outline(graph: Graph, options: TfliteOptions) -> TfliteFile:
    """The computed tensors of the file to be, its operators named by their nodes' results; padded copies are apart."""
    tensors, index, operators = list[FileTensor](), dict[str, int](), list[FileOperator]()

    def place(name: str, tensor: Tensor) -> int:
        if name not in index:
            index[name] = len(tensors)
            tensors.append(FileTensor(name, tensor.shape, _dtype(tensor), (), 0, 0))
        return index[name]

    inputs = tuple(place(name, graph.tensors[name]) for name in graph.inputs)
    for node in graph.nodes:
        read = [place(name, graph.tensors[name]) for name in node.inputs if name and not graph.is_constant(name)]
        if (padded := _padded(graph, node, options)) is not None:
            copy = place(f"{node.output}/padded", padded)
            operators.append(FileOperator(node.output, (read[0],), (copy,), 0))
            read = [copy]
        operators.append(FileOperator(node.output, tuple(read), (place(node.output, graph.tensors[node.output]),), 0))
    outputs = tuple(index[name] for name in graph.outputs.values())
    return TfliteFile(tuple(tensors), tuple(operators), inputs, outputs, {})


def _padded(graph: Graph, node: Node, options: TfliteOptions) -> Tensor | None:
    """The copy that a node reads whose padding is neither SAME nor VALID."""
    if node.op not in WINDOWS or padding_code(options, window_of(graph, node)) is not None:
        return None
    source, (top, left, bottom, right) = graph.tensors[node.inputs[0]], window_of(graph, node).pads
    n, channels, height, width = source.shape
    return replace(source, shape=(n, channels, height + top + bottom, width + left + right))
