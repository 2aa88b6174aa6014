"""Public definitions with weights that nobody trained, but whose signals keep their scale; and both exporters.

Trained weights are not to be had offline and would not be the project's to hand out. Seeded ones as a library draws
them are no substitute: signals die or explode within a few layers. So every batch norm gets the statistics of pictures,
and the small numbers that training would grow (a residual branch's last batch norm, ConvNeXt's layer scale) are drawn
instead of left at zero. An untrained network also amplifies noise from layer to layer; scales of 0.25 to 0.75 and
shifts around 0.5 let it amplify less. ``noise_db`` says how much is left: the output's signal to noise where every
convolution's output gets one percent of noise (40 dB).
"""

from __future__ import annotations

import json
import sys
import warnings
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from answers import decibels, read_pictures
from torch import Tensor, nn

LEAST_PX = 96


@dataclass(frozen=True)
class Definition:
    """A network of a library.

    Attributes:
        origin: ``library:function``.
        options: of the function.
        least_px: side of the smallest input that the network takes.
    """

    origin: str
    options: dict[str, Any] = field(default_factory=dict)
    least_px: int = LEAST_PX


VISION = {"weights": None}
SEGMENTS = {"weights": None, "weights_backbone": None}

NETWORKS = {
    "resnet18": Definition("torchvision:resnet18", VISION),
    "squeezenet1_1": Definition("torchvision:squeezenet1_1", VISION),
    "googlenet": Definition("torchvision:googlenet", {**VISION, "aux_logits": False, "init_weights": True}),
    "inception_v3": Definition("torchvision:inception_v3", {**VISION, "aux_logits": False, "init_weights": True}, 128),
    "shufflenet_v2_x0_5": Definition("torchvision:shufflenet_v2_x0_5", VISION),
    "shufflenet_v2_x1_0": Definition("torchvision:shufflenet_v2_x1_0", VISION),
    "mnasnet0_5": Definition("torchvision:mnasnet0_5", VISION),
    "mnasnet1_0": Definition("torchvision:mnasnet1_0", VISION),
    "efficientnet_b0": Definition("torchvision:efficientnet_b0", VISION),
    "regnet_y_400mf": Definition("torchvision:regnet_y_400mf", VISION),
    "densenet121": Definition("torchvision:densenet121", VISION),
    "mobilenet_v2": Definition("torchvision:mobilenet_v2", VISION),
    "mobilenet_v3_small": Definition("torchvision:mobilenet_v3_small", VISION),
    "lraspp_mobilenet_v3_large": Definition("torchvision:segmentation.lraspp_mobilenet_v3_large", SEGMENTS),
    "deeplabv3_mobilenet_v3_large": Definition("torchvision:segmentation.deeplabv3_mobilenet_v3_large", SEGMENTS),
    "efficientnet_lite0": Definition("timm:efficientnet_lite0"),
    "mobilenetv4_conv_small": Definition("timm:mobilenetv4_conv_small"),
    "ghostnet_100": Definition("timm:ghostnet_100"),
    "repvgg_a0": Definition("timm:repvgg_a0"),
    "mobileone_s0": Definition("timm:mobileone_s0"),
    "fbnetc_100": Definition("timm:fbnetc_100"),
    "convnext_atto": Definition("timm:convnext_atto"),
    "legacy_xception": Definition("timm:legacy_xception"),
    "xception41": Definition("timm:xception41"),
}
EXPORTERS = ("torchscript", "dynamo")


class _FirstOutput(nn.Module):
    """Segmentation networks answer with a dictionary, which ONNX has not."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)["out"]  # type: ignore[no-any-return]


def made(name: str, pictures: Tensor) -> nn.Module:
    """The network with seeded weights and the statistics of ``pictures`` ``(N, 3, H, W)``, in inference mode."""
    definition = NETWORKS[name]
    torch.manual_seed(zlib.crc32(name.encode()))
    library, path = definition.origin.split(":")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = _vision(path, definition.options) if library == "torchvision" else _timm(path, definition.options)
    network.eval()
    _draw_scales(network)
    _calibrate(network, pictures)
    return network


def _vision(path: str, options: dict[str, Any]) -> nn.Module:
    fragment = torch.library.Library("torchvision", "FRAGMENT")
    if not hasattr(torch.ops.torchvision, "nms"):  # what torchvision expects of its own binary part
        for operator in ("nms", "qnms"):
            fragment.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _KEPT.append(fragment)
    import torchvision

    function: Any = torchvision.models
    for part in path.split("."):
        function = getattr(function, part)
    network: nn.Module = function(**options)
    return _FirstOutput(network) if path.startswith("segmentation") else network


_KEPT: list[Any] = []
"""Operators vanish with the library that defined them."""


def _timm(name: str, options: dict[str, Any]) -> nn.Module:
    _vision("resnet18", VISION)  # timm imports torchvision
    import timm

    return timm.create_model(name, pretrained=False, **options)  # type: ignore[no-any-return]


def _draw_scales(network: nn.Module) -> None:
    for module in _norms(network):
        nn.init.uniform_(module.weight, 0.25, 0.75)
        nn.init.normal_(module.bias, 0.5, 0.3)
    for name, parameter in network.named_parameters():
        if name.endswith(".gamma") and parameter.abs().max() < 1e-3:  # ConvNeXt's layer scale
            nn.init.uniform_(parameter, 0.1, 0.5)


def _calibrate(network: nn.Module, pictures: Tensor) -> None:
    """One batch through the network; every batch norm keeps the statistics of that batch."""
    for norm in _norms(network):
        norm.momentum = 1.0
        norm.train()
    with torch.no_grad():
        network(pictures)
    network.eval()


def _norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


def noise_db(network: nn.Module, pictures: Tensor) -> float:
    """Of the outputs, where noise of one percent of its deviation is added to every convolution's output."""
    torch.manual_seed(0)
    clean = network(pictures)

    def disturb(module: nn.Module, given: object, output: Tensor) -> Tensor:
        return output + 0.01 * output.std() * torch.randn_like(output)

    handles = [module.register_forward_hook(disturb) for module in network.modules() if isinstance(module, nn.Conv2d)]
    noisy = network(pictures)
    for handle in handles:
        handle.remove()
    return decibels(noisy.numpy(), clean.numpy())


def export(network: nn.Module, exporter: str, px: int, path: Path) -> None:
    """Write ``path``: TorchScript with a symbolic batch, or dynamo as ``torch.onnx.export`` does by default."""
    image = torch.zeros(1, 3, px, px)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if exporter == "dynamo":
            torch.onnx.export(network, (image,), path, input_names=["input"], dynamo=True, verbose=False)
        else:
            axes = {"input": {0: "batch"}}
            torch.onnx.export(network, (image,), path, input_names=["input"], dynamo=False, dynamic_axes=axes)


def main() -> None:
    name, exporter, px, folder, path = sys.argv[1:]
    pictures = torch.from_numpy(read_pictures(sorted(Path(folder).rglob("*.jpg")), int(px)))
    network = made(name, pictures)
    with torch.no_grad():
        facts = {"px": int(px), "noise_db": noise_db(network, pictures)}
    Path(path).with_suffix(".json").write_text(json.dumps(facts))
    export(network, exporter, int(px), Path(path))


if __name__ == "__main__":
    main()
