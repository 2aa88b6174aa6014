"""What x86 without VNNI answers: the sum of two u8 * s8 products saturates at 16 bits before it is accumulated.

AVX2's ``vpmaddubsw`` multiplies unsigned by signed bytes and adds neighbouring products with signed 16-bit saturation
(Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, PMADDUBSW). 255 * 127 * 2 exceeds 32767, so a
convolution that VNNI computes exactly can be wrong there; weights of 7 bits (``Scheme.reduce_range``) cannot saturate.

Three assumptions, as kernels differ: neighbours are input channels 2i and 2i + 1 of a group at one kernel position
(channels-last kernels); where a group has one channel, positions 2i and 2i + 1 of the window; and int8 activations are
shifted by 128 to unsigned bytes. Depthwise convolutions with one output for each channel, and activations with a scale
per channel, do not go through ``vpmaddubsw`` and stay exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from torch import Tensor

from edgec.pipeline.forms.format import Batch, Outputs
from edgec.pipeline.network.graph import Graph, Node
from edgec.pipeline.quantize.executor import compute, run, tensors

LOWEST, HIGHEST = -(2**15), 2**15 - 1
PRODUCTS_AT_ONCE = 2**22
"""Pairs of products held in memory."""


@dataclass(frozen=True)
class SaturatingForm:
    """The QDQ file on x86 without VNNI, emulated: the same on every machine."""

    name: str = "vnni_off"
    identity: Mapping[str, str] = field(default_factory=lambda: {"runtime": f"torch {torch.__version__}"})
    batch_size: int = field(default=16, compare=False)

    def open(self, artifact: Path) -> SaturatingRunner:
        """``model.onnx`` of the quantizer's folder."""
        return SaturatingRunner(artifact / "model.onnx")


class SaturatingRunner:
    """A QDQ file as AVX2 kernels without VNNI execute it.

    Args:
        path: QDQ ONNX.
        batch_size: images at once, where the file takes any number.
    """

    def __init__(self, path: Path, batch_size: int = 8) -> None:
        self._graph = Graph.read(onnx.load(path))
        self._constants = tensors(self._graph)
        layers = {node.name: _dense_layer(self._graph, node) for node in self._graph.nodes}
        self._layers = {name: layer for name, layer in layers.items() if layer is not None}
        self._batch_size = self._graph.batch or batch_size

    @torch.no_grad()
    def predict(self, batch: Batch) -> Outputs:
        """``(N, C, H, W)`` float32 to every output."""
        graph = self._graph
        pieces = torch.split(torch.from_numpy(batch), self._batch_size)
        outputs = [run(graph, {graph.inputs[0]: x}, None, self._constants, self._compute) for x in pieces]
        return tuple(torch.cat([values[name] for values in outputs]).numpy() for name in graph.outputs)

    def _compute(self, node: Node, values: Mapping[str, Tensor]) -> Iterable[Tensor]:
        if node.op == "QuantizeLinear":
            return (_quantize_linear(node, *(values[name] for name in node.inputs)),)
        if node.op == "DequantizeLinear":
            return (_dequantize_linear(node, *(values[name] for name in node.inputs)),)
        outputs = compute(node, values)
        if node.name not in self._layers:
            return outputs
        (exact,) = outputs
        return (self._layers[node.name].saturate(exact, values[node.inputs[0]]),)


