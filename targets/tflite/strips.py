"""Feature maps strip by strip: what is large is never whole in memory, and every value is computed as before.

A run of operators that look at neighbouring rows alone is computed for some rows of its result at a time; each strip
reads the rows that its windows reach, so that strips overlap in front of every window, and a CONCATENATION joins them.
Source: Lin et al., MCUNetV2, https://arxiv.org/abs/2110.15352, section 3, there with squares in place of strips.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from edgec.pipeline.network.models.padding import same_pads
from edgec.targets.tflite.graph import Graph, Node, Tensor
from edgec.targets.tflite.window import Window, window_of

ROWWISE = frozenset(
    {"Add", "Clip", "HardSigmoid", "HardSwish", "LeakyRelu", "Lookup", "Mul", "PRelu", "QuantizeLinear", "Relu"}
    | {"Sigmoid", "Sub", "Tanh"}
)
WINDOWS = frozenset({"AveragePool", "Conv", "MaxPool"})


@dataclass(frozen=True)
class Run:
    """Nodes ``first`` to ``last`` of a graph, of whose results only the last one's is read behind them.

    Attributes:
        strips: how many.
    """

    first: int
    last: int
    strips: int


def can_strip(graph: Graph, node: Node) -> bool:
    """Each row of the node's result depends on some rows of its inputs alone."""
    tensors = [graph.tensors[name] for name in (*node.inputs, node.output) if name]
    maps, constants = ([one for one in tensors if (one.data is None) is computed] for computed in (True, False))
    if any(len(one.shape) != 4 or one.shape[0] != 1 or not one.channels_last for one in maps) or maps[-1].shape[2] < 2:
        return False
    if node.op in WINDOWS:
        return len(maps) == 2 and maps[0].shape[2] > 1 and _has_rows(node, window_of(graph, node))
    return node.op in ROWWISE and all(len(one.shape) < 2 or one.shape[-2] == 1 for one in constants)


def _has_rows(node: Node, window: Window) -> bool:
    """Every window sees a row of the map, and nothing depends on how far it reaches over the edge."""
    reach = (window.kernel[0] - 1) * window.dilations[0] + 1
    counts_inside = node.op == "AveragePool" and any(window.pads)
    return max(window.pads[0], window.pads[2]) < reach and not node.attributes.get("ceil_mode") and not counts_inside


