"""DeepLabV3+: atrous spatial pyramid pooling on a backbone, and a decoder (arXiv 1802.02611)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from edgec.pipeline.data.preprocess import Preprocess
from edgec.pipeline.network.models.families import mobilenetv2, mobilenetv3
from edgec.pipeline.network.models.families.xception65 import XCEPTION_65, XCEPTION_71, Module
from edgec.pipeline.network.models.spec import (
    ModelSpec,
    NetworkConfig,
    PublishedFigures,
    make_divisible,
)

if TYPE_CHECKING:
    from torch import nn

NUM_CLASSES = 21  # Pascal VOC's
INPUT_PX = 513
"""1802.02611, section 4: crops of 513, so that each stride keeps corners on corners."""

HALF = (127.5, 127.5, 127.5)

Dense: TypeAlias = "tuple[nn.Module, tuple[int, int]]"
"""A module that gives features at stride 4 and at the output stride, and their channels."""

Backbone = Callable[[NetworkConfig, int], Dense]
"""Made from a configuration and an output stride."""


def build(backbone: Backbone, config: NetworkConfig) -> nn.Module:
    """Figure 2 as a network."""
    from edgec.pipeline.network.models.atrous import ASPP_CHANNELS, LOW_LEVEL_CHANNELS, RATES, DeepLabV3Plus

    stride = config.output_stride or 16
    features, channels = backbone(config, stride)
    aspp, low = (make_divisible(c * config.width_multiplier) for c in (ASPP_CHANNELS, LOW_LEVEL_CHANNELS))
    return DeepLabV3Plus(features, channels, aspp, low, RATES[stride], config.num_classes, argmax=config.argmax)


def _mobile(family: Callable[[NetworkConfig], nn.Module], config: NetworkConfig, stride: int) -> Dense:
    """Stem and inverted residuals of a MobileNet; both outputs are linear bottlenecks."""
    from edgec.pipeline.network.models.atrous import DenseMobileNet

    network = DenseMobileNet(family(config), stride)
    return network, (network.low_level_channels, network.channels)


def _xception(modules: tuple[Module, ...], config: NetworkConfig, stride: int) -> Dense:
    from edgec.pipeline.network.models.aligned_xception import AlignedXception

    network = AlignedXception(modules, config.width_multiplier, stride)
    return network, (network.low_level_channels, network.channels)


def _spec(
    backbone: str, features: Backbone, words: str, preprocess: Preprocess, figures: PublishedFigures
) -> ModelSpec:
    return ModelSpec(
        name=f"deeplabv3plus-{backbone}",
        description=f"atrous pyramid and decoder on {words}",
        paper="arXiv 1802.02611",
        input_px=INPUT_PX,
        preprocess=preprocess,
        published=figures,
        builder=partial(build, features),
        conventions={},
        options=frozenset({"output_stride", "argmax"}),
        task="segmentation",
        num_classes=NUM_CLASSES,
        backbone=None if backbone == "xception71" else backbone,
    )


WHOLE = Preprocess(resize_px=INPUT_PX, crop_px=INPUT_PX)
ZOO = "tensorflow/models, research/deeplab, model zoo: xception_coco_voc_trainaug at output stride 16"
NONE = PublishedFigures(None, None, "none: the paper has no such backbone with this decoder")

SPECS = (
    _spec("mobilenetv2", partial(_mobile, mobilenetv2.build), "MobileNetV2", WHOLE, NONE),
    _spec("mobilenetv3", partial(_mobile, partial(mobilenetv3.build, mobilenetv3.LARGE)), "MobileNetV3", WHOLE, NONE),
    _spec(
        "xception65",
        partial(_xception, XCEPTION_65),
        "aligned Xception-65",
        Preprocess(resize_px=INPUT_PX, crop_px=INPUT_PX, mean=HALF, std=HALF),
        PublishedFigures(None, None, ZOO, macs=54.17e9, miou=82.2),
    ),
    _spec(
        "xception71",
        partial(_xception, XCEPTION_71),
        "aligned Xception-71",
        Preprocess(resize_px=INPUT_PX, crop_px=INPUT_PX, mean=HALF, std=HALF),
        PublishedFigures(None, None, "arXiv 1802.02611, table 7: Cityscapes alone"),
    ),
)
