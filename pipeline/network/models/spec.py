"""What a model is, before any torch: paper, preprocessing, published figures, options of the network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.foreign import foreign
from edgec.pipeline.data.preprocess import Preprocess

if TYPE_CHECKING:
    from torch import nn

Padding = Literal["torch", "tf-same"]
IntermediateActivation = Literal["none", "relu", "elu"]

IMAGENET_PREPROCESS = Preprocess()
INCEPTION_PREPROCESS = Preprocess(mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5))
"""Pixels to -1..1, as every TensorFlow MobileNet and Xception was trained."""


@dataclass(frozen=True)
class NetworkConfig:
    """One network of a family: everything that decides its layers and shapes.

    Attributes:
        model: name in the registry.
        width_multiplier: factor on the channels of every layer, alpha of arXiv 1704.04861.
        input_px: side of the square input; the model's own where None.
        num_classes: length of the logits.
        padding: ``torch`` pads both sides alike; ``tf-same`` puts the odd row and column at the bottom and right,
            computed for ``input_px``, as TensorFlow does. Weights trained under one lose points under the other.
        depth_multiplier: depthwise filters per input channel of a separable convolution.
        output_stride: side of the input over that of the encoder's features, 16 or 8; 16 where None.
        argmax: the network answers with the class of each pixel instead of logits.
        intermediate_activation: between depthwise and pointwise of Xception's separable convolutions; the paper
            compares none, ReLU and ELU (arXiv 1610.02357, figure 10) and none wins.
        groups: segments of the channels that the spatial half of a separable convolution looks at, each for itself:
            from 1, a plain convolution, to one for each channel, depthwise, where None (1610.02357, section 1.2).
        residual: modules have the shortcuts that the paper gives them (1610.02357, figure 9; 1801.04381, figure 6b).
    """

    model: str
    width_multiplier: float = 1.0
    input_px: int | None = None
    num_classes: int = 1000
    padding: Padding = "torch"
    depth_multiplier: int = 1
    intermediate_activation: IntermediateActivation = "none"
    output_stride: int | None = None
    argmax: bool = False
    groups: int | None = None
    residual: bool = True


@dataclass(frozen=True)
class PublishedFigures:
    """What the paper states for width 1.0; None where it says nothing. All but ``params`` and ``macs`` in percent.

    Attributes:
        top1: and ``top5`` on the ImageNet validation set.
        miou: on the validation set of Pascal VOC 2012.
    """

    top1: float | None
    params: float | None
    source: str
    macs: float | None = None
    top5: float | None = None
    miou: float | None = None


@dataclass(frozen=True)
class PublishedWeights:
    """ImageNet weights to download.

    Attributes:
        url: where the publisher keeps the file.
        sha256: of the whole file, in hex; None where no digest could be found, and then nothing is downloaded.
        names: naming convention of the state dict, a key of ``ModelSpec.conventions``.
        source: the publisher's name for them.
        top1: percent on the ImageNet validation set, as the publisher states it.
    """

    url: str
    sha256: str | None
    names: str
    preprocess: Preprocess
    source: str
    top1: float | None = None


@dataclass(frozen=True)
class ModelSpec:
    """One model of the registry.

    Attributes:
        builder: makes the torch network of a checked configuration; imports torch when called.
        conventions: parameter names of other definitions, ``{"torchvision:mobilenet_v2": {their module: ours}}``.
        imagenet: downloadable weights, or None.
        options: fields of ``NetworkConfig`` beyond width, resolution, classes and padding that the family has.
        task: what the outputs are for; None where they tell.
        num_classes: where neither the weights nor the user say how many.
        backbone: the classifying model whose layers its backbone has, under their names; None where there is none.
    """

    name: str
    description: str
    paper: str
    input_px: int
    preprocess: Preprocess
    published: PublishedFigures
    builder: Callable[[NetworkConfig], nn.Module]
    conventions: Mapping[str, Mapping[str, str]]
    imagenet: PublishedWeights | None = None
    options: frozenset[str] = frozenset()
    task: str | None = None
    num_classes: int = 1000
    backbone: str | None = None


_FOREIGN = {
    "depth_multiplier": "its depthwise and pointwise layers are not one separable convolution",
    "intermediate_activation": "its depthwise and pointwise layers are not one separable convolution",
    "output_stride": "it classifies whole pictures",
    "argmax": "it classifies whole pictures",
    "groups": "its depthwise layers are as its paper has them",
    "residual": "its shortcuts are as its paper has them",
}


def make_divisible(channels: float, divisor: int = 8) -> int:
    """Channels after a width multiplier: the nearest multiple of ``divisor``, never more than 10 % below.

    Source: ``_make_divisible`` of the MobileNetV2 release in tensorflow/models, which every later family repeats.
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def at_resolution(preprocess: Preprocess, input_px: int) -> Preprocess:
    """The same preprocessing for another input size: resize and crop keep their ratio."""
    _, side, _ = preprocess.shape
    return replace(preprocess, crop_px=input_px, resize_px=round(preprocess.resize_px * input_px / side))


