"""Atrous convolution and what DeepLabV3+ makes of it: spatial pyramid pooling and decoder (arXiv 1802.02611).

Importing this file imports torch.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgec.pipeline.network.models.blocks import BATCH_NORM, Activation, Conv2d, ConvBN, Norm

RATES = {16: (6, 12, 18), 8: (12, 24, 36)}
"""Atrous rates by output stride: arXiv 1706.05587, section 3.3; 1802.02611, section 4."""

LOW_LEVEL_STRIDE = 4
ASPP_CHANNELS, LOW_LEVEL_CHANNELS = 256, 48
"""1802.02611, sections 3.1 and 4.1."""


class Stride:
    """Where strides end and atrous rates begin, layer by layer.

    A layer whose stride would pass the output stride keeps the resolution, and those behind it take that stride as
    their rate: ``output_stride`` of the authors' release (tensorflow/models, slim and research/deeplab).
    """

    def __init__(self, output_stride: int, now: int = 1) -> None:
        self.output_stride, self.now, self._rate = output_stride, now, 1

    def take(self, stride: int) -> tuple[int, int]:
        """(stride, rate) of the next layer, which has this stride in a classifier."""
        rate = self._rate
        if self.now * stride > self.output_stride:
            self._rate *= stride
            return 1, rate
        self.now *= stride
        return stride, rate


class AtrousSeparable(nn.Sequential):
    """Depthwise 3x3 with a rate, batch norm; pointwise, batch norm; an activation behind both, or none."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        rate: int = 1,
        activation: Activation | None = nn.ReLU,
        norm: Norm = BATCH_NORM,
    ) -> None:
        depthwise = ConvBN(in_channels, in_channels, 3, stride, groups=in_channels, activation=activation, norm=norm)
        set_rate(depthwise, rate)
        pointwise = ConvBN(in_channels, out_channels, activation=activation, norm=norm)
        super().__init__(OrderedDict(depthwise=depthwise, pointwise=pointwise))


