"""Chooses which way each weight rounds by what it does to the layer's output, layer by layer on the quantized prefix.

AdaRound (Nagel et al. 2020, arXiv:2004.10568, equation 13) poses rounding as a quadratic binary problem: with the
covariance C of a layer's inputs, the output error of a row is ``(q - w)^T C (q - w)``. The paper relaxes it and
descends by gradient; here it is descended exactly, one weight at a time: deterministic, without a learning rate, and
ending in a state that no single change improves. The covariance is centred: what rounding does to the mean goes into
the bias.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from edgec.pipeline.network.graph import Node
from edgec.pipeline.quantize.affine import Array, QuantParams
from edgec.pipeline.quantize.windows import padded

PATCHES_PER_IMAGE = 64
MOST_INPUTS = 1536
"""Of one row; the covariance has the square of it."""

SWEEPS = 4


def input_covariance(node: Node, weight: Array, batches: list[Tensor]) -> Array:
    """Of the patches that a row of the weight sees, per group: ``(G, K, K)`` float64."""
    values = torch.cat([patches(node, weight, batch) for batch in batches], dim=1)
    values = values - values.mean(dim=1, keepdim=True)
    covariance: Array = (values.mT @ values / values.shape[1]).numpy()
    return covariance


def round_layer(node: Node, weight: Array, params: QuantParams, covariance: Array) -> Array:
    """Weights on their grid, float32, shaped as they came.

    Args:
        params: grid of the weight; rows are output channels, axis 0.
        covariance: as from ``input_covariance``.
    """
    groups = len(covariance)
    flat = weight.reshape(groups, len(weight) // groups, -1).astype(np.float64)
    scale, _ = params.shaped(weight.ndim)
    steps = np.broadcast_to(scale.reshape(-1, 1), (len(weight), 1)).reshape(groups, -1, 1)
    chosen = [
        descend(rows / step, covariance[g], params.qmin, params.qmax) * step
        for g, (rows, step) in enumerate(zip(flat, steps, strict=True))
    ]
    return np.stack(chosen).reshape(weight.shape).astype(np.float32)


def descend(rows: Array, covariance: Array, qmin: int, qmax: int) -> Array:
    """Integers next to ``rows`` with the least ``(q - w)^T C (q - w)`` that single changes reach from nearest.

    Args:
        rows: ``(O, K)`` in units of the step.
        covariance: ``(K, K)``.
    """
    low, high = (np.clip(end(rows), qmin, qmax) for end in (np.floor, np.ceil))
    chosen = np.clip(np.rint(rows), qmin, qmax)
    slope = (chosen - rows) @ covariance
    diagonal = np.diag(covariance)
    for _ in range(SWEEPS):
        changed = False
        for k in range(rows.shape[1]):
            step = np.where(chosen[:, k] == low[:, k], high[:, k], low[:, k]) - chosen[:, k]
            gain = step * (2 * slope[:, k] + step * diagonal[k])
            step = np.where(gain < -1e-12 * diagonal[k], step, 0.0)
            if step.any():
                changed = True
                chosen[:, k] += step
                slope += step[:, None] * covariance[k]
        if not changed:
            break
    return chosen


def patches(node: Node, weight: Array, x: Tensor) -> Tensor:
    """Inputs of a sample of output positions, ``(G, P, K)`` float64, in the order of the weight's row."""
    if x.dim() == 2:
        return x.double().unsqueeze(0)
    kernel = weight.shape[2:]
    x, pads = padded(x, node.attributes, kernel, 0.0)
    x = F.pad(x, (pads[1], pads[1], pads[0], pads[0]))
    strides, dilations = node.attributes.get("strides", [1, 1]), node.attributes.get("dilations", [1, 1])
    spans = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=True)]
    windows = x.unfold(2, spans[0], strides[0]).unfold(3, spans[1], strides[1])
    windows = windows[..., :: dilations[0], :: dilations[1]]
    channels, height, width = windows.shape[1:4]
    groups = int(node.attributes.get("group", 1))
    stride = max(1, int(np.ceil(np.sqrt(height * width / PATCHES_PER_IMAGE))))
    windows = windows[:, :, stride // 2 :: stride, stride // 2 :: stride]
    windows = windows.permute(1, 0, 2, 3, 4, 5).reshape(groups, channels // groups, -1, kernel[0] * kernel[1])
    return windows.permute(0, 2, 1, 3).flatten(2).double()


def roundable(node: Node, weight: Array, num_images: int) -> bool:
    """Enough patches for a covariance that is worth trusting, and rows that are not too long for it."""
    size = int(np.prod(weight.shape[1:]))
    per_image = 1 if node.op == "Gemm" else PATCHES_PER_IMAGE // 4
    return node.op in ("Conv", "Gemm") and 2 <= size <= MOST_INPUTS and size <= num_images * per_image
