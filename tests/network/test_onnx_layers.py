"""An ONNX file read layer by layer, as the network that it was exported from."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from test_cost import depthwise_separable

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.network.export import export_onnx
from edgec.pipeline.network.layers import Layer, layers_of
from edgec.pipeline.network.models.shapes import steps
from edgec.pipeline.network.models.spec import NetworkConfig, build_network
from edgec.pipeline.network.onnx_layers import onnx_steps


def facts(layer: Layer) -> tuple[object, ...]:
    """Everything but the name, and the parameters that a folded batch norm changes."""
    weights = (layer.weights, layer.activations, layer.macs, layer.groups, layer.saving)
    return (layer.kind, layer.kernel, *weights, layer.output_shape, layer.receptive_field_px, layer.sees_all)


@pytest.mark.parametrize(
    ("model", "px"), [("mobilenetv3-small", 64), ("xception", 65), ("deeplabv3plus-mobilenetv2", 65)]
)
def test_a_file_has_the_layers_of_its_network(model: str, px: int, tmp_path: Path) -> None:
    network = build_network(NetworkConfig(model, 0.25, px, 5))
    export_onnx(network, px, tmp_path / "m.onnx")
    found = layers_of(onnx_steps(onnx.load(tmp_path / "m.onnx")))
    assert [facts(layer) for layer in found] == [facts(layer) for layer in layers_of(steps(network, px))]


def test_transposed_and_pooled(tmp_path: Path) -> None:
    network = torch.nn.Sequential(
        torch.nn.MaxPool2d(3, 2),
        torch.nn.ConvTranspose2d(3, 4, 4, 2, 1),
        torch.nn.Conv2d(4, 2, 3),
        torch.nn.AvgPool2d(2),
    )
    export_onnx(network, 33, tmp_path / "m.onnx")
    found = layers_of(onnx_steps(onnx.load(tmp_path / "m.onnx")))
    assert [facts(layer) for layer in found] == [facts(layer) for layer in layers_of(steps(network, 33))]
    assert found[0].receptive_field_px == (3 + 2, 3 + 2)  # 4 taps at half steps reach two places


def test_q_and_dq_change_nothing() -> None:
    plain, quantized = (layers_of(onnx_steps(depthwise_separable(quantized))) for quantized in (False, True))
    assert [facts(layer) for layer in quantized] == [facts(layer) for layer in plain]
    assert [layer.params for layer in quantized] == [layer.params for layer in plain] == [8 * 27 + 8, 72, 40]
    assert [layer.kind for layer in plain] == ["plain", "depthwise", "product"]


def test_unknown_sizes_are_refused() -> None:
    model = depthwise_separable(False)
    for axis in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        axis.dim_param = "side"
    del model.graph.value_info[:]
    with pytest.raises(EdgecError) as caught:
        onnx_steps(model)
    assert caught.value.code == "no-count"
