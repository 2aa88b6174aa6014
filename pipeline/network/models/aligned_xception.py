"""Aligned Xception: strided separable convolutions instead of max pools (arXiv 1802.02611, section 3.2 and figure 4).

Importing this file imports torch.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

from torch import Tensor, nn

from edgec.pipeline.network.models.atrous import LOW_LEVEL_STRIDE, AtrousSeparable, Stride
from edgec.pipeline.network.models.blocks import ConvBN, Norm
from edgec.pipeline.network.models.families.xception65 import STEM_CHANNELS, Module
from edgec.pipeline.network.models.spec import make_divisible

BATCH_NORM_ALIGNED: Norm = partial(nn.BatchNorm2d, eps=1e-3)
"""Epsilon of the authors' release (tensorflow/models, research/deeplab)."""


class AlignedModule(nn.Module):
    """Three separable convolutions beside a shortcut.

    Args:
        stride: of the last one.
        rate: atrous rate of all three.
    """

    def __init__(self, in_channels: int, row: Module, channels: tuple[int, ...], stride: int, rate: int) -> None:
        super().__init__()
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        activation = None if row.relu_first else nn.ReLU
        for i, (c_in, c_out) in enumerate(zip((in_channels, *channels), channels, strict=False)):
            if row.relu_first:
                layers[f"relu{i}"] = nn.ReLU()
            step = stride if i == len(channels) - 1 else 1
            layers[f"separable{i}"] = AtrousSeparable(c_in, c_out, step, rate, activation, BATCH_NORM_ALIGNED)
        self.before = nn.Sequential(OrderedDict(list(layers.items())[:-1]))
        self.last = layers[f"separable{len(channels) - 1}"]
        self.has_shortcut = row.relu_first
        same = stride == 1 and in_channels == channels[-1]
        self.skip = (
            nn.Identity()
            if same or not row.relu_first
            else ConvBN(in_channels, channels[-1], 1, stride, norm=BATCH_NORM_ALIGNED)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(N, C_in, H, W)`` to the module's output, and what goes into its last convolution, at ``(H, W)``."""
        inner = self.before(x)
        y = self.last(inner)
        return (y + self.skip(x) if self.has_shortcut else y), inner


class AlignedXception(nn.Module):
    """Stem and modules up to the exit flow, for dense features.

    ``low_level_channels`` and ``channels`` are those of the two outputs: what goes into the strided convolution at
    stride 4, and the last module's.
    """

    def __init__(self, modules: tuple[Module, ...], width_multiplier: float, output_stride: int) -> None:
        super().__init__()

        def width(channels: int) -> int:
            return make_divisible(channels * width_multiplier)

        first, channels = (width(c) for c in STEM_CHANNELS)
        self.stem = nn.Sequential(
            OrderedDict(
                conv1=ConvBN(3, first, 3, 2, activation=nn.ReLU, norm=BATCH_NORM_ALIGNED),
                conv2=ConvBN(first, channels, 3, activation=nn.ReLU, norm=BATCH_NORM_ALIGNED),
            )
        )
        self.blocks, stride = nn.ModuleList(), Stride(output_stride, now=2)
        for i, row in enumerate(modules):
            widths = tuple(width(c) for c in row.channels)
            if row.stride > 1 and stride.now == LOW_LEVEL_STRIDE:
                self.low_level, self.low_level_channels = i, widths[-2]
            step, rate = stride.take(row.stride)
            self.blocks.append(AlignedModule(channels, row, widths, step, rate))
            channels = widths[-1]
        self.channels = channels

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(N, 3, H, W)`` to features at stride 4 and at the output stride."""
        x = self.stem(x)
        low = x
        for i, block in enumerate(self.blocks):
            x, inner = block(x)
            low = inner if i == self.low_level else low
        return low, x


class AlignedXceptionClassifier(AlignedXception):
    """The same layers at output stride 32, average pooling and a classifier."""

    def __init__(self, modules: tuple[Module, ...], width_multiplier: float, num_classes: int) -> None:
        super().__init__(modules, width_multiplier, output_stride=32)
        self.pool, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.classifier = nn.Linear(self.channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """``(N, 3, H, W)`` to logits ``(N, num_classes)``."""
        _, features = super().forward(x)
        logits: Tensor = self.classifier(self.flatten(self.pool(features)))
        return logits
