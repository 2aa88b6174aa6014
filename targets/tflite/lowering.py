"""From the prepared graph to operators of the file: NHWC by construction, one rule for each ONNX operator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgec.targets.tflite.graph import Array, Graph, Quantization, Tensor
from edgec.targets.tflite.options import TfliteOptions
from edgec.targets.tflite.writer import B, FlatbufferWriter, schema

NHWC = (0, 2, 3, 1)
FUSED = {
    None: schema.ActivationFunctionType.NONE,
    "NONE": schema.ActivationFunctionType.NONE,
    "RELU": schema.ActivationFunctionType.RELU,
    "RELU6": schema.ActivationFunctionType.RELU6,
    "RELU_N1_TO_1": schema.ActivationFunctionType.RELU_N1_TO_1,
}


def stored_shape(tensor: Tensor) -> tuple[int, ...]:
    """The tensor's shape in the file."""
    if len(tensor.shape) == 4 and tensor.channels_last:
        return tuple(tensor.shape[axis] for axis in NHWC)
    return tensor.shape


class Lowering:
    """What the rules write through: a graph, the board's options and the file so far.

    Attributes:
        graph: prepared; rules look tensors up in it.
        options: the board's.
        writer: the file.
    """

    def __init__(self, graph: Graph, options: TfliteOptions, writer: FlatbufferWriter | None = None) -> None:
        self.graph = graph
        self.options = options
        self.writer = writer or FlatbufferWriter(options.constants, options.is_linked)
        self._index: dict[str, int] = {}
        self._public = {tensor: name for name, tensor in graph.outputs.items()}

    def note(self, name: str) -> Quantization | None:
        """The tensor's quantization; None in a float graph."""
        return self.graph.tensors[name].quantization

    def shape(self, name: str) -> tuple[int, ...]:
        """The tensor's ONNX shape, ``(N, C, H, W)``."""
        return self.graph.tensors[name].shape

    def activation(self, name: str) -> int:
        """Index of a computed or fed tensor; added at its first use."""
        if name not in self._index:
            tensor = self.graph.tensors[name]
            dtype = tensor.quantization.dtype if tensor.quantization else tensor.dtype
            self._index[name] = self.writer.tensor(
                self._public.get(name, name), stored_shape(tensor), dtype, tensor.quantization
            )
        return self._index[name]

    def scratch(
        self, like: str, suffix: str, shape: Sequence[int] | None = None, note: Quantization | None = None
    ) -> int:
        """A new activation beside ``like``, with its type, in the file's own layout."""
        tensor = self.graph.tensors[like]
        quantization = note or tensor.quantization
        dtype = quantization.dtype if quantization else tensor.dtype
        return self.writer.tensor(f"{like}/{suffix}", shape or stored_shape(tensor), dtype, quantization)

    def constant(self, name: str, data: Array, note: Quantization | None = None, axis: int = 0) -> int:
        """A constant in the file's own layout; a per-channel scale lies on its stored ``axis``."""
        return self.writer.tensor(name, data.shape, data.dtype.name, note, axis, data)

    def indices(self, name: str, values: Sequence[int] | Sequence[Sequence[int]]) -> int:
        """An int32 constant: axes, shapes, paddings."""
        return self.constant(name, np.asarray(values, np.int32))

    def emit(
        self, code: int, inputs: Sequence[int], output: str | int, options: Any = None, version: int | None = None
    ) -> None:
        """Write one operator with one output, a tensor's name or an index."""
        index = self.activation(output) if isinstance(output, str) else output
        self.writer.operator(code, inputs, [index], options, version)

    def run(self, rules: Mapping[str, Any], metadata: Mapping[str, bytes]) -> bytes:
        """Lower every node by its rule and write the file."""
        inputs = {name: self._enter(name) for name in self.graph.inputs}
        return self.writer.finish(inputs, self.run_nodes(rules), metadata)

    def run_nodes(self, rules: Mapping[str, Any]) -> dict[str, int]:
        """Lower every node; the outputs as they leave the file."""
        for node in self.graph.nodes:
            rules[node.op](self, node)
        return {name: self._leave(name, tensor) for name, tensor in self.graph.outputs.items()}

    def _enter(self, name: str) -> int:
        """The fed tensor: the graph's own, or a float or uint8 one in front of a QUANTIZE."""
        tensor = self.graph.tensors[name]
        if tensor.quantization is None or self.options.input_type == "int8":
            return self.activation(name)
        shape, note = stored_shape(tensor), tensor.quantization
        if self.options.input_type == "float32":
            fed = self.writer.tensor(name, shape, "float32")
        else:
            fed = self.writer.tensor(name, shape, "uint8", Quantization(note.scale, note.zero_point + 128))
        self._index[name] = self.scratch(name, note.dtype)
        self.emit(B.QUANTIZE, [fed], self._index[name], schema.QuantizeOptionsT())
        return fed

    def _leave(self, name: str, tensor: str) -> int:
        index = self.activation(tensor)
        if self.note(tensor) is None or self.options.input_type != "float32":
            return index
        given = self.writer.tensor(f"{name}/float", stored_shape(self.graph.tensors[tensor]), "float32")
        self.emit(B.DEQUANTIZE, [index], given, schema.DequantizeOptionsT())
        return given
