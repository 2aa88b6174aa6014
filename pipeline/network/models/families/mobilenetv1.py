"""MobileNetV1: depthwise separable convolutions, width and resolution multipliers (arXiv 1704.04861)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from edgec.pipeline.network.models.spec import (
    INCEPTION_PREPROCESS,
    ModelSpec,
    NetworkConfig,
    PublishedFigures,
    PublishedWeights,
    make_divisible,
)

if TYPE_CHECKING:
    from torch import nn


class Separable(NamedTuple):
    """One "Conv dw / s" row and the pointwise row under it, table 1."""

    channels: int
    stride: int


STEM_CHANNELS = 32
STAGES: tuple[tuple[Separable, ...], ...] = (
    (Separable(64, 1),),
    (Separable(128, 2), Separable(128, 1)),
    (Separable(256, 2), Separable(256, 1)),
    (Separable(512, 2), *5 * (Separable(512, 1),)),
    # The paper prints stride 2 for the last depthwise layer too; its sizes (7x7 in and out) need stride 1.
    (Separable(1024, 2), Separable(1024, 1)),
)
"""Table 1, cut where the resolution halves."""


def build(config: NetworkConfig) -> nn.Module:
    """Table 1 as a network. ReLU6 in place of the paper's ReLU, as in every published checkpoint."""
    from collections import OrderedDict

    from torch import nn

    from edgec.pipeline.network.models.blocks import ConvBN, spatial_groups

    def width(channels: int) -> int:
        return make_divisible(channels * config.width_multiplier)

    channels = width(STEM_CHANNELS)
    layers: OrderedDict[str, nn.Module] = OrderedDict(stem=ConvBN(3, channels, 3, 2, activation=nn.ReLU6))
    blocks: list[nn.Module] = []
    for row in (row for stage in STAGES for row in stage):
        filtered = channels * config.depth_multiplier
        groups = spatial_groups(channels, config.groups)
        depthwise = ConvBN(channels, filtered, 3, row.stride, groups=groups, activation=nn.ReLU6)
        pointwise = ConvBN(filtered, width(row.channels), activation=nn.ReLU6)
        blocks.append(nn.Sequential(OrderedDict(depthwise=depthwise, pointwise=pointwise)))
        channels = width(row.channels)
    layers["blocks"] = nn.Sequential(*blocks)
    layers["pool"], layers["flatten"] = nn.AdaptiveAvgPool2d(1), nn.Flatten()
    layers["classifier"] = nn.Linear(channels, config.num_classes)
    return nn.Sequential(layers)


def _timm_names() -> Iterator[tuple[str, str]]:
    yield from (("conv_stem", "stem.conv"), ("bn1", "stem.bn"), ("classifier", "classifier"))
    places = [(stage, i) for stage, rows in enumerate(STAGES) for i in range(len(rows))]
    for block, (stage, i) in enumerate(places):
        theirs, ours = f"blocks.{stage}.{i}", f"blocks.{block}"
        yield from ((f"{theirs}.conv_dw", f"{ours}.depthwise.conv"), (f"{theirs}.bn1", f"{ours}.depthwise.bn"))
        yield from ((f"{theirs}.conv_pw", f"{ours}.pointwise.conv"), (f"{theirs}.bn2", f"{ours}.pointwise.bn"))


SPECS = (
    ModelSpec(
        name="mobilenetv1",
        description="13 depthwise separable convolutions",
        paper="arXiv 1704.04861",
        input_px=224,
        preprocess=INCEPTION_PREPROCESS,
        published=PublishedFigures(top1=70.6, macs=569e6, params=4.2e6, source="arXiv 1704.04861, table 8"),
        builder=build,
        conventions={"timm:mobilenetv1_100": dict(_timm_names())},
        imagenet=PublishedWeights(
            url="https://huggingface.co/timm/mobilenetv1_100.ra4_e3600_r224_in1k/resolve/main/model.safetensors",
            sha256=None,
            names="timm:mobilenetv1_100",
            preprocess=INCEPTION_PREPROCESS,
            source="timm mobilenetv1_100.ra4_e3600_r224_in1k",
        ),
        options=frozenset({"depth_multiplier", "groups"}),
    ),
)
