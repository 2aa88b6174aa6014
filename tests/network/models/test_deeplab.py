"""DeepLabV3+: its parts against direct formulas and other definitions, its strides, and what it counts."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import numpy as np
import oracles
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.network.models.aligned_xception import AlignedXception
from edgec.pipeline.network.models.atrous import Decoder, ImagePooling, SpatialPyramid, Stride, resized
from edgec.pipeline.network.models.complexity import count_complexity
from edgec.pipeline.network.models.families.xception65 import XCEPTION_65, XCEPTION_71, Module, timm_names
from edgec.pipeline.network.models.initialise import initialise
from edgec.pipeline.network.models.shapes import layer_shapes
from edgec.pipeline.network.models.spec import NetworkConfig, build_network

needs_timm = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")
needs_torchvision = pytest.mark.skipif(
    importlib.util.find_spec("torchvision") is None, reason="torchvision is not installed"
)


def settled(network: nn.Module) -> nn.Module:
    """Numbers that keep every batch norm from being the identity."""
    torch.manual_seed(0)
    initialise(network)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network.eval()


def normalised(x: np.ndarray, layers: nn.Module) -> np.ndarray:
    bn = layers.get_submodule("bn")
    mean, var, scale, shift = (
        value.detach().numpy().reshape(1, -1, 1, 1) for value in (bn.running_mean, bn.running_var, bn.weight, bn.bias)
    )
    return (x - mean) / np.sqrt(var + bn.eps) * scale + shift


def atrous(x: np.ndarray, weight: np.ndarray, rate: int) -> np.ndarray:
    """``y[i] = sum_k x[i + rate * k] w[k]`` (1802.02611, equation 1), channel by channel, nothing beyond the border."""
    padded = np.pad(x, ((0, 0), (0, 0), (rate, rate), (rate, rate)))
    height, width = x.shape[2:]
    y = np.zeros_like(x)
    for i in range(3):
        for j in range(3):
            window = padded[:, :, i * rate : i * rate + height, j * rate : j * rate + width]
            y += window * weight[:, 0, i, j][None, :, None, None]
    return y


def pointwise(x: np.ndarray, layers: nn.Module) -> np.ndarray:
    weight = layers.get_submodule("conv").weight.detach().numpy()[:, :, 0, 0]
    return np.maximum(normalised(np.einsum("oc,nchw->nohw", weight, x), layers), 0)


def separable(x: np.ndarray, layers: nn.Module, rate: int) -> np.ndarray:
    depthwise = layers.get_submodule("depthwise")
    weight = depthwise.get_submodule("conv").weight.detach().numpy()
    return pointwise(np.maximum(normalised(atrous(x, weight, rate), depthwise), 0), layers.get_submodule("pointwise"))


def test_the_pyramid_by_its_formula() -> None:
    pyramid = settled(SpatialPyramid(5, 4, (2, 3, 9)))
    x = torch.randn(2, 5, 7, 7)
    values = x.numpy()
    pooled = pointwise(values.mean(axis=(2, 3), keepdims=True), pyramid.image_pooling.project)
    branches = [
        pointwise(values, pyramid.pointwise),
        *(separable(values, layers, rate) for layers, rate in zip(pyramid.atrous, (2, 3, 9), strict=True)),
        np.broadcast_to(pooled, (2, 4, 7, 7)),
    ]
    expected = pointwise(np.concatenate(branches, axis=1), pyramid.project)
    np.testing.assert_allclose(pyramid(x).detach().numpy(), expected, atol=2e-5)


def bilinear(x: np.ndarray, side: int) -> np.ndarray:
    """Corners on corners for odd sides, else pixel centres at halves."""
    length = x.shape[-1]
    at = np.arange(side) * (length - 1) / (side - 1) if side % 2 else (np.arange(side) + 0.5) * length / side - 0.5
    at = np.clip(at, 0, length - 1)
    low = np.minimum(np.floor(at).astype(int), length - 2)
    share = at - low
    rows = x[..., low, :] * (1 - share)[:, None] + x[..., low + 1, :] * share[:, None]
    return np.asarray(rows[..., low] * (1 - share) + rows[..., low + 1] * share)


@pytest.mark.parametrize(("small", "large"), [(3, 9), (5, 17), (4, 16)])
def test_resizing_is_by_4_whatever_the_sides(small: int, large: int) -> None:
    x = torch.randn(1, 2, small, small)
    found = resized(x, (large, large)).numpy()
    np.testing.assert_allclose(found, bilinear(x.numpy(), large), atol=1e-6)
    if large % 2:
        assert np.array_equal(found[..., ::4, ::4], x.numpy())  # a point stays where it was


def test_the_decoder_by_its_formula() -> None:
    decoder = settled(Decoder(6, 8, 3))
    low, x = torch.randn(1, 6, 9, 9), torch.randn(1, 8, 3, 3)
    joined = np.concatenate([bilinear(x.numpy(), 9), pointwise(low.numpy(), decoder.low_level)], axis=1)
    expected = separable(separable(joined, decoder.refine[0], 1), decoder.refine[1], 1)
    np.testing.assert_allclose(decoder(low, x).detach().numpy(), expected, atol=2e-5)


def test_where_strides_end_rates_begin() -> None:
    stride = Stride(8, now=2)
    assert [stride.take(s) for s in (2, 1, 2, 2, 1, 2, 1)] == [(2, 1), (1, 1), (2, 1), (1, 1), (1, 2), (1, 2), (1, 4)]


@pytest.mark.parametrize(
    "model", ["deeplabv3plus-mobilenetv2", "deeplabv3plus-mobilenetv3", "deeplabv3plus-xception65"]
)
@pytest.mark.parametrize(("stride", "side", "rates"), [(16, 5, (6, 12, 18)), (8, 9, (12, 24, 36))])
def test_sizes_and_rates(model: str, stride: int, side: int, rates: tuple[int, ...]) -> None:
    """1802.02611, section 4: rates double at half the stride, the decoder works at stride 4 always."""
    network = build_network(NetworkConfig(model, 0.25, 65, 3, output_stride=stride))
    shapes = {layer.name: layer for layer in layer_shapes(network, 65)}
    for i, rate in enumerate(rates):
        layer = shapes[f"pyramid.atrous.{i}.depthwise.conv"]
        assert layer.module.dilation == (rate, rate)
        assert layer.output_shape[2:] == (side, side)
    assert shapes["decoder.low_level.conv"].input_shape[2:] == (17, 17)
    assert shapes["classifier"].output_shape[2:] == (17, 17)
    assert network.eval()(torch.zeros(1, 3, 65, 65)).shape == (1, 3, 65, 65)


def without_borders(network: nn.Module) -> Iterator[torch.utils.hooks.RemovableHandle]:
    """What lies outside is what lies at the border: a constant picture stays constant."""

    def pad(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
        reach = module.dilation[0] * (module.kernel_size[0] // 2)
        return (F.pad(inputs[0], (reach,) * 4, mode="replicate"),)

    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size != (1, 1):
            module.padding = (0, 0)
            yield module.register_forward_pre_hook(pad)


@pytest.mark.parametrize(
    "model", ["deeplabv3plus-mobilenetv2", "deeplabv3plus-mobilenetv3", "deeplabv3plus-xception65"]
)
def test_output_stride_8_is_16_on_a_constant_picture(model: str) -> None:
    answers = []
    for stride in (16, 8):  # ``settled`` is seeded: the same numbers
        network = settled(build_network(NetworkConfig(model, 0.25, 65, 3, output_stride=stride)))
        list(without_borders(network))
        with torch.no_grad():
            answers.append(network(torch.full((1, 3, 65, 65), 0.3)))
    assert float(answers[0].std(dim=(2, 3)).max()) < 1e-4 * float(answers[0].abs().max())
    torch.testing.assert_close(answers[0], answers[1], rtol=1e-4, atol=1e-4)


def test_argmax_answers_with_classes() -> None:
    config = NetworkConfig("deeplabv3plus-mobilenetv2", 0.25, 64, 3)
    network = settled(build_network(config))
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        logits = network(x)
        network.argmax = True
        classes = network(x)
    assert classes.shape == (2, 64, 64)
    assert torch.equal(classes, logits.argmax(dim=1))


@pytest.mark.parametrize("options", [{"output_stride": 8}, {"argmax": True}])
def test_a_classifier_has_no_such_options(options: dict) -> None:
    with pytest.raises(EdgecError) as refusal:
        build_network(NetworkConfig("mobilenetv2", **options))
    assert refusal.value.code == "invalid-network-option"
    with pytest.raises(EdgecError) as refusal:
        build_network(NetworkConfig("deeplabv3plus-mobilenetv2", 0.25, 65, output_stride=4))
    assert refusal.value.code == "invalid-network-option"


def test_multiply_adds_are_those_of_the_authors() -> None:
    """54.17e9 at 513 px and output stride 16 (their model zoo); theirs counts resizing and additions too."""
    network = build_network(NetworkConfig("deeplabv3plus-xception65", num_classes=21))
    assert count_complexity(network, 513).macs == pytest.approx(54.17e9, rel=0.003)


@needs_timm
@pytest.mark.parametrize("stride", [8, 16])
@pytest.mark.parametrize("modules", [XCEPTION_65, XCEPTION_71], ids=["65", "71"])
def test_features_equal_those_of_timm(modules: tuple[Module, ...], stride: int) -> None:
    """Of two blocks of the middle flow, which are all alike; the whole by its shapes."""
    name = "timm:xception65" if modules is XCEPTION_65 else "timm:xception71"
    with torch.device("meta"):
        theirs = oracles.make(name)
        ours = AlignedXception(modules, 1.0, 16)
    shapes = {key: value.shape for key, value in ours.state_dict().items()}
    renamed = dict(timm_names(modules))
    parts = [(key.rpartition("."), value) for key, value in theirs.state_dict().items() if "head" not in key]
    assert {f"{renamed[module]}.{leaf}": value.shape for (module, _, leaf), value in parts} == shapes

    from timm.models.xception_aligned import XceptionAligned

    few = tuple(row for i, row in enumerate(modules) if not len(modules) - 16 <= i < len(modules) - 2)
    channels, blocks = 64, []
    for row in few:
        plain = {"no_skip": True, "start_with_relu": False} if not row.relu_first else {}
        blocks.append({"in_chs": channels, "out_chs": row.channels, "stride": row.stride, **plain})
        channels = row.channels[-1]
    norm = lambda c, **_: nn.BatchNorm2d(c, eps=1e-3)  # noqa: E731
    other = settled(XceptionAligned(blocks, output_stride=stride, norm_layer=norm))
    mine = AlignedXception(few, 1.0, stride).eval()
    table = dict(timm_names(few))
    state = {key.rpartition("."): value for key, value in other.state_dict().items() if "head" not in key}
    mine.load_state_dict({f"{table[module]}.{leaf}": value for (module, _, leaf), value in state.items()})
    x = torch.randn(1, 3, 65, 65)
    with torch.no_grad():
        expected, (low, found) = other.forward_features(x), mine(x)
    assert low.shape[1:] == (256, 17, 17)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@needs_torchvision
def test_branches_that_torchvision_has_too_are_equal() -> None:
    """Its atrous convolutions are not separable; the 1x1, the pooling and the projection are the same."""
    oracles.make("torchvision:mobilenet_v2")
    from torchvision.models.segmentation.deeplabv3 import ASPP

    theirs, ours = settled(ASPP(6, [2, 3, 4], 4)), SpatialPyramid(6, 4, (2, 3, 4)).eval()
    for mine, other in (
        (ours.pointwise, theirs.convs[0]),
        (ours.image_pooling.project, list(theirs.convs[-1])[1:]),
        (ours.project, theirs.project),
    ):
        for layer, source in zip((mine.conv, mine.bn), (other[0], other[1]), strict=True):
            layer.load_state_dict(source.state_dict())
    x, joined = torch.randn(2, 6, 5, 5), torch.randn(2, 20, 5, 5)
    torch.testing.assert_close(ours.pointwise(x), theirs.convs[0](x))
    torch.testing.assert_close(ours.image_pooling(x), theirs.convs[-1](x))
    torch.testing.assert_close(ours.project(joined), theirs.project(joined))


def test_image_pooling_is_one_value_everywhere() -> None:
    pooling = settled(ImagePooling(3, 4))
    y = pooling(torch.randn(1, 3, 5, 6))
    assert y.shape == (1, 4, 5, 6)
    torch.testing.assert_close(y, y[:, :, :1, :1].expand_as(y))
