"""What a network costs before anything is compiled: multiply-accumulates and parameters, counted layer by layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from edgec.pipeline.network.models.shapes import LayerShape, layer_shapes

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Complexity:
    """Cost of one image through one network.

    Attributes:
        macs: multiply-accumulates of convolutions and linear layers; activations, pooling, additions and batch norm
            (folded before anything runs) are not counted, as in the papers.
        params: trained numbers, batch norm's scale and shift included, its running statistics not.
        plain_macs: the same network with every depthwise convolution, and the pointwise one that reads it, replaced
            by one plain convolution of the depthwise kernel (the comparison of arXiv 1704.04861, equation 5).
    """

    macs: int
    params: int
    plain_macs: int

    @property
    def separable_saving(self) -> float:
        """How many times fewer multiply-accumulates than with plain convolutions."""
        return self.plain_macs / self.macs


def count_complexity(network: nn.Module, input_px: int) -> Complexity:
    """Count one network of this package for a square input of ``input_px``."""
    from torch import nn

    layers = [layer for layer in layer_shapes(network, input_px) if isinstance(layer.module, (nn.Conv2d, nn.Linear))]
    macs = sum(_macs(layer) for layer in layers)
    saved = sum(
        _plain_macs(depthwise, pointwise) - _macs(depthwise) - _macs(pointwise)
        for depthwise, pointwise in _separable_pairs(layers)
    )
    return Complexity(macs, sum(parameter.numel() for parameter in network.parameters()), macs + saved)


def _macs(layer: LayerShape) -> int:
    """Every weight meets every output pixel once."""
    return layer.module.get_parameter("weight").numel() * prod(layer.output_shape[2:])


def _plain_macs(depthwise: LayerShape, pointwise: LayerShape) -> int:
    """One convolution with the depthwise kernel, from the channels that go in to those that come out."""
    kernel_area = prod(depthwise.module.get_parameter("weight").shape[2:])
    channels_in, channels_out = depthwise.input_shape[1], pointwise.output_shape[1]
    return kernel_area * channels_in * channels_out * prod(pointwise.output_shape[2:])


def _separable_pairs(layers: list[LayerShape]) -> Iterator[tuple[LayerShape, LayerShape]]:
    """Each depthwise convolution with the pointwise one that reads it, past any squeeze-excite in between.

    Squeeze-excite's own 1x1 convolutions are told apart by their bias: a convolution before batch norm has none.
    """
    for i, layer in enumerate(layers):
        if getattr(layer.module, "groups", 1) > 1:
            pointwise = (other for other in layers[i + 1 :] if other.module.bias is None)
            yield layer, next(pointwise)
