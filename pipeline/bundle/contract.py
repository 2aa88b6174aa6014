"""What an artifact expects and answers, read from the artifact itself: tensors and operators."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from xml.etree import ElementTree

from edgec.pipeline.core.errors import EdgecError

if TYPE_CHECKING:
    import onnx

Layout = Literal["NCHW", "NHWC", "NC", "other"]

ONNX_DTYPES = {1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64"}  # TensorProto.DataType
IR_DTYPES = {"fp32": "float32", "u8": "uint8", "i8": "int8", "i32": "int32", "i64": "int64"}


@dataclass(frozen=True)
class TensorContract:
    """One input or output of an artifact, for one inference.

    Attributes:
        shape: in the artifact's own layout; a symbolic batch counts as 1.
        scale: real value of one step; None for a float tensor. A float32 value, so its decimal text is exact.
        zero_point: the integer that stands for 0.0; None for a float tensor.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    layout: Layout
    scale: float | None = None
    zero_point: int | None = None

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def spatial(self) -> tuple[int, int, int]:
        """(height, width, channels) of an image tensor."""
        height, width, channels = self.shape[1:] if self.layout == "NHWC" else (*self.shape[2:], self.shape[1])
        return height, width, channels


@dataclass(frozen=True)
class Contract:
    """Inputs and outputs in the artifact's order, and how often each kind of operator occurs."""

    inputs: tuple[TensorContract, ...]
    outputs: tuple[TensorContract, ...]
    operators: dict[str, int]


def read_contract(artifact: Path) -> Contract:
    """Read ``artifact`` by its format; an engine is described by the ONNX file that it is built from.

    Raises:
        EdgecError: ``bad-tflite``, ``corrupt-artifact-file``.
    """
    inside = [artifact / name for name in ("model.xml", "model.onnx") if (artifact / name).is_file()]
    file = inside[0] if inside else artifact
    if file.suffix == ".tflite":
        return _tflite(file)
    return _ir(file) if file.suffix == ".xml" else _onnx(file)


def layout_of(shape: tuple[int, ...], channels_last: bool) -> Layout:
    """The name of a layout; only images and vectors have one."""
    if len(shape) == 4:
        return "NHWC" if channels_last else "NCHW"
    return "NC" if len(shape) == 2 else "other"


def _tflite(path: Path) -> Contract:
    from edgec.targets.tflite.flatbuffer import FileTensor, read_tflite

    file = read_tflite(path.read_bytes())

    def tensor(found: FileTensor) -> TensorContract:
        scale, zero = (found.scales[0], found.zero_point) if found.scales else (None, None)
        return TensorContract(found.name, found.dtype, found.shape, layout_of(found.shape, True), scale, zero)

    inputs, outputs = ([tensor(file.tensors[i]) for i in indices] for indices in (file.inputs, file.outputs))
    return Contract(tuple(inputs), tuple(outputs), _counts(operator.kind for operator in file.operators))


def _onnx(path: Path) -> Contract:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        graph = onnx.load(path).graph
    except DecodeError as error:
        raise _damaged(path, str(error)) from error
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [_onnx_tensor(value) for value in graph.input if value.name not in constants]
    outputs = [_onnx_tensor(value) for value in graph.output]
    return Contract(tuple(inputs), tuple(outputs), _counts(node.op_type for node in graph.node))


def _onnx_tensor(value: onnx.ValueInfoProto) -> TensorContract:
    kind = value.type.tensor_type
    shape = tuple(max(side.dim_value, 1) for side in kind.shape.dim)
    return TensorContract(value.name, ONNX_DTYPES.get(kind.elem_type, "other"), shape, layout_of(shape, False))


def _ir(path: Path) -> Contract:
    try:
        layers = ElementTree.parse(path).getroot().findall("./layers/layer")
        inputs = [_ir_tensor(layer, "./output/port") for layer in layers if layer.get("type") == "Parameter"]
        outputs = [_ir_tensor(layer, "./input/port") for layer in layers if layer.get("type") == "Result"]
    except (ElementTree.ParseError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    inner = (layer.get("type", "") for layer in layers)
    return Contract(
        tuple(inputs), tuple(outputs), _counts(kind for kind in inner if kind not in ("Parameter", "Result", "Const"))
    )


def _ir_tensor(layer: ElementTree.Element, port_path: str) -> TensorContract:
    port = layer.find(port_path)
    if port is None:
        raise ValueError(f"layer '{layer.get('name')}' has no port")
    shape = tuple(max(int(side.text or 0), 1) for side in port.iterfind("dim"))
    names = (layer.get("name", "").partition("/sink_port")[0]).split(",")
    dtype = IR_DTYPES.get(port.get("precision", "").lower(), "other")
    return TensorContract(names[0], dtype, shape, layout_of(shape, False))


def _counts(kinds: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(kinds).items()))


def _damaged(path: Path, why: str) -> EdgecError:
    return EdgecError("corrupt-artifact-file", f"'{path}' cannot be read: {why}", "get a fresh copy of the bundle")
