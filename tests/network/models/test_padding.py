"""TensorFlow's SAME against its definition: where each output pixel looks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from edgec.pipeline.network.models.blocks import Conv2d
from edgec.pipeline.network.models.padding import same_pads, use_tf_same
from edgec.pipeline.network.models.spec import NetworkConfig, build_network


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "expected"),
    [
        (224, 3, 2, (0, 1)),
        (299, 3, 2, (1, 1)),
        (56, 5, 2, (1, 2)),
        (7, 3, 1, (1, 1)),
        (5, 2, 2, (0, 1)),
        (4, 1, 2, (0, 0)),
    ],
)
def test_pads_by_hand(size: int, kernel: int, stride: int, expected: tuple[int, int]) -> None:
    assert same_pads(size, kernel, stride) == expected


@given(st.integers(1, 300), st.integers(1, 7), st.integers(1, 3), st.integers(1, 3))
def test_output_is_size_over_stride_rounded_up(size: int, kernel: int, stride: int, dilation: int) -> None:
    before, after = same_pads(size, kernel, stride, dilation)
    reach = dilation * (kernel - 1) + 1
    assert 0 <= after - before <= 1
    if size + before + after >= reach:
        assert (size + before + after - reach) // stride + 1 == -(-size // stride)


@pytest.mark.parametrize("size", [11, 12])
@pytest.mark.parametrize("kernel", [3, 5])
def test_convolution_equals_an_explicit_loop(size: int, kernel: int) -> None:
    network = nn.Sequential(Conv2d(3, 1, kernel, stride=2, padding=kernel // 2, bias=False))
    use_tf_same(network, size)
    x = torch.randn(1, 3, size, size)
    before, _ = same_pads(size, kernel, 2)
    weight, image = network[0].weight.detach().numpy()[0], x.numpy()[0]
    expected = np.zeros((-(-size // 2),) * 2)
    for i, j in np.ndindex(*expected.shape):
        for dy, dx in np.ndindex(kernel, kernel):
            y, z = 2 * i + dy - before, 2 * j + dx - before
            if 0 <= y < size and 0 <= z < size:
                expected[i, j] += weight[:, dy, dx] @ image[:, y, z]
    np.testing.assert_allclose(network(x).detach().numpy()[0, 0], expected, atol=1e-5)


@pytest.mark.parametrize("size", [10, 11])
def test_max_pool_equals_an_explicit_loop(size: int) -> None:
    pool = nn.Sequential(nn.MaxPool2d(3, 2, padding=1))
    use_tf_same(pool, size)
    image = torch.randn(1, 3, size, size) - 5.0  # negative throughout: a padding value would win
    before, _ = same_pads(size, 3, 2)
    side = -(-size // 2)
    expected = torch.empty(1, 3, side, side)
    for i, j in np.ndindex(side, side):
        top, left = max(2 * i - before, 0), max(2 * j - before, 0)
        expected[:, :, i, j] = image[:, :, top : 2 * i - before + 3, left : 2 * j - before + 3].amax((2, 3))
    torch.testing.assert_close(pool(image), expected)


def test_symmetric_layers_keep_their_own_padding() -> None:
    network = build_network(NetworkConfig("mobilenetv1", padding="tf-same"))
    asymmetric = [name for name, m in network.named_modules() if isinstance(m, Conv2d) and m.asymmetric_pads]
    assert asymmetric == ["stem.conv", *(f"blocks.{i}.depthwise.conv" for i in (1, 3, 5, 11))]
    assert network.get_submodule("blocks.0.depthwise.conv").padding == (1, 1)


def test_padding_changes_no_parameter_name() -> None:
    for model in ("mobilenetv2", "xception"):
        plain = build_network(NetworkConfig(model, 0.25, 64)).state_dict()
        same = build_network(NetworkConfig(model, 0.25, 64, padding="tf-same")).state_dict()
        assert {k: v.shape for k, v in plain.items()} == {k: v.shape for k, v in same.items()}


@pytest.mark.parametrize("model", ["mobilenetv3-small", "xception"])
def test_pads_are_constants_in_the_exported_graph(model: str, tmp_path) -> None:
    """Nothing in the graph computes a shape: no Shape operator, every Pad's amounts follow from constants."""
    import onnx

    from edgec.pipeline.network.export import export_onnx

    network = build_network(NetworkConfig(model, 0.25, 96, 5, "tf-same")).eval()
    export_onnx(network, 96, tmp_path / "model.onnx")
    graph = onnx.load(tmp_path / "model.onnx").graph
    made_by = {output: node for node in graph.node for output in node.output}
    initializers = {initializer.name for initializer in graph.initializer}

    def is_constant(name: str) -> bool:
        node = made_by.get(name)
        return name in initializers if node is None else all(is_constant(source) for source in node.input if source)

    assert not any(node.op_type in ("Shape", "BatchNormalization") for node in graph.node)
    assert all(is_constant(node.input[1]) for node in graph.node if node.op_type == "Pad")
