"""TensorFlow's SAME padding, computed once for the network's input size so that an exporter sees constants."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgec.pipeline.network.models.shapes import layer_shapes

if TYPE_CHECKING:
    from torch import nn


def same_pads(size: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """Pixels of padding before and after one axis of ``size`` pixels; the odd one goes after.

    Source: TensorFlow, ``tf.nn`` notes on padding: output = ceil(size / stride).
    """
    reach = dilation * (kernel - 1) + 1
    total = max((-(-size // stride) - 1) * stride + reach - size, 0)
    return total // 2, total - total // 2


def use_tf_same(network: nn.Module, input_px: int) -> None:
    """Change every padding layer of ``network`` to SAME for inputs of ``input_px``; names and weights stay.

    A layer that does not pad (Xception's stem) stays as it is. A max pool takes ``ceil_mode`` in place of padding
    at the bottom and right: its last window then ends at the border, which is what SAME does, without a value to
    pad with.
    """
    from torch import nn

    from edgec.pipeline.network.models.blocks import Conv2d

    for layer in layer_shapes(network, input_px):
        module, size = layer.module, layer.input_shape[-1]
        if isinstance(module, Conv2d) and module.padding != (0, 0):
            before, after = same_pads(size, module.kernel_size[0], module.stride[0], module.dilation[0])
            module.padding = (before, before) if before == after else (0, 0)
            module.asymmetric_pads = None if before == after else (before, after, before, after)
        elif isinstance(module, nn.MaxPool2d) and module.padding != 0:
            before, after = same_pads(size, _side(module.kernel_size), _side(module.stride))
            module.padding, module.ceil_mode = before, before != after


def _side(length: int | tuple[int, ...]) -> int:
    return length if isinstance(length, int) else length[0]
