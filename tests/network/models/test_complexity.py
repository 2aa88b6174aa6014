"""Counts against the papers' own."""

from __future__ import annotations

import pytest

from edgec.pipeline.network import models
from edgec.pipeline.network.models.complexity import count_complexity
from edgec.pipeline.network.models.spec import NetworkConfig, build_network


def _count(model: str, width: float = 1.0, input_px: int | None = None):
    spec = models.get(model)
    return count_complexity(build_network(NetworkConfig(model, width)), input_px or spec.input_px)


@pytest.mark.parametrize(
    ("model", "macs", "params"),
    [
        # arXiv 1704.04861, table 8: both to the digits printed.
        ("mobilenetv1", pytest.approx(569e6, abs=0.5e6), pytest.approx(4.2e6, abs=0.05e6)),
        # arXiv 1801.04381, table 4. 3,504,872 with batch norm, 3,470,760 without its 34,112 numbers: printed as 3.4.
        ("mobilenetv2", pytest.approx(300e6, abs=1e6), pytest.approx(3.45e6, abs=0.06e6)),
        # arXiv 1905.02244v5, table 3. The paper is 1.1 % above a count of convolutions and linear layers, and prints
        # 5,483,032 parameters as 5.4.
        ("mobilenetv3", pytest.approx(219e6, rel=0.012), pytest.approx(5.45e6, abs=0.05e6)),
        ("mobilenetv3-small", pytest.approx(56e6, abs=0.6e6), pytest.approx(2.5e6, abs=0.05e6)),
        # arXiv 1610.02357, table 3 prints 22,855,952; MACs it does not state, ours is that of figure 5.
        ("xception", pytest.approx(8357e6, abs=1e6), 22_855_952),
    ],
)
def test_counts_equal_the_papers(model: str, macs: object, params: object) -> None:
    counted = _count(model)
    assert counted.macs == macs
    assert counted.params == params


def test_params_are_exactly_those_of_the_oracles() -> None:
    """torchvision's ``num_params`` in its weights' metadata."""
    assert [_count(name).params for name in ("mobilenetv2", "mobilenetv3", "mobilenetv3-small")] == [
        3_504_872,
        5_483_032,
        2_542_856,
    ]


@pytest.mark.parametrize(("width", "macs_m", "params_m"), [(0.75, 325, 2.6), (0.5, 149, 1.3), (0.25, 41, 0.5)])
def test_mobilenetv1_width_multiplier_equals_table_6(width: float, macs_m: float, params_m: float) -> None:
    counted = _count("mobilenetv1", width)
    assert counted.macs / 1e6 == pytest.approx(macs_m, abs=0.5)
    assert counted.params / 1e6 == pytest.approx(params_m, abs=0.05)


@pytest.mark.parametrize(("input_px", "macs_m"), [(192, 418), (160, 290), (128, 186)])
def test_mobilenetv1_resolution_multiplier_equals_table_7(input_px: int, macs_m: float) -> None:
    assert _count("mobilenetv1", input_px=input_px).macs / 1e6 == pytest.approx(macs_m, abs=0.7)


def test_saving_of_mobilenetv1_equals_table_4() -> None:
    """Table 4: 4,866 M multiply-adds with plain convolutions, 569 M with separable ones."""
    counted = _count("mobilenetv1")
    assert counted.plain_macs / 1e6 == pytest.approx(4866, abs=2)
    assert counted.separable_saving == pytest.approx(8.55, abs=0.02)


def test_saving_skips_squeeze_excite_between_depthwise_and_pointwise() -> None:
    """One bottleneck by hand: 16 -> 16 -> 16 at stride 2 of MobileNetV3-small, 112 px in, 56 px out."""
    counted = _count("mobilenetv3-small", input_px=224)
    pair, plain = 56 * 56 * 16 * (9 + 16), 56 * 56 * 9 * 16 * 16
    assert counted.plain_macs - counted.macs > plain - pair
    without_se = sum(
        saved
        for saved in (
            px * px * (k * k * exp * out - k * k * exp - exp * out)
            for px, k, exp, out in [
                (56, 3, 16, 16),
                (28, 3, 72, 24),
                (28, 3, 88, 24),
                (14, 5, 96, 40),
                (14, 5, 240, 40),
                (14, 5, 240, 40),
                (14, 5, 120, 48),
                (14, 5, 144, 48),
                (7, 5, 288, 96),
                (7, 5, 576, 96),
                (7, 5, 576, 96),
            ]
        )
    )
    assert counted.plain_macs - counted.macs == without_se


def test_counting_leaves_the_network_in_training_mode_without_hooks() -> None:
    network = build_network(NetworkConfig("mobilenetv3-small", 0.25))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    count_complexity(network, 64)
    assert network.training
    assert not any(module._forward_hooks for module in network.modules())
    assert all((tensor == before[name]).all() for name, tensor in network.state_dict().items())
