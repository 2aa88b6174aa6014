"""What each layer computes, saves and sees: known answers, then torch's own gradients."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgec.pipeline.network.layers import Layer, layers_of
from edgec.pipeline.network.models.atrous import resized
from edgec.pipeline.network.models.blocks import SeparableConv, SqueezeExcite
from edgec.pipeline.network.models.shapes import steps
from edgec.pipeline.network.models.spec import NetworkConfig, shape_network


def layers(*modules: nn.Module, px: int = 16) -> tuple[Layer, ...]:
    return layers_of(steps(nn.Sequential(*modules), px))


class TestSaving:
    def test_textbook(self) -> None:
        """3 channels to 4 under a 3x3 window: 108 weights, or 27 + 12 = 39."""
        depthwise, pointwise = layers(SeparableConv(3, 4))
        assert (depthwise.kind, pointwise.kind) == ("depthwise", "pointwise")
        assert (depthwise.weights, pointwise.weights) == (27, 12)
        saving = pointwise.saving
        assert saving is not None
        assert depthwise.saving is None
        assert (saving.weights, saving.plain_weights) == (39, 108)
        assert (saving.macs, saving.plain_macs) == (39 * 256, 108 * 256)

    @given(st.integers(2, 9), st.integers(1, 20), st.sampled_from([3, 5]), st.integers(1, 2))
    @settings(max_examples=20, deadline=None)
    def test_equation(self, channels: int, out: int, kernel: int, stride: int) -> None:
        """1/N + 1/k^2, whatever the stride."""
        before = nn.Conv2d(3, channels, 1)
        depthwise = nn.Conv2d(channels, channels, kernel, stride, kernel // 2, groups=channels)
        found = layers(before, depthwise, nn.ReLU(), nn.Conv2d(channels, out, 1))[-1].saving
        assert found is not None
        assert found.macs / found.plain_macs == pytest.approx(1 / out + 1 / kernel**2)
        assert found.weights / found.plain_weights == pytest.approx(1 / out + 1 / kernel**2)

    def test_grouped_saves_its_groups_and_plain_nothing(self) -> None:
        plain, grouped, pointwise = layers(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 12, 3, groups=4), nn.Conv2d(12, 4, 1), px=9)
        assert plain.saving is pointwise.saving is None
        assert grouped.kind == "grouped"
        assert grouped.saving is not None
        assert grouped.saving.times == 4
        assert grouped.saving.plain_weights == 8 * 12 * 9

    def test_squeeze_excite_between_the_halves_is_none_of_them(self) -> None:
        """Also where the map is one place, and its own 1x1 layers look like the second half."""
        for px in (1, 8):
            depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
            found = layers(nn.Conv2d(3, 8, 1), depthwise, SqueezeExcite(8, 8), nn.Conv2d(8, 6, 1), px=px)
            assert [layer.saving is not None for layer in found] == [False, False, False, False, True]


class TestFigures:
    def test_shares_of_mobilenetv1_equal_table_2(self) -> None:
        """arXiv 1704.04861. It prints 1.19 for the plain convolution, and so a sum of 99.29; 1.91 fits."""
        found = layers_of(steps(shape_network(NetworkConfig("mobilenetv1")), 224))
        macs, weights = sum(layer.macs for layer in found), sum(layer.weights for layer in found)
        shares = {
            kind: tuple(
                round(100 * sum(getattr(layer, field) for layer in found if layer.kind == kind) / total, 2)
                for field, total in (("macs", macs), ("weights", weights))
            )
            for kind in ("pointwise", "depthwise", "plain", "product")
        }
        assert shares["pointwise"] == (94.86, 74.59)
        assert shares["depthwise"] == (3.06, 1.06)
        assert shares["plain"] == (1.91, 0.02)
        assert shares["product"] == (0.18, 24.33)

    def test_of_one_layer(self) -> None:
        (layer,) = layers(nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=True), nn.BatchNorm2d(8)), px=16)
        assert layer.macs == 8 * 8 * 8 * 27
        assert layer.params == 8 * 27 + 8 + 16
        assert layer.activations == 3 * 256 + 8 * 64
        assert layer.macs_per_element == pytest.approx(layer.macs / (216 + 1280))

    def test_of_a_product(self) -> None:
        layer = layers(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 5))[0]
        assert (layer.kind, layer.macs, layer.params, layer.activations) == ("product", 15, 20, 8)
        assert layer.sees_all


def seen_by_gradients(network: nn.Module, px: int) -> tuple[int, int]:
    """Height and width of the part of the picture that acts on the place in the middle of the output."""
    picture = torch.zeros(1, 3, px, px, requires_grad=True)
    for parameter in network.parameters():
        nn.init.uniform_(parameter, 0.5, 1.0)
    result = network(picture)
    result[0, :, result.shape[2] // 2, result.shape[3] // 2].sum().backward()
    assert picture.grad is not None
    rows = picture.grad.abs().sum((0, 1, 3)).nonzero()
    columns = picture.grad.abs().sum((0, 1, 2)).nonzero()
    return int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1


SIDES = st.sampled_from([1, 2, 3])
WINDOWS = st.tuples(st.sampled_from(["conv", "pool"]), SIDES, SIDES, st.sampled_from([1, 2]), st.sampled_from([1, 2]))


class TestReceptiveField:
    @given(st.lists(WINDOWS, min_size=1, max_size=4))
    @settings(max_examples=30, deadline=None)
    def test_of_chains_is_what_gradients_reach(self, rows: list[tuple[str, int, int, int, int]]) -> None:
        modules: list[nn.Module] = []
        for kind, height, width, stride, rate in rows:
            if kind == "conv":
                modules.append(nn.Conv2d(3, 3, (height, width), stride, dilation=rate))
            else:
                modules.append(nn.AvgPool2d((height, width), stride))
        network = nn.Sequential(*modules, nn.Conv2d(3, 3, 1))
        assert layers_of(steps(network, 97))[-1].receptive_field_px == seen_by_gradients(network, 97)

    def test_of_branches_is_the_widest(self) -> None:
        class Both(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.near, self.far = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=6, dilation=6)
                self.last = nn.Conv2d(6, 2, 1)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return self.last(torch.cat((self.near(x) + x, self.far(x)), 1))

        assert layers(Both(), px=33)[-1].receptive_field_px == seen_by_gradients(Both(), 33) == (13, 13)

    @pytest.mark.parametrize("px", [32, 33], ids=["centres", "corners"])
    def test_through_an_enlargement(self, px: int) -> None:
        """A place between two of the coarse ones reads both."""

        class Up(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.down, self.fine = nn.Conv2d(3, 3, 3, 4, 1), nn.Conv2d(3, 3, 3, padding=1)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return self.fine(resized(self.down(x), x.shape[-2:]))

        (bound, _), (seen, _) = layers(Up(), px=px)[-1].receptive_field_px, seen_by_gradients(Up(), px)
        assert bound == 13  # 3, then a coarse step of 4 to both sides, then a fine one
        assert bound - 6 <= seen <= bound

    def test_of_a_gate_is_the_window_and_the_whole(self) -> None:
        found = layers(nn.Conv2d(3, 8, 3, padding=1), SqueezeExcite(8, 4), nn.Conv2d(8, 4, 3), px=16)
        assert found[-1].receptive_field_px == (5, 5)
        assert [layer.sees_all for layer in found] == [False, True, True, True]

    def test_of_mobilenetv1(self) -> None:
        """By hand: 3, then +2 at jumps 2, 2, 4, 4, 8, 8 and six times 16, then 32: the stride comes after its layer."""
        network = shape_network(NetworkConfig("mobilenetv1", 0.25))
        last = next(found for found in layers_of(steps(network, 224)) if found.name == "blocks.12.depthwise.conv")
        assert last.receptive_field_px == (3 + 2 * (2 + 2 + 4 + 4 + 8 + 8 + 6 * 16 + 32),) * 2
        assert not last.sees_all
