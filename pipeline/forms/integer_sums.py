"""Evaluates a QDQ file with its scales behind the sums, where integer kernels have them.

``Q(conv(DQ(x), DQ(w), DQ(b)))`` as written adds float32 products of scaled values. Each instruction set adds in another
order; where a result lies in the middle between two integers they part, and a deep network makes much of little.
``Q(scale * conv(x - zero_point, w, b))`` is the same function (Jacob et al. 2018, arXiv:1712.05877, section 2.2) over
integers: float32 adds those exactly, in any order, below 2**24. One rounding is left, the requantization by one float32
factor, and it is the one that XNNPACK does (``*_minmax_fp32`` kernels).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import onnx

Array = npt.NDArray[Any]

NUM_OPERANDS = {"Conv": 2, "Gemm": 2, "Mul": 2, "GlobalAveragePool": 1}
WEIGHTED = ("Conv", "Gemm")
CLIPPING = ("Relu", "Clip", "HardSigmoid")
ONE = "edgec.one"


@dataclass(frozen=True)
class _Operand:
    """What a DequantizeLinear reads.

    Attributes:
        stored: the integer tensor.
        scale: float32, ``()``, or ``(C,)`` along ``axis``.
        values: of a constant: its integers less the zero_point, float32.
    """

    stored: str
    scale: Array
    axis: int
    zero_point: str
    values: Array | None


@dataclass(frozen=True)
class _Storage:
    """Where a sum is quantized again: at once, or behind ``clip``."""

    scale: Array
    quantize: onnx.NodeProto
    clip: onnx.NodeProto | None


def with_integer_sums(model: onnx.ModelProto) -> onnx.ModelProto:
    """Rewrite every Conv, Gemm, Mul and GlobalAveragePool of quantized operands; all else stays as written.

    Where the result is quantized again, directly or behind a Relu, Clip or HardSigmoid, its own scale joins the factor,
    and the offset of a HardSigmoid becomes an integer of the sum, as any bias is.
    """
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    rewriting = _Rewriting(copy.graph)
    nodes = [new for node in copy.graph.node for new in rewriting.rewritten(node)]
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    added = (onnx.numpy_helper.from_array(values, name) for name, values in rewriting.constants.items())
    copy.graph.initializer.extend(added)
    return copy


class _Rewriting:
    """One walk over a graph. Tensors keep their names; those between a factor and the storage change their unit.

    Attributes:
        constants: to be added to the graph.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        from onnx import numpy_helper

        self.constants: dict[str, Array] = {ONE: np.ones((), np.float32)}
        self._given = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self._producers = {name: node for node in graph.node for name in node.output}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        self._outputs = {output.name for output in graph.output}
        self._converted: set[str] = set()
        for node in graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)

    def rewritten(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """The nodes that take the node's place; the ones behind it are changed where they are."""
        operands = self._operands(node)
        if operands is None:
            return [node]
        scales, bias = [operand.scale for operand in operands], self._integer_bias(node)
        storage = self._storage(node)
        if storage is not None:
            if storage.clip is not None and storage.clip.op_type == "HardSigmoid":
                scales[1], bias = _absorbed(storage.clip, scales, bias)
            self._change_unit(storage)
        scale = reduce(np.multiply, scales)
        factor = scale if storage is None else scale / storage.scale
        conversions = [new for operand in operands for new in self._conversion(operand)]
        return [*conversions, self._sum(node, operands, bias), self._multiplication(node, factor)]

    def _sum(self, node: onnx.NodeProto, operands: list[_Operand], bias: Array | None) -> onnx.NodeProto:
        """The node itself, over integers."""
        import onnx

        total = onnx.NodeProto()
        total.CopyFrom(node)
        del total.input[:]
        total.input.extend(f"{operand.stored}.integers" for operand in operands)
        if bias is not None:
            total.input.append(self._constant(f"{node.output[0]}.bias", bias))
        total.output[0] = f"{node.output[0]}.sum"
        return total

    def _multiplication(self, node: onnx.NodeProto, factor: Array) -> onnx.NodeProto:
        """The sum times one factor, or one for each channel."""
        from onnx import helper

        shaped = factor.reshape(-1, 1, 1) if factor.ndim and node.op_type == "Conv" else factor
        name = self._constant(f"{node.output[0]}.factor", shaped)
        return helper.make_node("Mul", [f"{node.output[0]}.sum", name], node.output)

    def _operands(self, node: onnx.NodeProto) -> list[_Operand] | None:
        """The dequantized inputs, without the bias, of a node that can be rewritten."""
        names = node.input[: NUM_OPERANDS.get(node.op_type, 0)]
        operands = [operand for operand in map(self._dequantized, names) if operand is not None]
        if not operands or len(operands) < len(names) or operands[0].scale.ndim:
            return None
        if node.op_type not in WEIGHTED:
            return operands if operands[-1].scale.ndim == 0 else None
        channels = 1 if node.op_type == "Gemm" and not _attribute(node, "transB", 0) else 0
        along = operands[1].values is not None and (not operands[1].scale.ndim or operands[1].axis == channels)
        unscaled = _attribute(node, "alpha", 1.0) == 1.0 == _attribute(node, "beta", 1.0)
        return operands if along and unscaled and self._bias_fits(node, operands) else None

    def _dequantized(self, name: str) -> _Operand | None:
        node = self._producers.get(name)
        if node is None or node.op_type != "DequantizeLinear" or len(node.input) != 3:
            return None
        scale, zero_point = (self._given.get(name) for name in node.input[1:])
        if scale is None or zero_point is None or (zero_point.size > 1 and np.any(zero_point)):
            return None
        stored = self._given.get(node.input[0])
        values = None if stored is None else stored.astype(np.float32) - zero_point.ravel()[0].astype(np.float32)
        return _Operand(node.input[0], np.squeeze(scale), _attribute(node, "axis", 1), node.input[2], values)

    def _bias_fits(self, node: onnx.NodeProto, operands: list[_Operand]) -> bool:
        """No bias, or one in steps of the sum."""
        if len(node.input) < 3 or not node.input[2]:
            return True
        bias, step = self._dequantized(node.input[2]), operands[0].scale * operands[1].scale
        return bias is not None and bias.values is not None and np.allclose(bias.scale, step, rtol=1e-6, atol=0)

    def _integer_bias(self, node: onnx.NodeProto) -> Array | None:
        bias = self._dequantized(node.input[2]) if node.op_type in WEIGHTED and len(node.input) > 2 else None
        return bias.values if bias else None

    def _storage(self, node: onnx.NodeProto) -> _Storage | None:
        reader, clip = self._only_reader(node.output[0]), None
        if reader is not None and self._clips(node, reader):
            reader, clip = self._only_reader(reader.output[0]), reader
        if reader is None or reader.op_type != "QuantizeLinear":
            return None
        scale = self._given.get(reader.input[1])
        return None if scale is None or scale.size != 1 else _Storage(np.squeeze(scale), reader, clip)

    def _only_reader(self, name: str) -> onnx.NodeProto | None:
        readers = self._readers.get(name, [])
        return readers[0] if len(readers) == 1 and name not in self._outputs else None

    def _clips(self, node: onnx.NodeProto, reader: onnx.NodeProto) -> bool:
        known = all(name in self._given for name in reader.input[1:] if name)
        return reader.op_type in CLIPPING and known and (reader.op_type != "HardSigmoid" or node.op_type in WEIGHTED)

    def _change_unit(self, storage: _Storage) -> None:
        """From here to the storage the unit is the stored integer's own step."""
        storage.quantize.input[1] = ONE
        clip = storage.clip
        if clip is None or clip.op_type == "Relu":
            return
        bounds = [self._given[name] if name else None for name in clip.input[1:]]
        if clip.op_type == "HardSigmoid":
            bounds = [np.zeros((), np.float32), np.ones((), np.float32)]
            clip.op_type = "Clip"
            del clip.attribute[:]
        del clip.input[1:]
        for side, bound in enumerate(bounds):
            name = f"{clip.output[0]}.bound{side}"
            clip.input.append("" if bound is None else self._constant(name, bound / storage.scale))

    def _conversion(self, operand: _Operand) -> Iterator[onnx.NodeProto]:
        """Stored integers as float32 integers, once."""
        from onnx import helper

        name = f"{operand.stored}.integers"
        if operand.values is not None:
            self._constant(name, operand.values)
        elif name not in self._converted:
            self._converted.add(name)
            yield helper.make_node("DequantizeLinear", [operand.stored, ONE, operand.zero_point], [name])

    def _constant(self, name: str, values: Array) -> str:
        self.constants[name] = values.astype(np.float32)
        return name


def _absorbed(clip: onnx.NodeProto, scales: list[Array], bias: Array | None) -> tuple[Array, Array]:
    """Weight scale and integer bias of a sum that takes in a HardSigmoid's slope and offset."""
    slope, offset = np.float32(_attribute(clip, "alpha", 0.2)), _attribute(clip, "beta", 0.5)
    steep = slope * scales[1]
    given = 0.0 if bias is None else bias.astype(np.float64) * (scales[0] * scales[1])
    return steep, np.rint((slope * given + offset) / (np.float64(scales[0]) * steep))


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    from onnx import helper

    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)
