"""Numbers and names in a stranger's ONNX file that no network needs: refused before anything is made of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edgec.pipeline.core.errors import EdgecError

if TYPE_CHECKING:
    import onnx
    from google.protobuf.message import Message

MAX_VALUES = 1 << 27
"""Of one tensor for one image: 512 MiB in float32."""
MAX_RANK = 8
MAX_ATTRIBUTE = (1 << 31) - 1
"""Runtimes keep strides, pads and groups in 32 bits."""

MAX_NODES, MAX_NESTING = 100_000, 64
"""Of a file whose functions were put in their places, and of functions that call functions."""

_TO_THE_LAST = ("starts", "ends", "value_int", "value_ints")  # a slice's ends may be the largest number there is


def check_bounds(model: onnx.ModelProto, path: Path) -> None:
    """Look at every number that the file states, and at every shape that follows from them for one image.

    Raises:
        EdgecError: ``corrupt-onnx`` for an attribute, ``tensor-too-large``, ``bad-output``.
    """
    for node in model.graph.node:
        _check_node(node, path)
    for name, sides in _shapes(model):
        if len(sides) > MAX_RANK or math.prod(sides) > MAX_VALUES:
            text = " x ".join(map(str, sides[:MAX_RANK])) + (" x ..." if len(sides) > MAX_RANK else "")
            message = f"'{path}': the tensor '{name}' is {text}"
            hint = f"expected at most {MAX_RANK} sides and {MAX_VALUES:,} values: check scales, shapes and input size"
            raise EdgecError("tensor-too-large", message, hint)
    for value in model.graph.output:
        if value.type.tensor_type.elem_type not in _numeric():
            message = f"'{path}' has the output '{value.name}', which is no tensor of numbers"
            raise EdgecError("bad-output", message, "export it with tensors of float32 as outputs")


def check_text(model: Message, path: Path) -> None:
    """Names of nodes, operators and tensors are UTF-8: protobuf hands out other bytes as ``bytes``.

    Raises:
        EdgecError: ``corrupt-onnx``.
    """
    from google.protobuf.message import Message

    for field, value in model.ListFields():
        if field.type not in (field.TYPE_STRING, field.TYPE_MESSAGE):
            continue
        for one in (value,) if isinstance(value, str | bytes | Message) else value:
            if isinstance(one, bytes):
                message = f"'{path}': the {field.name} {one[:80]!r} of a {model.DESCRIPTOR.name} is no UTF-8"
                raise EdgecError("corrupt-onnx", message, "write it again with names in UTF-8")
            if field.type == field.TYPE_MESSAGE:
                check_text(one, path)


def check_functions(model: onnx.ModelProto, path: Path) -> None:
    """What functions that call functions come to, counted before anything puts them in their places.

    Raises:
        EdgecError: ``corrupt-onnx``.
    """
    from edgec.pipeline.network.nodes import every_node

    if not model.functions:
        return

    def key(node: onnx.NodeProto) -> tuple[str, str, str]:
        return node.domain, node.op_type, node.overload

    left = {(f.domain, f.name, f.overload): Counter(map(key, every_node(f.node))) for f in model.functions}
    sizes: dict[tuple[str, str, str], int] = {}

    def size(called: Counter[tuple[str, str, str]]) -> int:
        return sum(count * sizes.get(name, 1) for name, count in called.items())

    for _ in range(MAX_NESTING):
        ready = {name: called for name, called in left.items() if not called.keys() & left.keys()}
        sizes |= {name: size(called) for name, called in ready.items()}
        left = {name: called for name, called in left.items() if name not in ready}
    if left:
        message = f"'{path}' has the function '{next(iter(left))[1]}', which calls itself or nests too deep"
        raise EdgecError("corrupt-onnx", message, f"expected at most {MAX_NESTING} functions within each other")
    if (total := size(Counter(map(key, every_node(model.graph.node))))) > MAX_NODES:
        message = f"'{path}' has {total:,} nodes once its functions are put in their places"
        raise EdgecError("corrupt-onnx", message, f"expected at most {MAX_NODES:,}")


def _check_node(node: onnx.NodeProto, path: Path) -> None:
    for attribute in node.attribute:
        wrong = next((number for number in (attribute.i, *attribute.ints) if abs(number) > MAX_ATTRIBUTE), None)
        if wrong is not None and attribute.name not in _TO_THE_LAST:
            message = f"'{path}' has the node '{node.name}' ({node.op_type}) with {attribute.name} {wrong}"
            raise EdgecError("corrupt-onnx", message, f"expected numbers up to {MAX_ATTRIBUTE:,}")


def _numeric() -> tuple[int, ...]:
    from onnx import TensorProto

    return (
        *(TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16),
        *(TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64),
        *(TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64, TensorProto.BOOL),
    )


def _shapes(model: onnx.ModelProto) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every tensor with its sides; what is unknown, as the batch, counts 1.

    Values are not propagated: ONNX would make every number of a Range for that.
    """
    import onnx

    yield from ((tensor.name, tuple(tensor.dims)) for tensor in model.graph.initializer)
    inferred = onnx.shape_inference.infer_shapes(model).graph
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        yield value.name, tuple(max(side.dim_value, 1) for side in value.type.tensor_type.shape.dim)
