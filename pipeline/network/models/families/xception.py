"""Xception: depthwise separable convolutions with residuals, in three flows (arXiv 1610.02357, figure 5)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from edgec.pipeline.data.preprocess import Preprocess
from edgec.pipeline.network.models.spec import (
    ModelSpec,
    NetworkConfig,
    PublishedFigures,
    PublishedWeights,
    make_divisible,
)

if TYPE_CHECKING:
    from torch import nn


class Module(NamedTuple):
    """One residual module of figure 5: output channels of its separable convolutions, stride of its max pool.

    ``relu_first`` is false only for the module after the stem, whose input is activated already.
    """

    channels: tuple[int, ...]
    stride: int
    relu_first: bool = True


STEM_CHANNELS = (32, 64)
ENTRY_FLOW = (Module((128, 128), 2, relu_first=False), Module((256, 256), 2), Module((728, 728), 2))
MIDDLE_FLOW = 8 * (Module((728, 728, 728), 1),)
EXIT_FLOW = (Module((728, 1024), 2),)
EXIT_SEPARABLES = (1536, 2048)
MODULES = ENTRY_FLOW + MIDDLE_FLOW + EXIT_FLOW


def build(config: NetworkConfig) -> nn.Module:
    """Figure 5 as a network. The two stem convolutions do not pad, as in the author's own release (Keras)."""
    from collections import OrderedDict

    from torch import nn

    from edgec.pipeline.network.models.blocks import BATCH_NORM, ConvBN, SeparableConv, XceptionModule

    intermediate = {"none": None, "relu": nn.ReLU, "elu": nn.ELU}[config.intermediate_activation]
    separable = partial(
        SeparableConv, depth_multiplier=config.depth_multiplier, intermediate=intermediate, groups=config.groups
    )
    block = partial(XceptionModule, separable=separable, shortcut=config.residual)

    def width(channels: int) -> int:
        return make_divisible(channels * config.width_multiplier)

    first, channels = (width(c) for c in STEM_CHANNELS)
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=ConvBN(3, first, 3, 2, padding=0, activation=nn.ReLU),
        conv2=ConvBN(first, channels, 3, padding=0, activation=nn.ReLU),
    )
    modules: list[nn.Module] = []
    for row in MODULES:
        widths = tuple(width(c) for c in row.channels)
        modules.append(block(channels, widths, row.stride, relu_first=row.relu_first))
        channels = widths[-1]
    layers["blocks"] = nn.Sequential(*modules)
    for name, out in zip(("conv3", "conv4"), EXIT_SEPARABLES, strict=True):
        conv, channels = separable(channels, width(out)), width(out)
        layers[name] = nn.Sequential(OrderedDict(separable=conv, bn=BATCH_NORM(channels), relu=nn.ReLU()))
    layers["pool"], layers["flatten"] = nn.AdaptiveAvgPool2d(1), nn.Flatten()
    layers["classifier"] = nn.Linear(channels, config.num_classes)
    return nn.Sequential(layers)


def _timm_names() -> Iterator[tuple[str, str]]:
    for i in (1, 2):
        yield from ((f"conv{i}", f"conv{i}.conv"), (f"bn{i}", f"conv{i}.bn"))
    for i in (3, 4):
        yield from _timm_separable(f"conv{i}", f"conv{i}.separable")
        yield (f"bn{i}", f"conv{i}.bn")
    channels = STEM_CHANNELS[-1]
    for block, row in enumerate(MODULES):
        theirs, ours = f"block{block + 1}", f"blocks.{block}"
        for i in range(len(row.channels)):
            place = 3 * i + row.relu_first  # they count ReLU, convolution, batch norm in one list
            yield from _timm_separable(f"{theirs}.rep.{place}", f"{ours}.residual.separable{i}")
            yield (f"{theirs}.rep.{place + 1}", f"{ours}.residual.bn{i}")
        if row.stride > 1 or row.channels[-1] != channels:
            yield from ((f"{theirs}.skip", f"{ours}.skip.conv"), (f"{theirs}.skipbn", f"{ours}.skip.bn"))
        channels = row.channels[-1]
    yield ("fc", "classifier")


def _timm_separable(theirs: str, ours: str) -> Iterator[tuple[str, str]]:
    yield from ((f"{theirs}.conv1", f"{ours}.depthwise"), (f"{theirs}.pointwise", f"{ours}.pointwise"))


PREPROCESS = Preprocess(resize_px=333, crop_px=299, mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5))

SPECS = (
    ModelSpec(
        name="xception",
        description="entry flow, 8 x middle flow, exit flow of separable convolutions",
        paper="arXiv 1610.02357",
        input_px=299,
        preprocess=PREPROCESS,
        published=PublishedFigures(top1=79.0, top5=94.5, params=22_855_952, source="arXiv 1610.02357, tables 1 and 3"),
        builder=build,
        conventions={"timm:legacy_xception": dict(_timm_names())},
        imagenet=PublishedWeights(
            url="https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-cadene/xception-43020ad28.pth",
            sha256=None,
            names="timm:legacy_xception",
            preprocess=PREPROCESS,
            source="timm legacy_xception.tf_in1k",
        ),
        options=frozenset({"depth_multiplier", "intermediate_activation", "groups", "residual"}),
    ),
)