def build_network(config: NetworkConfig) -> nn.Module:
    """Make the torch network, freshly initialised, in training mode.

    Input ``(N, 3, input_px, input_px)`` float32, output logits ``(N, num_classes)``, or ``(N, num_classes, H, W)``.

    Raises:
        EdgecError: ``unknown-model``, ``bad-extension``; ``invalid-network-option`` for a value out of range or an
            option that the family does not have.
    """
    from edgec.pipeline.network.models.initialise import initialise

    network = _padded_network(config)
    initialise(network)
    return network


def shape_network(config: NetworkConfig) -> nn.Module:
    """The same network for ``models.shapes``: edgec's own hold no numbers, which for a large one take a second to draw.

    Raises:
        EdgecError: what ``build_network`` raises.
    """
    import torch

    from edgec.pipeline.network.models import get

    with torch.device("meta" if _is_own(get(config.model)) else "cpu"):
        return _padded_network(config)


def _padded_network(config: NetworkConfig) -> nn.Module:
    from edgec.pipeline.network.models import get
    from edgec.pipeline.network.models.padding import use_tf_same

    spec = get(config.model)
    _check(config, spec)
    network = made_by(spec, config)
    if config.padding == "tf-same":
        use_tf_same(network, config.input_px or spec.input_px)
    return network


def made_by(spec: ModelSpec, config: NetworkConfig) -> nn.Module:
    """What the family's builder makes. Whatever one of another package raises is its own fault.

    Raises:
        EdgecError: ``bad-extension``.
    """
    from torch import nn

    if _is_own(spec):
        return spec.builder(config)
    with foreign(lambda said: _misbuilt(spec, said)):
        network = spec.builder(config)
    if not isinstance(network, nn.Module):
        raise _misbuilt(spec, f"its builder gave {type(network).__name__}")
    return network


def _is_own(spec: ModelSpec) -> bool:
    """edgec's own, not another package's."""
    return str(getattr(spec.builder, "func", spec.builder).__module__).startswith("edgec.")


def _misbuilt(spec: ModelSpec, why: str) -> EdgecError:
    message = f"'{spec.builder.__module__}' cannot build its network '{spec.name}': {why}"
    return EdgecError("bad-extension", message, "mend or remove the package that brings it")


def _check(config: NetworkConfig, spec: ModelSpec) -> None:
    input_px = config.input_px or spec.input_px
    expectations = {
        "width_multiplier": (0.0 < config.width_multiplier <= 4.0, "more than 0 and at most 4"),
        "input_px": (32 <= input_px <= 4096, "32 to 4096"),
        "num_classes": (config.num_classes >= 1, "1 or more"),
        "padding": (config.padding in ("torch", "tf-same"), "'torch' or 'tf-same'"),
        "depth_multiplier": (config.depth_multiplier >= 1, "1 or more"),
        "output_stride": (config.output_stride in (None, 8, 16), "8 or 16"),
        "groups": (config.groups is None or config.groups >= 1, "1 or more"),
        "intermediate_activation": (config.intermediate_activation in ("none", "relu", "elu"), "none, relu or elu"),
    }
    for option, (holds, expected) in expectations.items():
        if not holds:
            message = f"{option}: expected {expected}, got '{getattr(config, option)}'"
            raise EdgecError("invalid-network-option", message, f"leave {option} away for '{spec.name}' as published")
    default = NetworkConfig(config.model)
    for option, missing in _FOREIGN.items():
        if option not in spec.options and getattr(config, option) != getattr(default, option):
            message = f"'{spec.name}' has no {option}: {missing}"
            raise EdgecError("invalid-network-option", message, f"leave {option} at {getattr(default, option)!r}")
