"""Writes one subgraph as a .tflite flatbuffer (schema version 3, file identifier ``TFL3``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgec.targets.tflite.graph import Array, Quantization

__all__ = ["FULLY_CONNECTED_OF_ROWS", "TRANSPOSE_CONV_ACTIVATED", "B", "FlatbufferWriter", "schema"]

B = schema.BuiltinOperator

# The lowest operator version that takes int8, per-channel scales, dilation or half-pixel centres (TFLite's
# op_version.cc); every runtime since 2.5 has them, and tflite-runtime 2.14 refuses some of the higher ones.
VERSIONS = {
    B.CONV_2D: 3, B.DEPTHWISE_CONV_2D: 3, B.FULLY_CONNECTED: 4, B.ADD: 2, B.MUL: 2, B.MEAN: 2, B.PAD: 2, B.PADV2: 2,
    B.AVERAGE_POOL_2D: 2, B.MAX_POOL_2D: 2, B.CONCATENATION: 2, B.SOFTMAX: 2, B.LOGISTIC: 2, B.RELU: 2, B.RELU6: 2,
    B.RESIZE_BILINEAR: 3, B.RESIZE_NEAREST_NEIGHBOR: 3, B.TRANSPOSE: 2, B.ARG_MAX: 2,
    B.LEAKY_RELU: 2, B.TANH: 2, B.GELU: 2, B.MAXIMUM: 2, B.MINIMUM: 2, B.STRIDED_SLICE: 2, B.L2_NORMALIZATION: 2,
    B.TRANSPOSE_CONV: 3, B.BATCH_MATMUL: 2, B.SLICE: 2, B.QUANTIZE: 2, B.DEQUANTIZE: 2,
}  # fmt: skip
VERSIONS_OF_INT16 = {
    B.CONV_2D: 4, B.DEPTHWISE_CONV_2D: 5, B.FULLY_CONNECTED: 7, B.ADD: 3, B.SUB: 5, B.MUL: 4, B.MEAN: 3, B.PAD: 3,
    B.PADV2: 3, B.AVERAGE_POOL_2D: 3, B.MAX_POOL_2D: 3, B.CONCATENATION: 3, B.SOFTMAX: 3, B.LOGISTIC: 3, B.TANH: 3,
    B.RELU: 3, B.RELU6: 3, B.TRANSPOSE: 3, B.SLICE: 4, B.STRIDED_SLICE: 4, B.MAXIMUM: 4, B.MINIMUM: 4,
}  # fmt: skip
FULLY_CONNECTED_OF_ROWS = 5  # or with a scale for each output
TRANSPOSE_CONV_ACTIVATED = 4
TENSOR_TYPES = {
    "float32": schema.TensorType.FLOAT32, "float16": schema.TensorType.FLOAT16, "int8": schema.TensorType.INT8,
    "uint8": schema.TensorType.UINT8, "int16": schema.TensorType.INT16,
    "int32": schema.TensorType.INT32, "int64": schema.TensorType.INT64,
}  # fmt: skip
ALIGNMENT = 16


class _AlignedBuffer(schema.BufferT):  # type: ignore[misc]
    """Data on 16-byte boundaries: the schema's ``force_align: 16``, which its generated Python code leaves out."""

    def Pack(self, builder: Any) -> Any:
        vector = None
        if self.data is not None:
            raw = memoryview(self.data.reshape(-1)).cast("B")
            builder.StartVector(1, len(raw), ALIGNMENT)
            builder.head -= len(raw)
            builder.Bytes[builder.head : builder.head + len(raw)] = raw
            vector = builder.EndVector()
        schema.BufferStart(builder)
        if vector is not None:
            schema.BufferAddData(builder, vector)
        return schema.BufferEnd(builder)


