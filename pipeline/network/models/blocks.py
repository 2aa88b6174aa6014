"""The torch building blocks that the families share. Importing this file imports torch."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from edgec.pipeline.core.errors import EdgecError

Norm = Callable[[int], nn.Module]
Activation = Callable[[], nn.Module]

BATCH_NORM: Norm = nn.BatchNorm2d
BATCH_NORM_V3: Norm = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01)
"""arXiv 1905.02244, section 6.1.1: decay 0.99; epsilon of the TensorFlow release and of torchvision."""


def spatial_groups(channels: int, groups: int | None) -> int:
    """Of a separable convolution's spatial half: one for each channel where ``groups`` is None.

    Raises:
        EdgecError: ``invalid-network-option``.
    """
    if groups is not None and channels % groups:
        message = f"groups: {groups} does not divide the {channels} channels of a layer"
        raise EdgecError("invalid-network-option", message, "1, 2, 4 and 8 divide those of every layer")
    return groups or channels


class Conv2d(nn.Conv2d):
    """A convolution that can pad more at the bottom and right than at the top and left.

    Attributes:
        asymmetric_pads: left, right, top, bottom, in px, or None where ``padding`` says it all.
    """

    asymmetric_pads: tuple[int, int, int, int] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C_in, H, W)`` to ``(N, C_out, H', W')``."""
        return super().forward(x if self.asymmetric_pads is None else F.pad(x, self.asymmetric_pads))


class ConvBN(nn.Sequential):
    """Convolution without bias, batch norm and, unless the layer is linear, an activation.

    Args:
        padding: in px; ``kernel // 2`` where None, which keeps the size at stride 1.
        groups: ``in_channels`` makes the convolution depthwise.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        stride: int = 1,
        *,
        groups: int = 1,
        padding: int | None = None,
        activation: Activation | None = None,
        norm: Norm = BATCH_NORM,
    ) -> None:
        padding = kernel // 2 if padding is None else padding
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            conv=Conv2d(in_channels, out_channels, kernel, stride, padding, groups=groups, bias=False),
            bn=norm(out_channels),
        )
        if activation is not None:
            layers["act"] = activation()
        super().__init__(layers)


class SqueezeExcite(nn.Module):
    """Channel attention with the hard sigmoid of MobileNetV3 (arXiv 1709.01507; 1905.02244 sections 5.2 and 5.3)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = Conv2d(channels, squeezed, 1)
        self.act = nn.ReLU()
        self.expand = Conv2d(squeezed, channels, 1)
        self.gate = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` scaled per channel and image by a gate ``(N, C, 1, 1)`` in 0..1."""
        gate: Tensor = self.gate(self.expand(self.act(self.reduce(self.pool(x)))))
        return x * gate


class InvertedResidual(nn.Module):
    """Expand 1x1, depthwise, optional squeeze-excite, linear projection (arXiv 1801.04381, figure 3 and table 1).

    The shortcut exists only at stride 1 with equal channels. ``expanded == in_channels`` leaves the expansion out.

    Args:
        groups: of the layer in the middle, depthwise where None.
        residual: with the shortcut.
    """

    def __init__(
        self,
        in_channels: int,
        expanded: int,
        out_channels: int,
        kernel: int,
        stride: int,
        *,
        activation: Activation,
        squeezed: int | None = None,
        norm: Norm = BATCH_NORM,
        groups: int | None = None,
        residual: bool = True,
    ) -> None:
        super().__init__()
        self.expand = (
            ConvBN(in_channels, expanded, activation=activation, norm=norm)
            if expanded != in_channels
            else nn.Identity()
        )
        parts = spatial_groups(expanded, groups)
        self.depthwise = ConvBN(expanded, expanded, kernel, stride, groups=parts, activation=activation, norm=norm)
        self.squeeze_excite = SqueezeExcite(expanded, squeezed) if squeezed is not None else nn.Identity()
        self.project = ConvBN(expanded, out_channels, norm=norm)
        self.has_shortcut = residual and stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C_in, H, W)`` to ``(N, C_out, H / stride, W / stride)``."""
        y: Tensor = self.project(self.squeeze_excite(self.depthwise(self.expand(x))))
        return x + y if self.has_shortcut else y


class SeparableConv(nn.Sequential):
    """Depthwise 3x3, then pointwise (arXiv 1610.02357, section 2).

    Args:
        depth_multiplier: depthwise filters per input channel.
        intermediate: activation between the two, or None as the paper recommends (figure 10).
        groups: of the first, depthwise where None.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        depth_multiplier: int = 1,
        intermediate: Activation | None = None,
        groups: int | None = None,
    ) -> None:
        filtered, parts = in_channels * depth_multiplier, spatial_groups(in_channels, groups)
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            depthwise=Conv2d(in_channels, filtered, 3, padding=1, groups=parts, bias=False)
        )
        if intermediate is not None:
            layers["act"] = intermediate()
        layers["pointwise"] = Conv2d(filtered, out_channels, 1, bias=False)
        super().__init__(layers)


class XceptionModule(nn.Module):
    """One residual module of Xception: ReLU, separable convolution and batch norm in turn, then a max pool.

    The shortcut is a strided 1x1 convolution where the shape changes, else the input itself.

    Args:
        shortcut: there is one.
        channels: output channels of each separable convolution.
        relu_first: false for the module after the stem, whose input is activated already.
        separable: makes a separable convolution from its input and output channels.
    """

    def __init__(
        self,
        in_channels: int,
        channels: tuple[int, ...],
        stride: int,
        *,
        relu_first: bool,
        separable: Callable[[int, int], SeparableConv],
        shortcut: bool = True,
    ) -> None:
        super().__init__()
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for i, (c_in, c_out) in enumerate(zip((in_channels, *channels), channels, strict=False)):
            if relu_first or i > 0:
                layers[f"relu{i}"] = nn.ReLU()
            layers[f"separable{i}"] = separable(c_in, c_out)
            layers[f"bn{i}"] = BATCH_NORM(c_out)
        if stride > 1:
            layers["pool"] = nn.MaxPool2d(3, stride, padding=1)
        self.residual = nn.Sequential(layers)
        same_shape = stride == 1 and in_channels == channels[-1]
        self.skip: nn.Module | None = None
        if shortcut:
            self.skip = nn.Identity() if same_shape else ConvBN(in_channels, channels[-1], 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C_in, H, W)`` to ``(N, channels[-1], H / stride, W / stride)``."""
        y: Tensor = self.residual(x)
        return y if self.skip is None else y + self.skip(x)
