"""Reads a .tflite file of anyone's: operators, tensors, metadata, multiply-accumulates.

Offsets of a damaged or hostile file point anywhere. The generated readers then fail in many ways; all of them are one
refusal here. What they read is bounded by what the file can hold.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from math import prod
from typing import Any

import numpy as np

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.network.cost import macs

INSTALL = "pip install 'edgec[arm]'"
METADATA_NAME = "edgec"
MODEL_ORDER = "outputs_in_model_order"  # in the metadata: outputs of rank 4, by place, that are not stored as NHWC


@dataclass(frozen=True)
class FileTensor:
    """A tensor as the file states it.

    Attributes:
        shape: stored layout, NHWC.
        dtype: lower-case name, ``int8``.
        scales: one value, one for each channel, or none.
        zero_point: of the first channel.
        constant_bytes: size of its data; 0 where it is computed.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scales: tuple[float, ...]
    zero_point: int
    constant_bytes: int


@dataclass(frozen=True)
class FileOperator:
    """An operator with the indices of its tensors; an absent optional input is -1.

    Attributes:
        dilation: vertical and horizontal, of a DEPTHWISE_CONV_2D; 1 elsewhere.
    """

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    macs: int
    dilation: tuple[int, int] = (1, 1)


@dataclass(frozen=True)
class TfliteFile:
    """The first subgraph of a file.

    Attributes:
        metadata: named buffers, as text where it is text, otherwise as the number of bytes.
    """

    tensors: tuple[FileTensor, ...]
    operators: tuple[FileOperator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    metadata: dict[str, str]

    @property
    def outputs_in_model_order(self) -> frozenset[int]:
        """Places of outputs of rank 4 that a file of edgec's says to be stored as the model orders them."""
        places = description(self.metadata).get(MODEL_ORDER, [])
        with _damage_refused():
            return frozenset(int(place) for place in places)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference: convolutions and fully connected layers."""
        return sum(operator.macs for operator in self.operators)

    @property
    def inner_conversions(self) -> int:
        """QUANTIZE and DEQUANTIZE between computed tensors: those at the border of the graph are not counted.

        In a file of edgec's each one stands for a Relu, or for a tensor that the model quantizes twice.
        """
        border = {*self.inputs, *self.outputs}
        kinds = ("QUANTIZE", "DEQUANTIZE")
        return sum(op.kind in kinds and not border & {*op.inputs, *op.outputs} for op in self.operators)


def read_tflite(content: bytes) -> TfliteFile:
    """Parse a file.

    Raises:
        EdgecError: ``corrupt-tflite``.
    """
    with _damage_refused():
        model = _model(content)
        graph = model.Subgraphs(0)
        _refuse_overlap(graph, len(content))
        tensors = tuple(_tensor(model, graph.Tensors(i), i) for i in range(graph.TensorsLength()))
        operators = tuple(_operator(model, graph.Operators(i), tensors) for i in range(graph.OperatorsLength()))
        inputs, outputs = _numbers(graph.InputsAsNumpy()), _numbers(graph.OutputsAsNumpy())
        for operator in operators:
            _check_indices((*operator.inputs, *operator.outputs), len(tensors), absent=-1)
        _check_indices((*inputs, *outputs), len(tensors), absent=0)
        return TfliteFile(tensors, operators, inputs, outputs, _metadata(model))


def read_metadata(content: bytes) -> dict[str, str]:
    """The named metadata buffers alone.

    Raises:
        EdgecError: ``corrupt-tflite``.
    """
    with _damage_refused():
        return _metadata(_model(content))


def description(metadata: dict[str, str]) -> dict[str, Any]:
    """What a file of edgec's says about itself; empty for anyone else's.

    Raises:
        EdgecError: ``corrupt-tflite``.
    """
    with _damage_refused():
        content = json.loads(metadata.get(METADATA_NAME) or "{}")
        if not isinstance(content, dict):
            raise ValueError(f"its metadata '{METADATA_NAME}' is no JSON object")
        return content


@contextmanager
def _damage_refused() -> Iterator[None]:
    """What the generated readers and numpy raise over offsets, lengths, types and names that are none."""
    try:
        yield
    except (
        struct.error,
        ArithmeticError,
        AttributeError,
        LookupError,
        MemoryError,
        TypeError,
        ValueError,
    ) as error:
        raise EdgecError("corrupt-tflite", f"the file is damaged: {error}", "check that it is whole") from error


def _refuse_overlap(graph: Any, num_bytes: int) -> None:
    """Vectors that share their bytes let a small file state endless lists; those of an honest file have their own."""
    num_values = 4 * (graph.TensorsLength() + graph.OperatorsLength())
    for i in range(graph.TensorsLength()):
        tensor = graph.Tensors(i)
        parameters = tensor.Quantization()
        num_values += tensor.ShapeLength() + (parameters.ScaleLength() if parameters is not None else 0)
        _refuse_more(num_values, num_bytes)
    for i in range(graph.OperatorsLength()):
        num_values += graph.Operators(i).InputsLength() + graph.Operators(i).OutputsLength()
        _refuse_more(num_values, num_bytes)


def _refuse_more(num_values: int, num_bytes: int) -> None:
    if num_values > num_bytes:
        raise ValueError(f"it states {num_values:,} values in {num_bytes:,} bytes")


def _check_indices(indices: tuple[int, ...], num_tensors: int, absent: int) -> None:
    if any(not absent <= index < num_tensors for index in indices):
        raise ValueError(f"it names a tensor that is not among its {num_tensors}")


def require_schema() -> None:
    """TFLite's schema, without which no file is read or written, comes with LiteRT.

    Raises:
        EdgecError: ``missing-runtime``.
    """
    if find_spec("ai_edge_litert") is None:
        raise EdgecError("missing-runtime", "TFLite files need ai-edge-litert, which is not installed", INSTALL)


def _model(content: bytes) -> Any:
    require_schema()
    from ai_edge_litert import schema_py_generated as schema

    if content[4:8] != b"TFL3":
        raise EdgecError("corrupt-tflite", "no TFL3 identifier: not a .tflite file", "check the file")
    model = schema.Model.GetRootAs(content, 0)
    if model.SubgraphsLength() < 1 or model.Subgraphs(0).OutputsLength() < 1:
        raise EdgecError("corrupt-tflite", "the file has no graph with outputs", "check the file")
    for i in range(model.BuffersLength()):
        model.Buffers(i).DataAsNumpy()
    return model


def _tensor(model: Any, tensor: Any, index: int) -> FileTensor:
    from ai_edge_litert import schema_py_generated as schema

    names = {value: name.lower() for name, value in vars(schema.TensorType).items() if isinstance(value, int)}
    parameters = tensor.Quantization()
    scales = () if parameters is None or parameters.ScaleLength() == 0 else tuple(parameters.ScaleAsNumpy().tolist())
    points = parameters.ZeroPointAsNumpy() if scales and parameters.ZeroPointLength() else [0]
    return FileTensor(
        (tensor.Name() or f"#{index}".encode()).decode(),
        _numbers(tensor.ShapeAsNumpy()),
        names[tensor.Type()],
        scales,
        int(points[0]),
        model.Buffers(tensor.Buffer()).DataLength(),
    )


def _operator(model: Any, operator: Any, tensors: tuple[FileTensor, ...]) -> FileOperator:
    from ai_edge_litert import schema_py_generated as schema

    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    code = model.OperatorCodes(operator.OpcodeIndex())
    kind = names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
    inputs, outputs = _numbers(operator.InputsAsNumpy()), _numbers(operator.OutputsAsNumpy())
    counted = _macs(kind, [tensors[i] for i in inputs], tensors[outputs[0]])
    return FileOperator(kind, inputs, outputs, counted, _dilation(kind, operator))


def _dilation(kind: str, operator: Any) -> tuple[int, int]:
    from ai_edge_litert import schema_py_generated as schema

    stated = operator.BuiltinOptions() if kind == "DEPTHWISE_CONV_2D" else None
    if stated is None:
        return 1, 1
    options = schema.DepthwiseConv2DOptions()
    options.Init(stated.Bytes, stated.Pos)
    return options.DilationHFactor(), options.DilationWFactor()


def _macs(kind: str, inputs: list[FileTensor], output: FileTensor) -> int:
    """Pixels stand between batch and channels; a TRANSPOSE_CONV reads its output's shape first and the image last."""
    if kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "CONV_3D"):
        return macs(inputs[1].shape, output.shape[:-1])
    if kind == "TRANSPOSE_CONV":
        return macs(inputs[1].shape, inputs[2].shape[:-1])
    if kind == "FULLY_CONNECTED":
        return macs(inputs[1].shape, (prod(inputs[0].shape) // inputs[1].shape[-1],))
    return macs(inputs[1].shape[-2:], output.shape[:-1]) if kind == "BATCH_MATMUL" else 0


def _metadata(model: Any) -> dict[str, str]:
    entries = {}
    for i in range(model.MetadataLength()):
        entry = model.Metadata(i)
        data = model.Buffers(entry.Buffer()).DataAsNumpy()
        raw = data.tobytes() if isinstance(data, np.ndarray) else b""
        text = raw.rstrip(b"\0")
        entries[entry.Name().decode()] = _text(text) or f"{len(raw)} bytes"
    return entries


def _text(raw: bytes) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return ""
    return text if text.isprintable() else ""


def _numbers(array: Any) -> tuple[int, ...]:
    return tuple(int(v) for v in array) if isinstance(array, np.ndarray) else ()
