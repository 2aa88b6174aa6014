"""A model family of another package. Brought by the entry point ``edgec.models``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgec.pipeline.data.preprocess import Preprocess
from edgec.pipeline.network.models.spec import ModelSpec, NetworkConfig, PublishedFigures

if TYPE_CHECKING:
    from torch import nn


def _network(config: NetworkConfig) -> nn.Module:
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, config.num_classes),
    )


SPECS = (
    ModelSpec(
        name="toynet",
        description="one convolution",
        paper="none",
        input_px=32,
        preprocess=Preprocess(resize_px=36, crop_px=32, mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5)),
        published=PublishedFigures(top1=0.0, params=300.0, source="nobody"),
        builder=_network,
        conventions={},
    ),
)
