"""Each part is what its name says: it fits into the unit disc, has its sides, its teeth, its bore."""

import numpy as np
import pytest

from edgec.calib_data.shapes import SHAPES, Array, Relief

SEEDS = range(5)
HAS_BORE = {name for name in SHAPES if name.endswith(("nut", "washer", "bearing", "ring"))} - {"spring"} | {
    "gear_8",
    "gear_10",
}


def random(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def at(name: str, x: Array, y: Array, seed: int) -> Relief:
    return SHAPES[name](np.asarray(x, np.float64), np.asarray(y, np.float64), random(seed))


def polar(radius: float, turn: Array) -> tuple[Array, Array]:
    return radius * np.cos(2 * np.pi * turn), radius * np.sin(2 * np.pi * turn)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("seed", SEEDS)
def test_lies_in_the_unit_disc_and_fills_part_of_it(name: str, seed: int) -> None:
    y, x = np.mgrid[-1.5:1.5:121j, -1.5:1.5:121j]
    relief = at(name, x, y, seed)
    inside = relief.distance < 0
    assert np.isfinite(relief.distance).all()
    assert np.isfinite(relief.height[inside]).all()
    assert not inside[np.hypot(x, y) > 1.12].any()
    assert 0.03 < inside[np.hypot(x, y) < 1].mean() < 0.95
    assert (relief.height[inside] > -0.2).all()


@pytest.mark.parametrize("name", sorted(HAS_BORE))
@pytest.mark.parametrize("seed", SEEDS)
def test_centre_is_open(name: str, seed: int) -> None:
    assert at(name, np.zeros(1), np.zeros(1), seed).distance[0] > 0


@pytest.mark.parametrize(("name", "count"), [("gear_8", 8), ("gear_10", 10)])
@pytest.mark.parametrize("seed", SEEDS)
def test_gear_has_its_teeth(name: str, count: int, seed: int) -> None:
    solid = at(name, *polar(0.9, np.arange(720) / 720), seed).distance < 0
    assert np.sum(solid & ~np.roll(solid, 1)) == count


@pytest.mark.parametrize(("name", "sides"), [("hex_nut", 6), ("square_nut", 4), ("flange_nut", 1)])
def test_nut_has_its_sides(name: str, sides: int) -> None:
    """Just inside the corners' radius a prism shows only its corners; the flange is round."""
    solid = at(name, *polar(0.97, np.arange(720) / 720), 0).distance < 0
    assert np.sum(solid & ~np.roll(solid, 1)) == (sides if sides > 1 else 0)
    assert solid.any()


@pytest.mark.parametrize(("name", "gaps"), [("washer", 0), ("lock_washer", 1), ("retaining_ring", 1)])
@pytest.mark.parametrize("seed", SEEDS)
def test_ring_is_closed_or_open(name: str, gaps: int, seed: int) -> None:
    solid = at(name, *polar(0.76, np.arange(720) / 720), seed).distance < 0
    assert np.sum(solid & ~np.roll(solid, 1)) == gaps
    assert solid.any()


@pytest.mark.parametrize("name", ["bolt", "cap_screw", "countersunk_screw"])
@pytest.mark.parametrize("seed", SEEDS)
def test_screw_has_one_head_and_a_stud_has_none(name: str, seed: int) -> None:
    y = np.linspace(-1, 1, 401)
    width = {x: np.sum(at(name, np.full_like(y, x), y, seed).distance < 0) for x in (-0.96, 0.5)}
    assert width[-0.96] > 1.5 * width[0.5]
    ends = [np.sum(at("stud", np.full_like(y, x), y, seed).distance < 0) for x in (-0.8, 0.8)]
    assert abs(ends[0] - ends[1]) <= 8


def test_rolling_elements_tell_the_bearings_apart() -> None:
    """A ball is as wide as long, a roller longer along the radius."""
    angle = np.linspace(-0.5, 0.5, 801)
    spans = {}
    for name in ("ball_bearing", "roller_bearing"):
        middle = at(name, *polar(0.69, angle / np.pi), 0).height
        spans[name] = np.mean(middle > 0.1)
    assert spans["roller_bearing"] < spans["ball_bearing"]
