"""Shapes and operators without arithmetic, against torch's own forward pass."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from edgec.pipeline.network import models
from edgec.pipeline.network.layers import layers_of
from edgec.pipeline.network.models.shapes import layer_shapes, steps
from edgec.pipeline.network.models.spec import NetworkConfig, build_network, shape_network


def really(network: nn.Module, px: int) -> list[tuple[str, tuple[int, ...], tuple[int, ...]]]:
    """Shapes of the leaf modules as a real forward pass makes them."""
    found = []
    for name, module in network.named_modules():
        if not any(module.children()):
            module.register_forward_hook(
                lambda _, inputs, output, name=name: found.append((name, tuple(inputs[0].shape), tuple(output.shape)))
            )
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, px, px))
    return found


@pytest.mark.parametrize("padding", ["torch", "tf-same"])
@pytest.mark.parametrize("model", models.names())
def test_shapes_are_those_of_a_real_pass(model: str, padding: str) -> None:
    config = NetworkConfig(model, 0.25, 65, 7, padding)
    found = [(layer.name, layer.input_shape, layer.output_shape) for layer in layer_shapes(shape_network(config), 65)]
    assert found == really(build_network(config), 65)


@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 2), st.integers(1, 2), st.integers(9, 12), st.booleans())
def test_any_convolution_or_pooling(
    kernel: int, stride: int, padding: int, rate: int, px: int, ceil_mode: bool
) -> None:
    layers = [
        nn.Conv2d(3, 4, kernel, stride, padding, rate, bias=False),
        nn.Conv2d(3, 6, kernel, padding="same" if kernel % 2 else "valid", groups=3),
    ]
    layers.append(nn.MaxPool2d(kernel, stride, min(padding, kernel // 2), ceil_mode=ceil_mode))
    for layer in layers:
        network = nn.Sequential(layer)
        assert [layer_shapes(network, px)[0].output_shape] == [after for _, _, after in really(network, px)]


@pytest.mark.parametrize("model", models.names())
def test_every_parameter_belongs_to_a_layer(model: str) -> None:
    network = shape_network(NetworkConfig(model, 0.25, 64))
    layers = layers_of(steps(network, 64))
    assert sum(layer.params for layer in layers) == sum(parameter.numel() for parameter in network.parameters())
    weighted = {name for name, module in network.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)}
    assert {layer.name for layer in layers} == weighted
    assert len(layers) == len(weighted)


def test_reading_leaves_the_network_in_training_mode_without_hooks() -> None:
    network = build_network(NetworkConfig("mobilenetv3-small", 0.25))
    steps(network, 64)
    assert network.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
