"""What x86 without VNNI answers: the sum of two u8 * s8 products saturates at 16 bits before it is accumulated.

AVX2's ``vpmaddubsw`` multiplies unsigned by signed bytes and adds neighbouring pairs with signed 16-bit saturation
(Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, PMADDUBSW). 255 * 127 * 2 exceeds 32767, so a
convolution that VNNI computes exactly is wrong there; weights of 7 bits (``reduce_range``) cannot saturate.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from edgec.pipeline.quantize.executor import compute, run
from edgec.pipeline.quantize.graph import Graph, Node
from edgec.pipeline.quantize.plan import Plan, is_depthwise, is_linear
from edgec.pipeline.quantize.qdq import bias_params
from edgec.pipeline.quantize.simulate import fake_quantize, quantized_constants

LOWEST, HIGHEST = -(2**15), 2**15 - 1
PATCHES_AT_ONCE = 512


@torch.no_grad()
def simulate_without_vnni(graph: Graph, plan: Plan, images: Tensor, batch_size: int = 4) -> Tensor:
    """First output of the quantized network on AVX2 kernels, ``(N, classes)``.

    Pairs are neighbouring input channels at one kernel position, as channels-last kernels read them. Depthwise and
    per-channel-scaled inputs do not go through ``vpmaddubsw``.
    """
    constants = quantized_constants(graph, plan)

    def operator(node: Node, values: Mapping[str, Tensor]) -> Iterable[Tensor]:
        return (_saturating(graph, plan, node, values),) if _pairs(graph, plan, node) else compute(node, values)

    def store(name: str, value: Tensor) -> Tensor:
        return fake_quantize(value, plan.activations.get(name))

    batches = images.split(batch_size)
    return torch.cat([run(graph, {graph.inputs[0]: x}, store, constants, operator)[graph.outputs[0]] for x in batches])


def saturating_product(patches: Tensor, weight: Tensor) -> Tensor:
    """``patches @ weight.T`` as ``vpmaddubsw`` sums it.

    Args:
        patches: unsigned bytes as int32, ``(P, K)``.
        weight: signed bytes as int32, ``(O, K)``.

    Returns:
        int32 ``(P, O)``.
    """
    if patches.shape[1] % 2:
        patches, weight = F.pad(patches, (0, 1)), F.pad(weight, (0, 1))
    even, odd = patches[:, None, 0::2], patches[:, None, 1::2]
    pairs = even * weight[None, :, 0::2] + odd * weight[None, :, 1::2]
    return pairs.clamp_(LOWEST, HIGHEST).sum(dim=2, dtype=torch.int32)


def _pairs(graph: Graph, plan: Plan, node: Node) -> bool:
    """Whether a node's kernel sums pairs of products: a dense convolution or Gemm on per-tensor integers."""
    if node.op not in ("Conv", "Gemm") or not is_linear(graph, node) or node.inputs[1] not in plan.weights:
        return False
    grouped = int(node.attributes.get("group", 1)) > 1 or is_depthwise(graph, node)
    return not grouped and plan.activations[node.inputs[0]].axis is None


def _saturating(graph: Graph, plan: Plan, node: Node, values: Mapping[str, Tensor]) -> Tensor:
    """A linear node in integers: what saturation takes away from the exact sum is taken from the exact result."""
    source, weight_params = plan.activations[node.inputs[0]], plan.weights[node.inputs[1]]
    weight = torch.from_numpy(weight_params.quantize(graph.constants[node.inputs[1]])).to(torch.int32)
    unsigned = 128 if source.dtype == "int8" else 0
    stored = torch.round(values[node.inputs[0]] / float(source.scale)) + int(source.zero_point) + unsigned
    (exact,) = compute(node, values)
    patches = _patches(node, stored, weight, int(source.zero_point) + unsigned)
    flat = weight.permute(0, 2, 3, 1).flatten(1) if weight.dim() == 4 else weight
    lost = torch.cat([piece.to(torch.int32) @ flat.T for piece in patches.split(PATCHES_AT_ONCE)])
    lost = lost - torch.cat([saturating_product(piece, flat) for piece in patches.split(PATCHES_AT_ONCE)])
    bias = bias_params(plan, node)
    scale = torch.from_numpy(weight_params.scale * source.scale if bias is None else bias.scale).reshape(-1)
    lost_real = lost * scale
    if exact.dim() == 2:
        return exact - lost_real
    return exact - lost_real.reshape(exact.shape[0], *exact.shape[2:], -1).permute(0, 3, 1, 2)


def _patches(node: Node, stored: Tensor, weight: Tensor, zero: int) -> Tensor:
    """Inputs of each output position, ``(P, K)`` int32, channels innermost; padding is the zero_point."""
    if stored.dim() == 2:
        return stored.to(torch.int32)
    rank = 2
    pads = node.attributes.get("pads", [0] * 4)
    padded = F.pad(stored, (pads[1], pads[3], pads[0], pads[2]), value=float(zero))
    kernel, strides = weight.shape[2:], node.attributes.get("strides", [1] * rank)
    windows = padded.unfold(2, kernel[0], strides[0]).unfold(3, kernel[1], strides[1])
    return windows.permute(0, 2, 3, 4, 5, 1).flatten(0, 2).flatten(1).to(torch.int32)