def saturation_loss(inputs: Tensor, weight: Tensor) -> Tensor:
    """What ``inputs @ weight.T`` loses where sums of two neighbouring products saturate: exact minus saturated.

    Only pairs of weights that can reach 16 bits with inputs of 255 are looked at.

    Args:
        inputs: unsigned bytes as float32, ``(P, K)``, K even.
        weight: signed bytes as float32, ``(O, K)``.

    Returns:
        float32 integers ``(P, O)``.
    """
    even, odd = weight[:, 0::2], weight[:, 1::2]
    highest = 255 * (even.clamp_min(0) + odd.clamp_min(0))
    lowest = 255 * (even.clamp_max(0) + odd.clamp_max(0))
    rows, pairs = torch.nonzero((highest > HIGHEST) | (lowest < LOWEST), as_tuple=True)
    lost = torch.zeros(len(inputs), len(weight))
    step = max(1, PRODUCTS_AT_ONCE // max(1, len(rows)))
    for piece, target in zip(torch.split(inputs, step), torch.split(lost, step), strict=True):
        sums = piece[:, 2 * pairs] * even[rows, pairs] + piece[:, 2 * pairs + 1] * odd[rows, pairs]
        target.index_add_(1, rows, sums - sums.clamp(LOWEST, HIGHEST))
    return lost


@dataclass(frozen=True, eq=False)
class _DenseLayer:
    """A convolution or matrix product on integers.

    Attributes:
        node: the linear node.
        weight: signed bytes, ``(O, K)``; K runs over kernel positions, then over a group's channels padded to an even
            number.
        weight_scale: ``(O,)`` or ``(1,)``.
        scale: of the activation.
        zero: the activation's zero_point as an unsigned byte.
        kernel: height and width; empty for a matrix product.
        groups: of channels, which do not see each other.
    """

    node: Node
    weight: Tensor
    weight_scale: Tensor
    scale: float
    zero: int
    kernel: tuple[int, ...]
    groups: int

    def saturate(self, exact: Tensor, x: Tensor) -> Tensor:
        """The exact result of the dequantized input ``x``, less what saturation loses."""
        stored = torch.round(x / self.scale) + self.zero
        parts = torch.chunk(stored, self.groups, dim=1) if self.kernel else (_even(stored.flatten(0, -2)),)
        inputs = [self._patches(part, exact.shape[2:]) for part in parts] if self.kernel else parts
        rows = torch.chunk(self.weight, self.groups)
        pieces = [saturation_loss(part, weight) for part, weight in zip(inputs, rows, strict=True)]
        lost = torch.cat(pieces, dim=1) * self.weight_scale * self.scale
        if not self.kernel:
            return exact - lost.reshape(exact.shape)
        return exact - lost.reshape(len(exact), *exact.shape[2:], -1).permute(0, 3, 1, 2)

    def _patches(self, stored: Tensor, out: Iterable[int]) -> Tensor:
        """What each output position reads, ``(P, K)``; the border is padded with the zero_point."""
        attributes, (height, width) = self.node.attributes, self.kernel
        strides, dilations = attributes.get("strides", [1, 1]), attributes.get("dilations", [1, 1])
        top, left, bottom, right = _pads(self.node, stored.shape[2:], out, self.kernel)
        padded = F.pad(stored, (left, right, top, bottom), value=float(self.zero))
        columns = F.unfold(padded, (height, width), tuple(dilations), 0, tuple(strides))
        positions = columns.reshape(len(stored), stored.shape[1], height * width, -1).permute(0, 3, 2, 1)
        return _in_pairs(positions).flatten(0, 1)


def _dense_layer(graph: Graph, node: Node) -> _DenseLayer | None:
    """The node as a layer whose pairs saturate, or ``None``."""
    if node.op not in ("Conv", "Gemm", "MatMul"):
        return None
    source, weights = (graph.producer.get(name) for name in node.inputs[:2])
    if source is None or weights is None or not source.op == weights.op == "DequantizeLinear":
        return None
    stored = graph.constants.get(weights.inputs[0])
    scale, zero = (graph.constants[name] for name in source.inputs[1:3])
    if stored is None or stored.ndim not in (2, 4) or scale.size > 1:
        return None
    groups = int(node.attributes.get("group", 1))
    if stored.ndim == 4 and stored.shape[1] == 1 and len(stored) == groups > 1:
        return None
    weight = torch.from_numpy(stored.astype(np.float32))
    if stored.ndim == 2 and not node.attributes.get("transB"):
        weight = weight.T
    unsigned = int(zero.item()) + (128 if zero.dtype == np.int8 else 0)
    flat = _in_pairs(weight.flatten(2).permute(0, 2, 1)) if stored.ndim == 4 else _even(weight)
    weight_scale = torch.tensor(graph.constants[weights.inputs[1]].reshape(-1))
    return _DenseLayer(node, flat, weight_scale, float(scale.item()), unsigned, stored.shape[2:], groups)


def _in_pairs(x: Tensor) -> Tensor:
    """``(..., positions, channels)`` as one axis, neighbours in twos."""
    return _even(x.flatten(-2)) if x.shape[-1] == 1 else _even(x).flatten(-2)


def _even(x: Tensor) -> Tensor:
    """The last axis padded with zeros to an even length."""
    return F.pad(x, (0, 1)) if x.shape[-1] % 2 else x


def _pads(node: Node, size: Iterable[int], out: Iterable[int], kernel: Iterable[int]) -> list[int]:
    """ONNX pads ``[top, left, bottom, right]``, those that ``auto_pad`` stands for included."""
    automatic = str(node.attributes.get("auto_pad", "NOTSET"))
    if not automatic.startswith("SAME"):
        return list(node.attributes.get("pads", [0] * 4))
    strides, dilations = node.attributes.get("strides", [1, 1]), node.attributes.get("dilations", [1, 1])
    sides = zip(size, out, kernel, strides, dilations, strict=True)
    totals = [max((o - 1) * stride + (k - 1) * dilation + 1 - i, 0) for i, o, k, stride, dilation in sides]
    small, large = [total // 2 for total in totals], [total - total // 2 for total in totals]
    return large + small if automatic == "SAME_LOWER" else small + large


def _quantize_linear(node: Node, x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    scale, zero = _along(node, x, scale), _along(node, x, zero_point)
    limits = torch.iinfo(zero_point.dtype)
    return (torch.round(x / scale) + zero).clamp(limits.min, limits.max).to(zero_point.dtype)


def _dequantize_linear(node: Node, q: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    return (q.to(torch.int32) - _along(node, q, zero_point).to(torch.int32)) * _along(node, q, scale)


def _along(node: Node, x: Tensor, values: Tensor) -> Tensor:
    """Values shaped to broadcast along the node's axis; a scalar as it is."""
    if values.numel() == 1:
        return values.reshape(())
    shape = [1] * x.dim()
    shape[node.attributes.get("axis", 1)] = -1
    return values.reshape(shape)
