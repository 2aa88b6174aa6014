"""MobileNetV3 large and small: searched bottlenecks, squeeze-excite, hard-swish (arXiv 1905.02244v5)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple

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


class Bneck(NamedTuple):
    """One bneck row: kernel, expansion size, output channels, squeeze-excite, nonlinearity, stride."""

    kernel: int
    exp_size: int
    out: int
    se: bool
    nl: Literal["RE", "HS"]
    s: int


class Table(NamedTuple):
    """The bneck rows and the channels of the layer before the classifier."""

    rows: tuple[Bneck, ...]
    hidden: int


STEM_CHANNELS = 16
LARGE = Table(
    (
        Bneck(3, 16, 16, False, "RE", 1),
        Bneck(3, 64, 24, False, "RE", 2),
        Bneck(3, 72, 24, False, "RE", 1),
        Bneck(5, 72, 40, True, "RE", 2),
        Bneck(5, 120, 40, True, "RE", 1),
        Bneck(5, 120, 40, True, "RE", 1),
        Bneck(3, 240, 80, False, "HS", 2),
        Bneck(3, 200, 80, False, "HS", 1),
        Bneck(3, 184, 80, False, "HS", 1),
        Bneck(3, 184, 80, False, "HS", 1),
        Bneck(3, 480, 112, True, "HS", 1),
        Bneck(3, 672, 112, True, "HS", 1),
        Bneck(5, 672, 160, True, "HS", 2),
        Bneck(5, 960, 160, True, "HS", 1),
        Bneck(5, 960, 160, True, "HS", 1),
    ),
    hidden=1280,
)
"""Table 1."""
SMALL = Table(
    (
        Bneck(3, 16, 16, True, "RE", 2),
        Bneck(3, 72, 24, False, "RE", 2),
        Bneck(3, 88, 24, False, "RE", 1),
        Bneck(5, 96, 40, True, "HS", 2),
        Bneck(5, 240, 40, True, "HS", 1),
        Bneck(5, 240, 40, True, "HS", 1),
        Bneck(5, 120, 48, True, "HS", 1),
        Bneck(5, 144, 48, True, "HS", 1),
        Bneck(5, 288, 96, True, "HS", 2),
        Bneck(5, 576, 96, True, "HS", 1),
        Bneck(5, 576, 96, True, "HS", 1),
    ),
    hidden=1024,
)
"""Table 2."""
HEAD_EXPANSION = 6
"""The last 1x1 convolution has 6 times the channels before it: 960 = 6 * 160, 576 = 6 * 96."""


def build(table: Table, config: NetworkConfig) -> nn.Module:
    """Table 1 or 2 as a network. Squeeze-excite bottlenecks have a quarter of the expansion (section 5.3)."""
    from collections import OrderedDict

    from torch import nn

    from edgec.pipeline.network.models.blocks import BATCH_NORM_V3, ConvBN, InvertedResidual

    def width(channels: int) -> int:
        return make_divisible(channels * config.width_multiplier)

    channels = width(STEM_CHANNELS)
    stem = ConvBN(3, channels, 3, 2, activation=nn.Hardswish, norm=BATCH_NORM_V3)
    blocks: list[nn.Module] = []
    for row in table.rows:
        expanded = width(row.exp_size)
        block = InvertedResidual(
            channels,
            expanded,
            width(row.out),
            row.kernel,
            row.s,
            activation=nn.Hardswish if row.nl == "HS" else nn.ReLU,
            squeezed=make_divisible(expanded / 4) if row.se else None,
            norm=BATCH_NORM_V3,
            groups=config.groups,
            residual=config.residual,
        )
        blocks.append(block)
        channels = width(row.out)
    head, hidden = HEAD_EXPANSION * channels, width(table.hidden)
    return nn.Sequential(
        OrderedDict(
            stem=stem,
            blocks=nn.Sequential(*blocks),
            head=ConvBN(channels, head, activation=nn.Hardswish, norm=BATCH_NORM_V3),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            hidden=nn.Linear(head, hidden),
            act=nn.Hardswish(),
            dropout=nn.Dropout(0.2),
            classifier=nn.Linear(hidden, config.num_classes),
        )
    )


def _torchvision_names(table: Table) -> Iterator[tuple[str, str]]:
    yield from (("features.0.0", "stem.conv"), ("features.0.1", "stem.bn"))
    yield from (("classifier.0", "hidden"), ("classifier.3", "classifier"))
    channels = STEM_CHANNELS
    for block, row in enumerate(table.rows):
        layers = ["depthwise", *(["squeeze_excite"] if row.se else []), "project"]
        for i, layer in enumerate(layers if row.exp_size == channels else ["expand", *layers]):
            theirs, ours = f"features.{block + 1}.block.{i}", f"blocks.{block}.{layer}"
            if layer == "squeeze_excite":
                yield from ((f"{theirs}.fc1", f"{ours}.reduce"), (f"{theirs}.fc2", f"{ours}.expand"))
            else:
                yield from ((f"{theirs}.0", f"{ours}.conv"), (f"{theirs}.1", f"{ours}.bn"))
        channels = row.out
    head = len(table.rows) + 1
    yield from ((f"features.{head}.0", "head.conv"), (f"features.{head}.1", "head.bn"))


SPECS = (
    ModelSpec(
        name="mobilenetv3",
        description="large: 15 searched bottlenecks, squeeze-excite, hard-swish",
        paper="arXiv 1905.02244",
        input_px=224,
        preprocess=IMAGENET_PREPROCESS,
        published=PublishedFigures(top1=75.2, macs=219e6, params=5.4e6, source="arXiv 1905.02244v5, table 3"),
        builder=partial(build, LARGE),
        conventions={"torchvision:mobilenet_v3_large": dict(_torchvision_names(LARGE))},
        imagenet=PublishedWeights(
            url="https://download.pytorch.org/models/mobilenet_v3_large-8738ca79.pth",
            sha256="8738ca797c879b547d18bbd15da5736ff2557b2036a9af72225393ca61759a04",
            names="torchvision:mobilenet_v3_large",
            preprocess=IMAGENET_PREPROCESS,
            top1=74.042,
            source="torchvision MobileNet_V3_Large_Weights.IMAGENET1K_V1",
        ),
        options=frozenset({"groups", "residual"}),
    ),
    ModelSpec(
        name="mobilenetv3-small",
        description="small: 11 searched bottlenecks, squeeze-excite, hard-swish",
        paper="arXiv 1905.02244",
        input_px=224,
        preprocess=IMAGENET_PREPROCESS,
        published=PublishedFigures(top1=67.4, macs=56e6, params=2.5e6, source="arXiv 1905.02244v5, table 3"),
        builder=partial(build, SMALL),
        conventions={"torchvision:mobilenet_v3_small": dict(_torchvision_names(SMALL))},
        imagenet=PublishedWeights(
            url="https://download.pytorch.org/models/mobilenet_v3_small-047dcff4.pth",
            sha256="047dcff4addef86ea5bc2eff13c9614dc11f47ab1160d0a71a25e7db994f4e1f",
            names="torchvision:mobilenet_v3_small",
            preprocess=IMAGENET_PREPROCESS,
            top1=67.668,
            source="torchvision MobileNet_V3_Small_Weights.IMAGENET1K_V1",
        ),
        options=frozenset({"groups", "residual"}),
    ),
)
