"""What the networks are made of: the papers' tables, their options, and what they refuse."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn

from edgec.pipeline.core.code import import_closure
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.data.preprocess import Preprocess
from edgec.pipeline.network import models
from edgec.pipeline.network.models import families
from edgec.pipeline.network.models.blocks import InvertedResidual, SqueezeExcite
from edgec.pipeline.network.models.families import mobilenetv2, mobilenetv3, xception
from edgec.pipeline.network.models.shapes import layer_shapes
from edgec.pipeline.network.models.spec import (
    NetworkConfig,
    at_resolution,
    build_network,
    make_divisible,
    shape_network,
)


def test_registry_is_the_files() -> None:
    files = {path.stem for path in Path(families.__path__[0]).glob("*.py")} - {"__init__"}
    named = models.names()
    assert {name.partition("-")[0] for name in named} == files
    assert len(set(named)) == len(named)
    assert all(models.get(name).name == name for name in named)


@pytest.mark.parametrize(("wrong", "hint"), [("mobilnetv3", "mobilenetv3"), ("xeption", "xception"), ("zzz", "known:")])
def test_unknown_model_names_the_nearest(wrong: str, hint: str) -> None:
    with pytest.raises(EdgecError) as caught:
        models.get(wrong)
    assert caught.value.code == "unknown-model"
    assert hint in caught.value.hint


def test_the_code_of_an_export_is_that_of_its_family_and_of_what_all_share() -> None:
    def code(name: str) -> set[str]:
        builder = models.get(name).builder
        return set(import_closure([getattr(builder, "func", builder).__module__]))

    families = "edgec.pipeline.network.models.families"
    assert code("mobilenetv3") == code("mobilenetv3-small")
    assert f"{families}.mobilenetv3" in code("mobilenetv3") - code("mobilenetv2")
    assert "edgec.pipeline.network.models.blocks" in code("mobilenetv2") & code("xception")


def test_specifications_load_no_torch() -> None:
    code = (
        "import sys; from edgec.pipeline.network import models; from edgec.pipeline.network.models import weights;"
        "[models.get(name) for name in models.names()];"
        "weights.resolve_weights('random', models.get('xception'));"
        "sys.exit(any(heavy in sys.modules for heavy in ('torch', 'onnx', 'pydantic', 'scipy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("model", models.names())
@pytest.mark.parametrize("padding", ["torch", "tf-same"])
def test_every_model_takes_every_common_option(model: str, padding: str) -> None:
    network = build_network(NetworkConfig(model, 0.25, 64, 7, padding)).eval()
    sides = (64, 64) if models.get(model).task == "segmentation" else ()
    assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 7, *sides)


def test_width_multiplier_scales_channels_and_keeps_a_multiple_of_8() -> None:
    half = {layer.name: layer for layer in layer_shapes(build_network(NetworkConfig("mobilenetv1", 0.5)), 224)}
    assert half["stem.conv"].output_shape == (1, 16, 112, 112)
    assert half["blocks.12.pointwise.conv"].output_shape == (1, 512, 7, 7)


def test_mobilenetv2_keeps_1280_below_width_1_and_grows_above() -> None:
    heads = {
        width: build_network(NetworkConfig("mobilenetv2", width)).classifier.in_features for width in (0.5, 1.0, 1.4)
    }
    assert heads == {0.5: 1280, 1.0: 1280, 1.4: 1792}


def test_mobilenetv2_blocks_follow_table_2() -> None:
    blocks = [m for m in build_network(NetworkConfig("mobilenetv2")).modules() if isinstance(m, InvertedResidual)]
    assert len(blocks) == sum(row.n for row in mobilenetv2.TABLE_2) == 17
    assert [i for i, block in enumerate(blocks) if block.has_shortcut] == [2, 4, 5, 7, 8, 9, 11, 12, 14, 15]
    assert isinstance(blocks[0].expand, nn.Identity)  # t = 1
    assert not any(isinstance(layer, nn.ReLU6) for block in blocks for layer in block.project)  # linear bottleneck


def test_shortcut_needs_stride_1_and_equal_channels() -> None:
    def block(channels_out: int, stride: int) -> InvertedResidual:
        return InvertedResidual(16, 64, channels_out, 3, stride, activation=nn.ReLU6).eval()

    assert block(16, 1).has_shortcut
    assert not block(16, 2).has_shortcut
    assert not block(24, 1).has_shortcut
    x, with_shortcut = torch.randn(1, 16, 8, 8), block(16, 1)
    nn.init.zeros_(with_shortcut.project.conv.weight)
    torch.testing.assert_close(with_shortcut(x), x)


@pytest.mark.parametrize(
    ("model", "table"), [("mobilenetv3", mobilenetv3.LARGE), ("mobilenetv3-small", mobilenetv3.SMALL)]
)
def test_mobilenetv3_blocks_follow_their_table(model: str, table: mobilenetv3.Table) -> None:
    blocks = [m for m in build_network(NetworkConfig(model)).modules() if isinstance(m, InvertedResidual)]
    for block, row in zip(blocks, table.rows, strict=True):
        depthwise = block.depthwise.conv
        assert (depthwise.kernel_size[0], depthwise.stride[0], depthwise.groups) == (row.kernel, row.s, row.exp_size)
        assert isinstance(block.squeeze_excite, SqueezeExcite) == row.se
        assert isinstance(block.depthwise.act, nn.Hardswish) == (row.nl == "HS")
        assert block.project.conv.out_channels == row.out


def test_mobilenetv3_uses_modules_that_export_as_single_operators() -> None:
    modules = list(build_network(NetworkConfig("mobilenetv3")).modules())
    assert sum(isinstance(m, nn.Hardswish) for m in modules) == 21
    assert sum(isinstance(m, nn.Hardsigmoid) for m in modules) == 8


def test_xception_flows_have_the_sizes_of_figure_5() -> None:
    sizes = {
        layer.name: layer.output_shape[1:] for layer in layer_shapes(build_network(NetworkConfig("xception")), 299)
    }
    assert sizes["blocks.2.residual.pool"] == (728, 19, 19)
    assert sizes["blocks.10.residual.bn2"] == (728, 19, 19)
    assert sizes["blocks.11.residual.pool"] == (1024, 10, 10)
    assert sizes["conv4.relu"] == (2048, 10, 10)
    assert len(xception.MIDDLE_FLOW) == 8


def test_xception_activates_before_every_separable_convolution_but_the_first() -> None:
    network = build_network(NetworkConfig("xception", 0.25))
    first, second = (list(network.get_submodule(f"blocks.{i}.residual")._modules) for i in (0, 1))
    assert first == ["separable0", "bn0", "relu1", "separable1", "bn1", "pool"]  # the stem has activated its output
    assert second == ["relu0", "separable0", "bn0", "relu1", "separable1", "bn1", "pool"]


@pytest.mark.parametrize(("activation", "kind"), [("none", None), ("relu", nn.ReLU), ("elu", nn.ELU)])
def test_xception_switch_between_depthwise_and_pointwise(activation: str, kind: type | None) -> None:
    network = build_network(NetworkConfig("xception", 0.25, intermediate_activation=activation))
    separable = network.get_submodule("blocks.3.residual.separable1")
    layers = [type(layer) for layer in separable]
    assert layers[1:-1] == ([kind] if kind else [])


@pytest.mark.parametrize(
    ("model", "layer"), [("mobilenetv1", "blocks.0.depthwise.conv"), ("xception", "conv3.separable.depthwise")]
)
def test_depth_multiplier_adds_filters_per_channel(model: str, layer: str) -> None:
    once = build_network(NetworkConfig(model, 0.25)).get_submodule(layer)
    twice = build_network(NetworkConfig(model, 0.25, depth_multiplier=2)).get_submodule(layer)
    assert twice.out_channels == 2 * once.out_channels
    assert twice.groups == once.groups == once.in_channels


SWITCHABLE = ("mobilenetv1", "mobilenetv2", "mobilenetv3", "mobilenetv3-small", "xception")


def spatial(model: str, groups: int | None) -> list[nn.Conv2d]:
    """The spatial halves of all separable convolutions."""
    network = shape_network(NetworkConfig(model, 0.25, groups=groups))
    return [
        m
        for name, m in network.named_modules()
        if name.endswith(("depthwise", "depthwise.conv")) and hasattr(m, "groups")
    ]


@pytest.mark.parametrize("model", SWITCHABLE)
def test_groups_are_one_spectrum_from_plain_to_depthwise(model: str) -> None:
    """Weights of a layer fall as its groups grow; the network's shapes stay."""
    depthwise = spatial(model, None)
    assert len(depthwise) > 10
    assert all(layer.groups == layer.in_channels for layer in depthwise)
    for groups in (1, 8):
        layers = spatial(model, groups)
        assert all(layer.groups == groups for layer in layers)
        for layer, alone in zip(layers, depthwise, strict=True):
            assert layer.weight.numel() == alone.weight.numel() * layer.in_channels // groups
            assert (layer.in_channels, layer.out_channels) == (alone.in_channels, alone.out_channels)
    with pytest.raises(EdgecError, match="groups: 7 does not divide") as caught:
        spatial(model, 7)
    assert caught.value.code == "invalid-network-option"


