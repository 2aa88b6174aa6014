"""Nodes of an ONNX file as protobuf has them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import onnx
from onnx import helper


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """By name, text as bytes."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def inner_graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Branches of an If, the body of a loop."""
    for attribute in node.attribute:
        yield from attribute.graphs
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g


def names_read(nodes: Iterable[onnx.NodeProto]) -> Iterator[str]:
    """Every tensor that a node reads, as often as it is read; inside subgraphs too, whose outputs are read."""
    for node in nodes:
        yield from node.input
        for graph in inner_graphs(node):
            yield from names_read(graph.node)
            yield from (value.name for value in graph.output)


def every_node(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes, and those of their subgraphs."""
    for node in nodes:
        yield node
        for graph in inner_graphs(node):
            yield from every_node(graph.node)
