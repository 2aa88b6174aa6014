"""What is inside a compiled file or a model: one table for .tflite, .onnx and OpenVINO .xml."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.forms.compiler import FastKernels
from edgec.pipeline.network.cost import layer_macs, macs

if TYPE_CHECKING:
    import onnx

    from edgec.targets.tflite.flatbuffer import FileOperator, TfliteFile


TFLITE_MARK = b"TFL3"  # file_identifier of TFLite's schema, behind the offset of the root table
ONNX_FIRST = b"\x08"  # field 1 of ModelProto, ir_version, as a varint: writers put it first


@dataclass(frozen=True)
class OperatorRow:
    """One operator.

    Attributes:
        shape: of its first output, in the file's own layout; empty where the file does not say.
        scale: of its first output; None where it is not quantized.
        weight_bytes: constants that it reads.
        delegated: XNNPACK runs it; None where the question does not arise.
        plain: what keeps it from a fast kernel of CMSIS-NN; empty where nothing does, None where the question does not
            arise.
    """

    kind: str
    name: str
    dtype: str
    shape: tuple[int, ...]
    scale: float | None
    zero_point: int | None
    weight_bytes: int
    macs: int
    delegated: bool | None = None
    plain: str | None = None


@dataclass(frozen=True)
class Inspection:
    """A file.

    Attributes:
        format: ``tflite``, ``onnx`` or ``openvino``.
        size_bytes: with its weights file.
        pieces: delegate pieces in XNNPACK; None outside TFLite or where it is not installed.
        macs_delegated_percent: share of the multiply-accumulates that XNNPACK takes.
        metadata: what the file says about itself.
        refusal: XNNPACK's words where the file loads only without it.
        fast_kernels: what TFLite Micro hands to CMSIS-NN on a Cortex-M; None outside TFLite.
    """

    format: str
    size_bytes: int
    operators: tuple[OperatorRow, ...]
    pieces: int | None
    macs_delegated_percent: float | None
    metadata: dict[str, str]
    refusal: str = ""
    fast_kernels: FastKernels | None = None

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        return sum(row.macs for row in self.operators)

    @property
    def counts(self) -> dict[str, int]:
        """Operators by kind, the most frequent first."""
        return dict(Counter(row.kind for row in self.operators).most_common())


def inspect_file(path: Path) -> Inspection:
    """Read a file by what it holds.

    Raises:
        EdgecError: ``no-such-file``, ``unknown-format``, ``corrupt-tflite``, ``corrupt-onnx``, ``unsafe-path``,
            ``corrupt-ir``.
    """
    if not path.is_file():
        raise EdgecError("no-such-file", f"no file '{path}'", "check the path")
    with path.open("rb") as file:
        start = file.read(16)
    if start[4:8] == TFLITE_MARK:
        return _inspect_tflite(path)
    if start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return _inspect_ir(path)
    if start[:1] == ONNX_FIRST:
        return _inspect_onnx(path)
    hint = "expected a .tflite file, an OpenVINO .xml, an ONNX model or a bundle's folder (edgec pack unpacks archives)"
    raise EdgecError("unknown-format", f"'{path}' starts with {start[:8]!r}, which no known format does", hint)


def _inspect_tflite(path: Path) -> Inspection:
    from edgec.targets.tflite.cmsis_nn import fast_kernels
    from edgec.targets.tflite.delegate import delegate_coverage
    from edgec.targets.tflite.flatbuffer import read_tflite

    content = path.read_bytes()
    file, coverage = read_tflite(content), delegate_coverage(content)
    pairs = zip(file.operators, coverage.delegated, strict=True)
    rows = tuple(_tflite_row(file, operator, taken) for operator, taken in pairs)
    return Inspection(
        "tflite",
        len(content),
        rows,
        coverage.pieces,
        coverage.macs_percent,
        file.metadata,
        coverage.refusal,
        fast_kernels(file),
    )


def _tflite_row(file: TfliteFile, operator: FileOperator, delegated: bool) -> OperatorRow:
    from edgec.targets.tflite.cmsis_nn import plain_words

    output = file.tensors[operator.outputs[0]]
    return OperatorRow(
        operator.kind,
        output.name,
        output.dtype,
        output.shape,
        output.scales[0] if output.scales else None,
        output.zero_point if output.scales else None,
        sum(file.tensors[i].constant_bytes for i in operator.inputs if i >= 0),
        operator.macs,
        delegated,
        plain_words(file, operator),
    )


def _inspect_onnx(path: Path) -> Inspection:
    import onnx

    from edgec.pipeline.network.import_onnx import named_damage, onnx_files

    onnx_files(path)
    with named_damage(path):
        model = onnx.shape_inference.infer_shapes(onnx.load(path), data_prop=True)
        rows = _onnx_rows(model)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    return Inspection("onnx", path.stat().st_size, rows, None, None, metadata)


def _onnx_rows(model: onnx.ModelProto) -> tuple[OperatorRow, ...]:
    """Q/DQ pairs are operators of the file and stand in it; an operator's scale is that of the Q behind it."""
    from onnx import TensorProto, numpy_helper

    values = [*model.graph.input, *model.graph.value_info, *model.graph.output]
    typed = {v.name: v.type.tensor_type for v in values}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    shapes = {name: tuple(dim.dim_value for dim in value.shape.dim) for name, value in typed.items()}
    shapes |= {name: tuple(tensor.dims) for name, tensor in constants.items()}
    makers = {name: node for node in model.graph.node for name in node.output}
    notes = {n.input[0]: n for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[1] in constants}
    rows = []
    for node in model.graph.node:
        output = typed.get(node.output[0])
        shape = shapes.get(node.output[0], ())
        dtype = TensorProto.DataType.Name(output.elem_type).lower() if output else "?"
        weights = [_onnx_constant(name, constants, makers) for name in node.input]
        size = sum(numpy_helper.to_array(tensor).nbytes for tensor in weights if tensor is not None)
        note = notes.get(node.output[0])
        scale = float(numpy_helper.to_array(constants[note.input[1]]).flat[0]) if note else None
        known = note is not None and len(note.input) > 2 and note.input[2] in constants
        zero = int(numpy_helper.to_array(constants[note.input[2]]).flat[0]) if known and note else None
        counted = layer_macs(node.op_type, node.input, node.output[0], shapes) or 0
        rows.append(OperatorRow(node.op_type, node.name, dtype, shape, scale, zero, size, counted))
    return tuple(rows)