@pytest.mark.parametrize("model", ["mobilenetv2", "mobilenetv3-small", "xception"])
def test_without_residuals_a_module_is_its_branch(model: str) -> None:
    """The same layers in the branches, with the same names, and their output alone."""
    config = NetworkConfig(model, 0.25, 64, 4)
    with_all, without = build_network(config).eval(), build_network(replace(config, residual=False)).eval()
    names = {name for name in with_all.state_dict() if ".skip." not in name}
    assert without.state_dict().keys() == names
    block = 3 if model == "xception" else 2
    kept, cut = with_all.get_submodule(f"blocks.{block}"), without.get_submodule(f"blocks.{block}")
    cut.load_state_dict(kept.state_dict())
    channels = next(m for m in kept.modules() if isinstance(m, nn.Conv2d)).in_channels
    image = torch.rand(1, channels, 8, 8)
    with torch.no_grad():
        assert torch.allclose(kept(image.clone()), cut(image.clone()) + image, atol=1e-5)


@pytest.mark.parametrize("options", [{"groups": 1}, {"residual": False}])
def test_switches_of_other_families_are_refused(options: dict) -> None:
    with pytest.raises(EdgecError) as caught:
        build_network(NetworkConfig("deeplabv3plus-mobilenetv2", **options))
    assert caught.value.code == "invalid-network-option"


