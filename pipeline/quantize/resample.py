"""Resize by nearest neighbour or linear interpolation in torch, axis by axis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from edgec.pipeline.network.resize import linear_positions, nearest_positions


def resized(x: Tensor, attributes: Mapping[str, Any], scales: Tensor | None, sizes: Tensor | None) -> Tensor:
    """ONNX Resize, operator set 13: ONNX's own evaluator takes gigabytes for a feature map.

    Args:
        x: of any rank.
        attributes: mode nearest or linear, any coordinates but those of ``tf_crop_and_resize``.
        scales: of every axis; None or empty where ``sizes`` are given.
        sizes: of the output.
    """
    if scales is not None and scales.numel():
        stated = [float(scale) for scale in scales.tolist()]
        output = [int(size * scale) for size, scale in zip(x.shape, stated, strict=True)]
    else:
        output = [] if sizes is None else sizes.tolist()
        stated = [after / before for before, after in zip(x.shape, output, strict=True)]
    for axis, (output_size, scale) in enumerate(zip(output, stated, strict=True)):
        if (output_size, scale) != (x.shape[axis], 1.0):
            x = _along(x, axis, attributes, output_size, scale)
    return x


def _along(x: Tensor, axis: int, attributes: Mapping[str, Any], output_size: int, scale: float) -> Tensor:
    size = x.shape[axis]
    if attributes.get("mode", "nearest") == "nearest":
        picked = nearest_positions(attributes, size, output_size, scale)
        return x.index_select(axis, torch.from_numpy(picked).long())
    at = torch.from_numpy(linear_positions(attributes, size, output_size, scale))
    low = at.long()
    share = (at - low).to(x.dtype).view(-1, *[1] * (x.dim() - 1 - axis))
    return x.index_select(axis, low).lerp(x.index_select(axis, (low + 1).clamp(max=size - 1)), share)