class FlatbufferWriter:
    """Collects tensors and operators; equal calls give equal bytes."""

    def __init__(self, constants: str = "float32", slim: bool = False) -> None:
        """An empty file.

        Args:
            constants: what float ones are stored as, ``float32`` or ``float16``.
            slim: name inputs and outputs alone, have equal constants once, and leave the signature out.
        """
        self._halves, self._slim = constants == "float16", slim
        self._buffers = [_AlignedBuffer()]  # buffer 0 is empty by definition
        self._tensors: list[Any] = []
        self._operators: list[Any] = []
        self._codes: dict[tuple[int, int], int] = {}
        self._names: set[str] = set()
        self._constants: dict[Any, int] = {}

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str,
        quantization: Quantization | None = None,
        axis: int = 0,
        data: Array | None = None,
    ) -> int:
        """Add a tensor in the file's own layout and return its index.

        Args:
            name: made unique where it is taken.
            axis: the stored axis of a per-channel scale.
            data: of a constant. Where float ones are stored as float16 the index is that of a DEQUANTIZE's output.
        """
        if self._halves and data is not None and data.dtype == np.float32 and _fits_half(data):
            half = self.tensor(f"{name}/float16", shape, "float16", data=data.astype(np.float16))
            wide = self.tensor(name, shape, "float32")
            self.operator(B.DEQUANTIZE, [half], [wide], schema.DequantizeOptionsT())
            return wide
        alike = (tuple(shape), dtype, quantization, axis, data.tobytes()) if self._slim and data is not None else None
        if alike in self._constants:
            return self._constants[alike]
        while name in self._names:
            name += "_"
        self._names.add(name)
        buffer = 0
        if data is not None:
            buffer = len(self._buffers)
            self._buffers.append(_AlignedBuffer(np.ascontiguousarray(data)))
        self._tensors.append(
            schema.TensorT(
                shape=np.asarray(shape, np.int32),
                type=TENSOR_TYPES[dtype],
                buffer=buffer,
                name=name,
                quantization=_parameters(quantization, axis) if quantization else None,
                hasRank=True,
            )
        )
        index = len(self._tensors) - 1
        if alike is not None:
            self._constants[alike] = index
        return index

    def operator(
        self, code: int, inputs: Sequence[int], outputs: Sequence[int], options: Any = None, version: int | None = None
    ) -> None:
        """Add an operator; ``options`` is an object of the schema's ``*OptionsT``."""
        is_wide = any(self._tensors[index].type == schema.TensorType.INT16 for index in inputs)
        least = version or VERSIONS.get(code, 1)
        key = (code, max(least, VERSIONS_OF_INT16.get(code, 1)) if is_wide else least)
        kind = type(options).__name__[:-1] if options is not None else "NONE"
        self._operators.append(
            schema.OperatorT(
                opcodeIndex=self._codes.setdefault(key, len(self._codes)),
                inputs=np.asarray(inputs, np.int32),
                outputs=np.asarray(outputs, np.int32),
                builtinOptionsType=getattr(schema.BuiltinOptions, kind),
                builtinOptions=options,
            )
        )

    def finish(self, inputs: Mapping[str, int], outputs: Mapping[str, int], metadata: Mapping[str, bytes]) -> bytes:
        """The file: one subgraph, its signature ``serving_default`` and named metadata buffers."""
        graph = schema.SubGraphT(
            tensors=self._tensors,
            inputs=np.asarray(list(inputs.values()), np.int32),
            outputs=np.asarray(list(outputs.values()), np.int32),
            operators=self._operators,
            name="main",
        )
        if self._slim:
            self._slimmed({*inputs.values(), *outputs.values()})
        entries = [self._metadata(name, value) for name, value in metadata.items()]
        model = schema.ModelT(
            version=3,
            operatorCodes=[_code(code, version) for code, version in self._codes],
            subgraphs=[graph],
            description=None if self._slim else "edgec",
            buffers=self._buffers,
            metadata=entries,
            signatureDefs=[] if self._slim else [_signature(inputs, outputs)],
        )
        sizes = sum(96 + (0 if b.data is None else b.data.nbytes) for b in self._buffers)
        builder = flatbuffers.Builder((1 << 16) + sizes + 600 * len(self._tensors) + 300 * len(self._operators))
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _slimmed(self, public: Set[int]) -> None:
        """Nothing of the file is computed with what goes here."""
        kept: dict[bytes, int] = {}
        buffers = self._buffers[:1]
        for index, tensor in enumerate(self._tensors):
            if index not in public:
                tensor.name = None
            if tensor.buffer:
                data = self._buffers[tensor.buffer]
                place = kept.setdefault(data.data.tobytes(), len(buffers))
                buffers += [data] if place == len(buffers) else []
                tensor.buffer = place
        self._buffers = buffers

    def _metadata(self, name: str, value: bytes) -> Any:
        self._buffers.append(_AlignedBuffer(np.frombuffer(value, np.uint8)))
        return schema.MetadataT(name=name, buffer=len(self._buffers) - 1)


def _fits_half(data: Array) -> bool:
    """Nothing becomes infinite. One value alone is a parameter of its operator."""
    return data.size > 1 and float(np.abs(data).max()) <= float(np.finfo(np.float16).max)


def _parameters(quantization: Quantization, axis: int) -> Any:
    scale = np.asarray(quantization.scale, np.float32)
    return schema.QuantizationParametersT(
        scale=scale,
        zeroPoint=np.full(scale.size, quantization.zero_point, np.int64),
        quantizedDimension=axis if scale.size > 1 else 0,
    )


def _code(code: int, version: int) -> Any:
    return schema.OperatorCodeT(builtinCode=code, deprecatedBuiltinCode=min(code, 127), version=version)


def _signature(inputs: Mapping[str, int], outputs: Mapping[str, int]) -> Any:
    return schema.SignatureDefT(
        signatureKey="serving_default",
        subgraphIndex=0,
        inputs=[schema.TensorMapT(name=name, tensorIndex=index) for name, index in inputs.items()],
        outputs=[schema.TensorMapT(name=name, tensorIndex=index) for name, index in outputs.items()],
    )
