"""What a network costs before anything is compiled: multiply-accumulates and parameters, counted layer by layer."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from edgec.pipeline.network.layers import layers_of
from edgec.pipeline.network.models.shapes import steps


@dataclass(frozen=True)
class Complexity:
    """Cost of one image through one network.

    Attributes:
        macs: multiply-accumulates of convolutions and linear layers; activations, pooling, additions and batch norm
            (folded before anything runs) are not counted, as in the papers.
        params: trained numbers, batch norm's scale and shift included, its running statistics not.
        plain_macs: the same network with every depthwise convolution, and the pointwise one that reads it, replaced
            by one plain convolution of the depthwise kernel (the comparison of arXiv 1704.04861, equation 5), and
            grouped convolutions by plain ones.
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
    layers = layers_of(steps(network, input_px))
    total = sum(layer.macs for layer in layers)
    saved = sum(layer.saving.plain_macs - layer.saving.macs for layer in layers if layer.saving)
    return Complexity(total, sum(parameter.numel() for parameter in network.parameters()), total + saved)