def set_rate(layers: nn.Module, rate: int) -> None:
    """Make every convolution in ``layers`` that has a window atrous, its size kept."""
    for module in layers.modules():
        if isinstance(module, Conv2d) and module.kernel_size != (1, 1):
            module.dilation = (rate, rate)
            module.padding = (rate * (module.kernel_size[0] // 2),) * 2


def resized(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear, at exactly the factor that the strides had.

    Sides of ``4 n`` hold pixels as squares, and pixel centres are halves; sides of ``4 n + 1``, as the papers' 513,
    hold them as points, and corners lie on corners. Taken the other way, 33 to 129 would be by 3.91.
    """
    height, width = (int(side) for side in size)
    return F.interpolate(x, (height, width), mode="bilinear", align_corners=bool(height % 2 and width % 2))


class DenseMobileNet(nn.Module):
    """Stem and blocks of a MobileNet whose last strides are rates.

    Attributes:
        low_level_channels: of the last block at stride 4.
        channels: of the last block.
    """

    def __init__(self, classifier: nn.Module, output_stride: int) -> None:
        super().__init__()
        self.stem = classifier.get_submodule("stem")
        self.blocks = nn.ModuleList(classifier.get_submodule("blocks").children())
        stride = Stride(output_stride, now=2)
        self.low_level = self.low_level_channels = self.channels = 0
        for i, block in enumerate(self.blocks):
            depthwise, project = block.get_submodule("depthwise.conv"), block.get_submodule("project.conv")
            if not isinstance(depthwise, Conv2d) or not isinstance(project, Conv2d):
                raise TypeError("a block of a MobileNet has a depthwise and a projecting convolution")
            step, rate = stride.take(depthwise.stride[0])
            depthwise.stride = (step, step)
            set_rate(depthwise, rate)
            self.channels = project.out_channels
            if stride.now == LOW_LEVEL_STRIDE:
                self.low_level, self.low_level_channels = i, project.out_channels

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(N, 3, H, W)`` to features at stride 4 and at the output stride."""
        x = self.stem(x)
        low = x
        for i, block in enumerate(self.blocks):
            x = block(x)
            low = x if i == self.low_level else low
        return low, x


class ImagePooling(nn.Module):
    """The mean of the picture at every place: what lies beyond all rates (arXiv 1706.05587, section 3.3)."""

    def __init__(self, in_channels: int, out_channels: int, norm: Norm = BATCH_NORM) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.project = ConvBN(in_channels, out_channels, activation=nn.ReLU, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C_in, H, W)`` to ``(N, C_out, H, W)``, one value for each channel.

        Of one pixel the nearest is what bilinear makes too, and OpenCV 5.0 reads a bilinear Resize past its map.
        """
        size = tuple(int(side) for side in x.shape[-2:])
        return F.interpolate(self.project(self.pool(x)), size, mode="nearest")


class SpatialPyramid(nn.Module):
    """1x1, three atrous separable convolutions and image pooling side by side, projected (figure 2, encoder)."""

    def __init__(self, in_channels: int, channels: int, rates: Sequence[int], norm: Norm = BATCH_NORM) -> None:
        super().__init__()
        self.pointwise = ConvBN(in_channels, channels, activation=nn.ReLU, norm=norm)
        self.atrous = nn.ModuleList(AtrousSeparable(in_channels, channels, rate=rate, norm=norm) for rate in rates)
        self.image_pooling = ImagePooling(in_channels, channels, norm)
        self.project = ConvBN((len(rates) + 2) * channels, channels, activation=nn.ReLU, norm=norm)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C_in, H, W)`` to ``(N, C, H, W)``."""
        branches = (self.pointwise(x), *(branch(x) for branch in self.atrous), self.image_pooling(x))
        y: Tensor = self.dropout(self.project(torch.cat(branches, dim=1)))
        return y


class Decoder(nn.Module):
    """Pyramid x4, beside the projected low-level features; two separable 3x3 convolutions (figure 2, decoder)."""

    def __init__(self, low_level: int, channels: int, projected: int, norm: Norm = BATCH_NORM) -> None:
        super().__init__()
        self.low_level = ConvBN(low_level, projected, activation=nn.ReLU, norm=norm)
        self.refine = nn.Sequential(
            AtrousSeparable(channels + projected, channels, norm=norm), AtrousSeparable(channels, channels, norm=norm)
        )

    def forward(self, low: Tensor, x: Tensor) -> Tensor:
        """Features at stride 4 and at the output stride to ``(N, C, H / 4, W / 4)``."""
        y: Tensor = self.refine(torch.cat((resized(x, low.shape[-2:]), self.low_level(low)), dim=1))
        return y


class DeepLabV3Plus(nn.Module):
    """Backbone, pyramid, decoder, classifier, x4.

    Args:
        backbone: gives features at stride 4 and at the output stride; says their channels.
        argmax: answer with the class of each pixel ``(N, H, W)``, not with logits.
    """

    def __init__(
        self,
        backbone: nn.Module,
        channels: tuple[int, int],
        aspp_channels: int,
        projected: int,
        rates: Sequence[int],
        num_classes: int,
        norm: Norm = BATCH_NORM,
        argmax: bool = False,
    ) -> None:
        super().__init__()
        low, high = channels
        self.backbone = backbone
        self.pyramid = SpatialPyramid(high, aspp_channels, rates, norm)
        self.decoder = Decoder(low, aspp_channels, projected, norm)
        self.classifier = Conv2d(aspp_channels, num_classes, 1)
        self.argmax = argmax

    def forward(self, x: Tensor) -> Tensor:
        """``(N, 3, H, W)`` to logits ``(N, classes, H, W)``, or to classes ``(N, H, W)``."""
        low, high = self.backbone(x)
        y = resized(self.classifier(self.decoder(low, self.pyramid(high))), x.shape[-2:])
        return y.argmax(dim=1) if self.argmax else y