BAD_OPTIONS = [
    {"width_multiplier": 0.0},
    {"width_multiplier": float("nan")},
    {"width_multiplier": 100.0},
    {"input_px": 16},
    {"num_classes": 0},
    {"padding": "same"},
    {"depth_multiplier": 0},
    {"intermediate_activation": "gelu"},
    {"depth_multiplier": 2},
    {"intermediate_activation": "relu"},
    {"groups": 0},
    {"groups": 7},
]


@pytest.mark.parametrize("options", BAD_OPTIONS, ids=lambda options: "-".join(f"{k}={v}" for k, v in options.items()))
def test_option_out_of_range_or_foreign_to_the_family(options: dict) -> None:
    with pytest.raises(EdgecError) as caught:
        build_network(NetworkConfig("mobilenetv2", **options))
    assert caught.value.code == "invalid-network-option"
    assert next(iter(options)) in caught.value.message


@given(st.floats(1, 4096))
@example(11.0)  # 8 is the nearest multiple, and 27 % below: 16
def test_make_divisible_keeps_the_promise_of_its_docstring(channels: float) -> None:
    rounded = make_divisible(channels)
    assert rounded % 8 == 0
    assert rounded >= 0.9 * channels
    assert rounded <= max(8, channels + 8)


def test_resolution_keeps_the_ratio_of_resize_to_crop() -> None:
    assert at_resolution(Preprocess(), 112) == Preprocess(resize_px=128, crop_px=112)