def _onnx_constant(
    name: str, constants: dict[str, onnx.TensorProto], makers: dict[str, onnx.NodeProto]
) -> onnx.TensorProto | None:
    """The initializer, read directly or through a DequantizeLinear."""
    maker = makers.get(name)
    if maker is not None and maker.op_type == "DequantizeLinear":
        name = maker.input[0]
    return constants.get(name)


def _inspect_ir(path: Path) -> Inspection:
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise EdgecError("corrupt-ir", f"'{path}' is not XML: {error}", "check that it is an OpenVINO IR") from error
    layers = {layer.get("id", ""): layer for layer in root.iterfind("./layers/layer")}
    if not layers:
        raise EdgecError("corrupt-ir", f"'{path}' has no layers", "check that it is an OpenVINO IR")
    sources: dict[str, list[str]] = {}
    for edge in root.iterfind("./edges/edge"):
        sources.setdefault(edge.get("to-layer", ""), []).append(edge.get("from-layer", ""))
    rows = tuple(
        _ir_row(layer, _constant_bytes(layers, sources, key))
        for key, layer in layers.items()
        if layer.get("type") != "Const"
    )
    weights = path.with_suffix(".bin")
    size = path.stat().st_size + (weights.stat().st_size if weights.is_file() else 0)
    return Inspection("openvino", size, rows, None, None, {"name": root.get("name", "")})


def _constant_bytes(layers: dict[str, ElementTree.Element], sources: dict[str, list[str]], key: str) -> int:
    read = [layers[source].find("data") for source in sources.get(key, []) if layers[source].get("type") == "Const"]
    return sum(int(data.get("size", 0)) for data in read if data is not None)


def _ir_row(layer: ElementTree.Element, weight_bytes: int) -> OperatorRow:
    inputs, outputs = layer.findall("./input/port"), layer.findall("./output/port")
    shape = _ir_shape(outputs[0]) if outputs else ()
    dtype = outputs[0].get("precision", "?").lower() if outputs else "?"
    kind = layer.get("type", "?")
    counted = _ir_macs(kind, _ir_shape(inputs[0]), _ir_shape(inputs[1]), shape) if len(inputs) > 1 else 0
    return OperatorRow(kind, layer.get("name", ""), dtype, shape, None, None, weight_bytes, counted)


def _ir_macs(kind: str, image: tuple[int, ...], weight: tuple[int, ...], output: tuple[int, ...]) -> int:
    if kind in ("Convolution", "GroupConvolution"):
        return macs(weight, (output[0], *output[2:]))
    if kind in ("ConvolutionBackpropData", "GroupConvolutionBackpropData"):
        return macs(weight, (image[0], *image[2:]))
    return macs(weight[-2:], output[:-1]) if kind == "MatMul" else 0


def _ir_shape(port: ElementTree.Element) -> tuple[int, ...]:
    return tuple(max(int(dim.text or 0), 0) for dim in port.iterfind("dim"))
