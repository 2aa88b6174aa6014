"""Names of a user's tensors that our passes could make themselves are changed before any pass sees them.

What a pass makes is called after what it is made of, ``NAME.word``: ``conv.1.dequantized``, ``x.scale``. A file may
hold both names already, one that edgec has quantized for instance, and two tensors of one name are no network.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx


def name_tensors_apart(model: onnx.ModelProto) -> None:
    """Rename, in place, each inner tensor whose name is another's, or a node's, and a dot behind it.

    Inputs and outputs are the user's and stay; what one of theirs begins with in that way is renamed instead.
    """
    public = {value.name for value in (*model.graph.input, *model.graph.output)}
    graphs = list(_graphs(model.graph))
    tensors = {name for graph in graphs for node in graph.node for name in (*node.input, *node.output) if name}
    tensors |= {tensor.name for graph in graphs for tensor in graph.initializer}
    nodes = {node.name for graph in graphs for node in graph.node if node.name}
    taken, renamed = tensors | nodes | public, dict[str, str]()
    before_public = {start for name in public for start in _starts(name)} & (tensors - public)
    for name in sorted(tensors - public):
        if name in before_public or not taken.isdisjoint(_starts(name)):
            apart = f"{name}_" if name in before_public else name.replace(".", "_")
            while apart in taken:
                apart += "_"
            taken.add(apart)
            renamed[name] = apart
    for graph in graphs if renamed else ():
        _rename(graph, renamed)


def _starts(name: str) -> Iterator[str]:
    """What stands before each of its dots."""
    return (name[:place] for place, letter in enumerate(name) if letter == ".")


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """It, and those inside its nodes, which read what lies around them."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.type == onnx.AttributeProto.GRAPH else []), *attribute.graphs):
                yield from _graphs(inner)


def _rename(graph: onnx.GraphProto, renamed: dict[str, str]) -> None:
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [renamed.get(name, name) for name in names]
    for value in (*graph.initializer, *graph.value_info, *graph.output):
        value.name = renamed.get(value.name, value.name)
