"""What a network costs before anything is compiled: multiply-accumulates and parameters, counted layer by layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from edgec.pipeline.network.cost import macs
from edgec.pipeline.network.models.shapes import LayerShape, layer_shapes

WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear)


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
    layers = [layer for layer in layer_shapes(network, input_px) if isinstance(layer.module, WEIGHTED)]
    total = sum(_macs(layer) for layer in layers)
    saved = sum(
        _plain_macs(depthwise, pointwise) - _macs(depthwise) - _macs(pointwise)
        for depthwise, pointwise in _separable_pairs(layers)
    )
    return Complexity(total, sum(parameter.numel() for parameter in network.parameters()), total + saved)


def _macs(layer: LayerShape) -> int:
    """A transposed convolution applies its weights at the pixels that go in, everything else at those that come out."""
    if isinstance(layer.module, nn.Linear):
        return macs(_kernel(layer), layer.output_shape[:-1])
    shape = layer.input_shape if getattr(layer.module, "transposed", False) else layer.output_shape
    return macs(_kernel(layer), (shape[0], *shape[2:]))


def _kernel(layer: LayerShape) -> tuple[int, ...]:
    return tuple(layer.module.get_parameter("weight").shape)


def _plain_macs(depthwise: LayerShape, pointwise: LayerShape) -> int:
    """One convolution with the depthwise kernel, from the channels that go in to those that come out."""
    channels = (pointwise.output_shape[1], depthwise.input_shape[1])
    return macs((*channels, *_kernel(depthwise)[2:]), pointwise.output_shape[2:])


def _separable_pairs(layers: list[LayerShape]) -> Iterator[tuple[LayerShape, LayerShape]]:
    """Each depthwise convolution with the pointwise one that reads it, past any squeeze-excite in between.

    Squeeze-excite's own 1x1 convolutions are told apart by their bias: a convolution before batch norm has none. A
    depthwise convolution that no pointwise one follows is not half of a separable one.
    """
    depthwise = None
    for layer in layers:
        if _is_depthwise(layer):
            depthwise = layer
        elif depthwise is not None and _is_pointwise(layer):
            yield depthwise, layer
            depthwise = None


def _is_depthwise(layer: LayerShape) -> bool:
    return 1 < getattr(layer.module, "groups", 1) == layer.input_shape[1]


def _is_pointwise(layer: LayerShape) -> bool:
    return layer.module.bias is None and getattr(layer.module, "kernel_size", ()) == (1, 1)
