"""Checks the latency estimate for Jetson boards against published figures, and fits its constants to them.

    python benchmarks/jetson_estimate.py

No GPU is used and nothing is measured here: the figures are other people's, the estimates are computed. For each
network the constants are fitted once more without its figures (leave one network out): that error is the honest one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import torch
from scipy.optimize import least_squares
from torch import Tensor, nn

from edgec.pipeline.forms.spec import load_target
from edgec.pipeline.network.export import export_onnx
from edgec.pipeline.network.models.spec import NetworkConfig, build_network
from edgec.targets.tensorrt.roofline import Constants, Kernel, kernel_seconds, kernels

ORIN = "onnxsim's scripts/nvidia/README.md: Orin Nano 8GB, MAXN_SUPER, TensorRT 10.3.0, trtexec, mean GPU ms"
NANO = "kentaroy47/benchmark-FP32-FP16-INT8-with-TensorRT: Jetson Nano, torch2trt, 256 px"


@dataclass(frozen=True)
class Published:
    """One figure of a source."""

    board: str
    network: str
    input_px: int
    batch: int
    precision: str
    milliseconds: float
    source: str


def orin(network: str, batch: int, fp16_ms: float, int8_ms: float) -> list[Published]:
    return [
        Published("jetson-orin-nano", network, 224, batch, precision, value, ORIN)
        for precision, value in (("fp16", fp16_ms), ("int8", int8_ms))
    ]


PUBLISHED = [
    *orin("resnet18", 1, 0.758, 0.485),
    *orin("resnet18", 8, 3.537, 1.927),
    *orin("resnet50", 1, 1.814, 1.190),
    *orin("resnet50", 8, 8.816, 4.930),
    *orin("mobilenetv2", 1, 0.850, 0.781),
    *orin("mobilenetv2", 8, 3.925, 2.446),
]
OTHER_BOARD = [
    Published("jetson-nano", "resnet18", 256, 1, "fp16", 18.0, NANO),
    Published("jetson-nano", "resnet50", 256, 1, "fp16", 42.0, NANO),
]


class Residual(nn.Module):
    """A block of He et al., CVPR 2016, without batch norm, which folds away."""

    def __init__(self, shapes: Sequence[tuple[int, int, int, int]], stride: int) -> None:
        super().__init__()
        layers = [nn.Conv2d(i, o, k, s, k // 2) for i, o, k, s in shapes]
        self.body = nn.Sequential(*[part for layer in layers for part in (layer, nn.ReLU())][:-1])
        first, last = shapes[0][0], shapes[-1][1]
        self.shortcut = nn.Conv2d(first, last, 1, stride) if stride > 1 or first != last else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


def resnet(blocks: Iterable[int], bottleneck: bool) -> nn.Module:
    """ResNet of Table 1 there; the stride of a bottleneck is in its 3x3 convolution."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 7, 2, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    width = 64
    for stage, count in enumerate(blocks):
        inner = 64 << stage
        for index in range(count):
            stride = 2 if stage and not index else 1
            if bottleneck:
                shapes = [(width, inner, 1, 1), (inner, inner, 3, stride), (inner, 4 * inner, 1, 1)]
            else:
                shapes = [(width, inner, 3, stride), (inner, inner, 3, 1)]
            layers.append(Residual(shapes, stride))
            width = shapes[-1][1]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 1000))


@cache
def network_kernels(network: str, input_px: int, batch: int, precision: str) -> list[Kernel]:
    """Kernels of a network; in INT8 every tensor counts as one byte, which holds for these three."""
    makers = {
        "resnet18": lambda: resnet((2, 2, 2, 2), bottleneck=False),
        "resnet50": lambda: resnet((3, 4, 6, 3), bottleneck=True),
        "mobilenetv2": lambda: build_network(NetworkConfig("mobilenetv2")),
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.onnx"
        export_onnx(makers[network]().eval(), input_px, path)
        model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    found = kernels(model)
    if precision == "fp16":
        return found
    return [replace(kernel, integer=True, bytes=kernel.bytes // 2) for kernel in found]


def estimated_ms(figure: Published, constants: Constants) -> float:
    gpu = load_target(figure.board).device.gpu
    assert gpu is not None
    found = network_kernels(figure.network, figure.input_px, figure.batch, figure.precision)
    return 1000 * sum(kernel_seconds(found, gpu, figure.precision, constants) or [])


def fit(figures: Sequence[Published]) -> Constants:
    """Constants with the least squares of log ratios."""

    def residuals(values: np.ndarray) -> np.ndarray:
        constants = Constants(*np.exp(values))
        return np.array([np.log(estimated_ms(figure, constants) / figure.milliseconds) for figure in figures])

    return Constants(*(float(value) for value in np.exp(least_squares(residuals, np.log([6.0, 0.5, 0.7])).x)))


def main() -> None:
    torch.set_num_threads(1)
    everything = fit(PUBLISHED)
    print(f"fitted: {everything}")
    print(f"used:   {Constants()}")
    print(
        f"{'board':<18}{'network':<13}{'batch':>5} {'':<5}{'published':>10}{'estimate':>10}{'ratio':>7}{'left out':>9}"
    )
    for figure in [*PUBLISHED, *OTHER_BOARD]:
        value = estimated_ms(figure, Constants())
        others = [other for other in PUBLISHED if other.network != figure.network]
        left_out = estimated_ms(figure, fit(others) if figure in PUBLISHED else Constants())
        print(
            f"{figure.board:<18}{figure.network:<13}{figure.batch:>5} {figure.precision:<5}{figure.milliseconds:>10.3f}"
            f"{value:>10.3f}{value / figure.milliseconds:>7.2f}{left_out / figure.milliseconds:>9.2f}"
        )
    for source in (ORIN, NANO):
        print(f"source: {source}")


if __name__ == "__main__":
    main()