def in_strips(graph: Graph, run: Run) -> Graph:
    """The graph with a run of its nodes in strips."""
    inner = graph.nodes[run.first : run.last + 1]
    joined = inner[-1].output
    height = graph.tensors[joined].shape[2]
    nodes, tensors, parts = list[Node](), dict[str, Tensor](), list[str]()
    for place in range(run.strips):
        rows = range(place * height // run.strips, (place + 1) * height // run.strips)
        strip = _Strip(graph, f"{run.first}.{place}", {joined: rows})
        parts.append(strip.make(inner, joined, rows))
        nodes += strip.nodes
        tensors |= strip.tensors
    nodes.append(Node("Concat", joined, tuple(parts), joined, {"axis": 2}))
    return graph.with_nodes([*graph.nodes[: run.first], *nodes, *graph.nodes[run.last + 1 :]], tensors)


@dataclass
class _Strip:
    """One strip on its way from the run's end to its beginning.

    Attributes:
        name: of no other strip.
        needed: rows of each map that nodes behind it read; once its own node was asked, those that it computes.
    """

    graph: Graph
    name: str
    needed: dict[str, range]
    nodes: list[Node] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def make(self, inner: tuple[Node, ...], joined: str, rows: range) -> str:
        """Write the strip's nodes; the tensor that holds ``rows`` of the run's result."""
        reads = [self._reads(node) for node in reversed(inner)][::-1]
        made = {node.output for node in inner}
        for node, (read, pads) in zip(inner, reads, strict=True):
            inputs = tuple(self._rows_of(name, read, name in made) for name in node.inputs)
            attributes = dict(node.attributes)
            if pads is not None:
                attributes |= {"pads": list(pads), "auto_pad": "NOTSET"}
            output = self._tensor(node.output, self.needed[node.output])
            self.nodes.append(replace(node, name=output, inputs=inputs, output=output, attributes=attributes))
        return self._rows_of(joined, rows, True)

    def _reads(self, node: Node) -> tuple[range, tuple[int, int, int, int] | None]:
        """Rows that a node reads, and its padding where it has windows; what it computes and needs is noted."""
        rows, pads = self.needed[node.output], None
        if node.op in WINDOWS:
            window, height = window_of(self.graph, node), self.graph.tensors[node.inputs[0]].shape[2]
            width = self.graph.tensors[node.inputs[0]].shape[3]
            found = _same_rows(window, rows, height, width)
            self.needed[node.output], rows, pads = found or (rows, *_exact_rows(window, rows, height))
        for name in node.inputs:
            if self._is_map(name):
                self.needed[name] = _hull(rows, self.needed.get(name, rows))
        return rows, pads

    def _rows_of(self, name: str, rows: range, is_inner: bool) -> str:
        """The tensor with these rows of a map; everything else as it is."""
        if not self._is_map(name):
            return name
        there = self.needed[name] if is_inner else range(self.graph.tensors[name].shape[2])
        source = self._tensor(name, there) if is_inner else name
        if there == rows:
            return source
        taken = self._tensor(name, rows)
        if all(node.output != taken for node in self.nodes):
            begin = [0, 0, rows.start - there.start, 0]
            self.nodes.append(Node("Slice", taken, (source,), taken, {"begin": begin, "steps": [1] * 4}))
        return taken

    def _is_map(self, name: str) -> bool:
        return bool(name) and not self.graph.is_constant(name) and self.graph.tensors[name].shape[2] > 1

    def _tensor(self, name: str, rows: range) -> str:
        tensor = self.graph.tensors[name]
        n, channels, _, width = tensor.shape
        strip = replace(
            tensor, name=f"{name}/{self.name}/{rows.start}-{rows.stop}", shape=(n, channels, len(rows), width)
        )
        return self.tensors.setdefault(strip.name, strip).name


def _exact_rows(window: Window, rows: range, height: int) -> tuple[range, tuple[int, int, int, int]]:
    """Rows of the input, ``height`` in all, that windows of ``rows`` reach, and what is beyond its edges."""
    start = rows.start * window.strides[0] - window.pads[0]
    stop = (rows.stop - 1) * window.strides[0] - window.pads[0] + (window.kernel[0] - 1) * window.dilations[0] + 1
    top, bottom = max(-start, 0), max(stop - height, 0)
    return range(start + top, stop - bottom), (top, window.pads[1], bottom, window.pads[3])


def _same_rows(
    window: Window, rows: range, height: int, width: int
) -> tuple[range, range, tuple[int, int, int, int]] | None:
    """As few rows to read as let SAME compute ``rows``; computed, read, padding. None where no number does.

    SAME pads at the strip's inner edges too. The rows that see this are computed beside ``rows`` and read by nobody.
    """
    exact, (top, left, bottom, right) = _exact_rows(window, rows, height)
    if not any((top, left, bottom, right)) or (left, right) != _same(window, width, 1):
        return None
    for start, stop in _around(exact, window.kernel[0] * window.dilations[0] + window.strides[0], height):
        above, below = _same(window, stop - start, 0)
        first, beside = divmod(start - above + window.pads[0], window.strides[0])
        computed = range(first, first - (start - stop) // window.strides[0])
        if beside == 0 and 0 <= first <= rows.start and rows.stop <= computed.stop:
            return computed, range(start, stop), (above, left, below, right)
    return None


def _same(window: Window, size: int, axis: int) -> tuple[int, int]:
    return same_pads(size, window.kernel[axis], window.strides[axis], window.dilations[axis])


def _around(rows: range, most: int, height: int) -> Iterator[tuple[int, int]]:
    """Starts and stops of ranges that hold ``rows``, short ones first."""
    for extra in range(most + 1):
        for above in range(extra + 1):
            start, stop = rows.start - above, rows.stop + extra - above
            if start >= 0 and stop <= height:
                yield start, stop


def _hull(one: range, other: range) -> range:
    return range(min(one.start, other.start), max(one.stop, other.stop))
