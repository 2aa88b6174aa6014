"""The renderer obeys its geometry and its light."""

import numpy as np
import pytest

from edgec.calib_data.render import TEXTURES, Light, Material, Pose, draw, shifted
from edgec.calib_data.shapes import Array, Random, Relief, disc, dome

GREY = Material((0.5, 0.5, 0.5), 0.0, 8, 0.0, "matte", 0.0)
FROM_LEFT = Light((-0.8, 0.0, 0.6), 1.0, 0.2, 1.0)


def ball(x: Array, y: Array, random: Random) -> Relief:
    return Relief(disc(x, y, 1.0), dome(np.hypot(x, y), 1.0))


def random() -> Random:
    return np.random.Generator(np.random.Philox(1))


def test_pose_maps_its_centre_to_zero_and_its_radius_to_one() -> None:
    pose = Pose(100.0, 50.0, 20.0, np.pi / 2)
    x, y = pose.to_part(np.array([100.0, 120.0]), np.array([50.0, 50.0]))
    assert np.allclose([x[0], y[0]], 0)
    assert np.allclose([x[1], y[1]], [0, -1])


def test_tilt_foreshortens_along_its_axis_only() -> None:
    pose = Pose(0.0, 0.0, 1.0, 0.0, tilt=0.6, tilt_axis=0.0)
    along, _ = pose.to_part(np.array([0.01]), np.array([0.0]))
    _, across = pose.to_part(np.array([0.0]), np.array([0.01]))
    assert along[0] == pytest.approx(0.01 / np.cos(0.6), rel=1e-2)
    assert across[0] == pytest.approx(0.01)


def test_mask_covers_what_was_drawn_and_nothing_beyond_the_picture() -> None:
    canvas = np.ones((80, 80, 3), np.float32)
    covered = draw(canvas, ball, Pose(40, 40, 20, 0.0), GREY, FROM_LEFT, random())
    assert covered.sum() == pytest.approx(np.pi * 20**2, rel=0.02)
    assert not np.isclose(canvas[covered], 1).all(axis=-1).any()
    outside = draw(canvas, ball, Pose(-200, 40, 20, 0.0), GREY, FROM_LEFT, random())
    assert not outside.any()


def test_side_towards_the_lamp_is_bright_and_the_shadow_falls_behind() -> None:
    canvas = np.ones((80, 80, 3), np.float32)
    draw(canvas, ball, Pose(40, 40, 20, 0.0), GREY, FROM_LEFT, random())
    assert canvas[40, 28, 0] > 1.5 * canvas[40, 52, 0]
    assert canvas[40, 64, 0] < 0.8
    assert canvas[40, 16, 0] > 0.95


def test_tilted_part_shows_its_wall() -> None:
    def coin(x: Array, y: Array, random: Random) -> Relief:
        return Relief(disc(x, y, 1.0), np.full_like(x, 0.5), wall=0.5)

    flat, tilted = (
        draw(np.ones((80, 80, 3), np.float32), coin, Pose(40, 40, 20, 0.0, tilt, 0.0), GREY, FROM_LEFT, random())
        for tilt in (0.0, 0.6)
    )
    width, height = tilted.any(axis=0).sum(), tilted.any(axis=1).sum()
    assert flat.any(axis=0).sum() == flat.any(axis=1).sum()
    assert height > width > height * np.cos(0.6) + 2


@pytest.mark.parametrize("name", TEXTURES)
def test_textures_are_centred_and_bounded(name: str) -> None:
    texture = TEXTURES[name]((60, 90), random())
    assert texture.shape == (60, 90)
    assert texture.dtype == np.float32
    assert np.abs(texture).max() < 2.5
    assert texture.std() > 0.02


def test_shifted_fills_with_zero() -> None:
    image = np.arange(1, 7, dtype=np.float32).reshape(2, 3)
    assert shifted(image, (0, 1)).tolist() == [[0, 1, 2], [0, 4, 5]]
    assert shifted(image, (-1, 0)).tolist() == [[4, 5, 6], [0, 0, 0]]
