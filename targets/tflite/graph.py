"""The small graph that the TFLite compiler works on: a float graph whose tensors carry their quantization as a note.

Shapes are ONNX shapes, ``(N, C, H, W)`` for rank 4; only the writer turns them into NHWC. Nothing here is changed in
place: a pass takes a ``Graph`` and returns another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Quantization:
    """``real = scale * (integer - zero_point)`` with integers of 8 or 16 bits (32 or 64 for a bias).

    Attributes:
        scale: one float32 value, or one for each index along ``axis``.
        zero_point: shared by all channels; 0 for weights.
        axis: the ONNX axis of a per-channel scale.
        dtype: of an activation, ``int8`` or ``int16``.
    """

    scale: tuple[float, ...]
    zero_point: int
    axis: int | None = None
    dtype: str = "int8"

    def scaled(self, factor: float) -> Quantization:
        """The same integers standing for ``factor`` times the values."""
        return replace(self, scale=tuple(float(np.float32(s * factor)) for s in self.scale))

    @property
    def low(self) -> float:
        """The real value of the lowest integer."""
        return self.scale[0] * (self.limits[0] - self.zero_point)

    @property
    def high(self) -> float:
        """The real value of the highest integer."""
        return self.scale[0] * (self.limits[1] - self.zero_point)

    @property
    def limits(self) -> tuple[int, int]:
        """The lowest and the highest integer."""
        limits = np.iinfo(self.dtype)
        return int(limits.min), int(limits.max)

    @property
    def is_wide(self) -> bool:
        """It has 16 bits: its operators are those of int16 activations, int8 weights and int64 biases."""
        return self.dtype == "int16"

    def integers(self, values: Array) -> Array:
        """Round half to even, add the zero_point, saturate; one scale."""
        rounded: Array = np.clip(np.rint(values / self.scale[0]) + self.zero_point, *self.limits).astype(self.dtype)
        return rounded


@dataclass(frozen=True, eq=False)
class Tensor:
    """A value of the graph; a constant where ``data`` is there.

    Attributes:
        shape: ONNX order, batch of one.
        quantization: None for a float (or index) tensor.
        data: int8 or int32 integers where quantized, otherwise float32 or integers as they are.
        channels_last: stored as NHWC when of rank 4; False behind a Transpose that the model itself asks for.
        dtype: ``float32``, or ``int32`` for the indices that ArgMax gives; quantized tensors have that of their note.
    """

    name: str
    shape: tuple[int, ...]
    quantization: Quantization | None = None
    data: Array | None = None
    channels_last: bool = True
    dtype: str = "float32"

    @property
    def values(self) -> Array:
        """A constant's ``data``; only for tensors that are known to be constants."""
        if self.data is None:
            raise TypeError(f"tensor '{self.name}' is computed")
        return self.data


@dataclass(frozen=True, eq=False)
class Node:
    """One operator with one output.

    Attributes:
        op: ONNX operator type.
        name: ONNX node name, or its output's where it has none.
        activation: ``RELU``, ``RELU6`` or ``RELU_N1_TO_1`` fused behind the operator.
    """

    op: str
    name: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    activation: str | None = None


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in execution order.

    Attributes:
        outputs: the public name of each output and the tensor that it is.
    """

    nodes: tuple[Node, ...]
    tensors: Mapping[str, Tensor]
    inputs: tuple[str, ...]
    outputs: Mapping[str, str]

    @cached_property
    def _readers(self) -> dict[str, list[Node]]:
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in set(node.inputs):
                found.setdefault(name, []).append(node)
        return found

    @cached_property
    def _producers(self) -> dict[str, Node]:
        return {node.output: node for node in self.nodes}

    def readers(self, name: str) -> list[Node]:
        """The nodes that read a tensor, in execution order."""
        return self._readers.get(name, [])

    def producer(self, name: str) -> Node | None:
        """The node that writes a tensor; None for inputs and constants."""
        return self._producers.get(name)

    def is_output(self, name: str) -> bool:
        """The tensor leaves the graph."""
        return name in self.outputs.values()

    def only_reader(self, name: str) -> Node | None:
        """The one node that reads a tensor which nothing else needs."""
        readers = self.readers(name)
        return readers[0] if len(readers) == 1 and not self.is_output(name) else None

    def is_constant(self, name: str) -> bool:
        """The tensor's value is known; that of an absent optional input, ``""``, is not."""
        return bool(name) and self.tensors[name].data is not None

    def activations(self) -> list[Tensor]:
        """Every tensor that is computed or fed, in execution order."""
        return [self.tensors[name] for name in (*self.inputs, *(node.output for node in self.nodes))]

    @property
    def is_quantized(self) -> bool:
        """Some activation carries a quantization."""
        return any(tensor.quantization for tensor in self.activations())

    def with_nodes(self, nodes: list[Node], tensors: Mapping[str, Tensor] | None = None) -> Graph:
        """The graph with other nodes and with ``tensors`` added or replaced."""
        return replace(self, nodes=tuple(nodes), tensors={**self.tensors, **(tensors or {})})
