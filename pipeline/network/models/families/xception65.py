"""Aligned Xception as a classifier: the backbone of DeepLabV3+ before its pyramid (arXiv 1802.02611, figure 4)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from edgec.pipeline.network.models.families.xception import PREPROCESS
from edgec.pipeline.network.models.spec import ModelSpec, NetworkConfig, PublishedFigures

if TYPE_CHECKING:
    from torch import nn


class Module(NamedTuple):
    """One residual module of figure 4: output channels of its three separable convolutions, stride of the last.

    ``relu_first``: ReLU before each separable convolution and none inside. Else batch norm and ReLU follow both of its
    halves, and there is no shortcut: the last module of the exit flow.
    """

    channels: tuple[int, int, int]
    stride: int = 1
    relu_first: bool = True


STEM_CHANNELS = (32, 64)
MIDDLE_FLOW = 16 * (Module((728, 728, 728)),)
EXIT_FLOW = (Module((728, 1024, 1024), 2), Module((1536, 1536, 2048), relu_first=False))
XCEPTION_65 = (
    Module((128, 128, 128), 2),
    Module((256, 256, 256), 2),
    Module((728, 728, 728), 2),
    *MIDDLE_FLOW,
    *EXIT_FLOW,
)
XCEPTION_71 = (
    Module((128, 128, 128), 2),
    Module((256, 256, 256)),
    Module((256, 256, 256), 2),
    Module((728, 728, 728)),
    Module((728, 728, 728), 2),
    *MIDDLE_FLOW,
    *EXIT_FLOW,
)


def build(modules: tuple[Module, ...], config: NetworkConfig) -> nn.Module:
    """The modules of figure 4 with a classifier behind them."""
    from edgec.pipeline.network.models.aligned_xception import AlignedXceptionClassifier

    return AlignedXceptionClassifier(modules, config.width_multiplier, config.num_classes)


def timm_names(modules: tuple[Module, ...]) -> Iterator[tuple[str, str]]:
    """(timm's module, ours), as ``XceptionAligned`` names them."""
    for i in (0, 1):
        yield from ((f"stem.{i}.conv", f"stem.conv{i + 1}.conv"), (f"stem.{i}.bn", f"stem.conv{i + 1}.bn"))
    channels = STEM_CHANNELS[-1]
    for i, row in enumerate(modules):
        for k, ours in enumerate(("before.separable0", "before.separable1", "last")):
            for half, short in (("depthwise", "dw"), ("pointwise", "pw")):
                for theirs in ("conv", "bn"):
                    yield (f"blocks.{i}.stack.conv{k + 1}.{theirs}_{short}", f"blocks.{i}.{ours}.{half}.{theirs}")
        if row.relu_first and (row.stride > 1 or row.channels[-1] != channels):
            yield from ((f"blocks.{i}.shortcut.{part}", f"blocks.{i}.skip.{part}") for part in ("conv", "bn"))
        channels = row.channels[-1]
    yield ("head.fc", "classifier")


SPECS = (
    ModelSpec(
        name="xception65",
        description="aligned Xception-65: strided separable convolutions for max pools, 16 x middle flow",
        paper="arXiv 1802.02611",
        input_px=299,
        preprocess=PREPROCESS,
        published=PublishedFigures(top1=None, params=None, source="none: the paper has it as a backbone alone"),
        builder=partial(build, XCEPTION_65),
        conventions={"timm:xception65": dict(timm_names(XCEPTION_65))},
    ),
)
