"""What a file says in a way that runtimes do not take, though it means something that they do."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import helper

from edgec.pipeline.network.models.padding import same_pads
from edgec.pipeline.network.nodes import attributes_of, names_read


def plain(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy without outputs of nodes that nobody reads, and with dilated SAME convolutions padded in numbers.

    Compilers look at a second output that is there (the indices of a MaxPool, the mask of a Dropout); ONNX Runtime
    refuses to compute SAME of a dilated convolution, as torch exports ``padding="same"``.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    read = {value.name for value in changed.graph.output} | set(names_read(changed.graph.node))
    for node in changed.graph.node:
        while len(node.output) > 1 and node.output[-1] not in read and _is_optional(node, changed):
            node.output.pop()
    dilated = [node for node in changed.graph.node if _is_dilated_same(node)]
    shapes = _shapes(changed) if dilated else {}
    for node in dilated:
        _pad_in_numbers(node, shapes)
    return changed


def _is_optional(node: onnx.NodeProto, model: onnx.ModelProto) -> bool:
    """Whether the operator may be written without its last output."""
    opset = next((entry.version for entry in model.opset_import if entry.domain == node.domain), None)
    if opset is None or not onnx.defs.has(node.op_type, opset, node.domain):
        return False
    declared = onnx.defs.get_schema(node.op_type, opset, node.domain).outputs
    place = len(node.output) - 1
    return place < len(declared) and declared[place].option == onnx.defs.OpSchema.FormalParameterOption.Optional


def _shapes(model: onnx.ModelProto) -> Mapping[str, list[int]]:
    graph = onnx.shape_inference.infer_shapes(model).graph
    values = {value.name: value.type.tensor_type.shape.dim for value in (*graph.input, *graph.value_info)}
    known = {name: [side.dim_value for side in sides] for name, sides in values.items()}
    return known | {tensor.name: list(tensor.dims) for tensor in graph.initializer}


def _is_dilated_same(node: onnx.NodeProto) -> bool:
    if node.op_type != "Conv" or node.domain not in ("", "ai.onnx"):
        return False
    given = attributes_of(node)
    return bool(given.get("auto_pad", b"").startswith(b"SAME")) and max(given.get("dilations") or [1]) > 1


def _pad_in_numbers(node: onnx.NodeProto, shapes: Mapping[str, list[int]]) -> None:
    given, (source, weight) = attributes_of(node), (shapes.get(name, []) for name in node.input[:2])
    rank = len(given["dilations"])
    kernel, strides = given.get("kernel_shape") or weight[2:], given.get("strides") or [1] * rank
    if len(source) != rank + 2 or not all(source[2:]) or not len(kernel) == len(strides) == rank:
        return
    if min(*kernel, *strides) < 1:
        return  # what runs it says so
    pairs = [same_pads(*sides) for sides in zip(source[2:], kernel, strides, given["dilations"], strict=True)]
    pairs = [pair[::-1] for pair in pairs] if given["auto_pad"] == b"SAME_LOWER" else pairs
    kept = [attribute for attribute in node.attribute if attribute.name not in ("auto_pad", "pads")]
    del node.attribute[:]
    pads = [first for first, _ in pairs] + [last for _, last in pairs]
    node.attribute.extend([*kept, helper.make_attribute("pads", pads)])
