"""MobileNetV2: inverted residuals with linear bottlenecks (arXiv 1801.04381)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from edgec.pipeline.data.preprocess import Preprocess
from edgec.pipeline.network.models.spec import (
    IMAGENET_PREPROCESS,
    ModelSpec,
    NetworkConfig,
    PublishedFigures,
    PublishedWeights,
    make_divisible,
)

if TYPE_CHECKING:
    from torch import nn


class Bottleneck(NamedTuple):
    """One row of table 2: expansion t, output channels c, repetitions n, stride s of the first repetition."""

    t: int
    c: int
    n: int
    s: int


STEM_CHANNELS, HEAD_CHANNELS = 32, 1280
TABLE_2 = (
    Bottleneck(1, 16, 1, 1),
    Bottleneck(6, 24, 2, 2),
    Bottleneck(6, 32, 3, 2),
    Bottleneck(6, 64, 4, 2),
    Bottleneck(6, 96, 3, 1),
    Bottleneck(6, 160, 3, 2),
    Bottleneck(6, 320, 1, 1),
)


def build(config: NetworkConfig) -> nn.Module:
    """Table 2 as a network. The last convolution keeps 1280 channels under a multiplier below 1 (section 4)."""
    from collections import OrderedDict

    from torch import nn

    from edgec.pipeline.network.models.blocks import ConvBN, InvertedResidual

    bottleneck = partial(InvertedResidual, activation=nn.ReLU6, groups=config.groups, residual=config.residual)

    def width(channels: int) -> int:
        return make_divisible(channels * config.width_multiplier)

    channels = width(STEM_CHANNELS)
    head = make_divisible(HEAD_CHANNELS * max(1.0, config.width_multiplier))
    stem = ConvBN(3, channels, 3, 2, activation=nn.ReLU6)
    blocks: list[nn.Module] = []
    for t, c, n, s in TABLE_2:
        for stride in (s, *(n - 1) * (1,)):
            blocks.append(bottleneck(channels, t * channels, width(c), 3, stride))
            channels = width(c)
    return nn.Sequential(
        OrderedDict(
            stem=stem,
            blocks=nn.Sequential(*blocks),
            head=ConvBN(channels, head, activation=nn.ReLU6),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            dropout=nn.Dropout(0.2),
            classifier=nn.Linear(head, config.num_classes),
        )
    )


def _torchvision_names() -> Iterator[tuple[str, str]]:
    yield from (("features.0.0", "stem.conv"), ("features.0.1", "stem.bn"), ("classifier.1", "classifier"))
    expansions = [row.t for row in TABLE_2 for _ in range(row.n)]
    for block, t in enumerate(expansions):
        theirs, ours = f"features.{block + 1}.conv", f"blocks.{block}"
        layers = ("depthwise",) if t == 1 else ("expand", "depthwise")
        for i, layer in enumerate(layers):
            yield from ((f"{theirs}.{i}.0", f"{ours}.{layer}.conv"), (f"{theirs}.{i}.1", f"{ours}.{layer}.bn"))
        last = len(layers)
        yield from ((f"{theirs}.{last}", f"{ours}.project.conv"), (f"{theirs}.{last + 1}", f"{ours}.project.bn"))
    head = len(expansions) + 1
    yield from ((f"features.{head}.0", "head.conv"), (f"features.{head}.1", "head.bn"))


SPECS = (
    ModelSpec(
        name="mobilenetv2",
        description="17 inverted residuals with linear bottlenecks",
        paper="arXiv 1801.04381",
        input_px=224,
        preprocess=IMAGENET_PREPROCESS,
        published=PublishedFigures(top1=72.0, macs=300e6, params=3.4e6, source="arXiv 1801.04381, table 4"),
        builder=build,
        conventions={"torchvision:mobilenet_v2": dict(_torchvision_names())},
        imagenet=PublishedWeights(
            url="https://download.pytorch.org/models/mobilenet_v2-7ebf99e0.pth",
            sha256="7ebf99e03e254b273379b23edca7ec0da9f48273b23a332b93c1c99d49e86e8f",
            names="torchvision:mobilenet_v2",
            preprocess=Preprocess(resize_px=232),
            top1=72.154,
            source="torchvision MobileNet_V2_Weights.IMAGENET1K_V2",
        ),
        options=frozenset({"groups", "residual"}),
    ),
)
