"""One picture of one part: what is drawn at random, and how hard it gets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from edgec.calib_data.render import TEXTURES, Light, Mask, Material, Pixels, Pose, draw
from edgec.calib_data.shapes import Array, Random, Relief, Shape, box, disc, dome, polygon

SIDE_PX = 224

MATERIALS = (
    Material((0.56, 0.57, 0.59), 0.55, 24, 0.45, "matte", 0.08),  # steel, turned
    Material((0.60, 0.60, 0.61), 0.45, 16, 0.35, "brushed", 0.14),  # steel, brushed
    Material((0.66, 0.65, 0.60), 0.30, 10, 0.25, "mottled", 0.10),  # zinc
    Material((0.64, 0.56, 0.30), 0.40, 18, 0.35, "matte", 0.08),  # yellow chromate
    Material((0.72, 0.56, 0.26), 0.50, 22, 0.40, "brushed", 0.10),  # brass
    Material((0.70, 0.42, 0.30), 0.45, 20, 0.35, "matte", 0.10),  # copper
    Material((0.13, 0.13, 0.14), 0.45, 14, 0.30, "matte", 0.15),  # black oxide
    Material((0.40, 0.24, 0.15), 0.06, 6, 0.05, "mottled", 0.35),  # rust
    Material((0.47, 0.38, 0.33), 0.20, 10, 0.15, "mottled", 0.30),  # steel, rust spots
    Material((0.20, 0.30, 0.52), 0.25, 12, 0.05, "matte", 0.06),  # blue plastic
    Material((0.75, 0.74, 0.70), 0.20, 10, 0.05, "matte", 0.05),  # white nylon
)

TABLES = (
    ((0.55, 0.40, 0.26), "grained"),  # wood
    ((0.72, 0.60, 0.44), "grained"),
    ((0.50, 0.50, 0.49), "mottled"),  # concrete
    ((0.30, 0.31, 0.33), "mottled"),
    ((0.55, 0.56, 0.58), "brushed"),  # steel plate
    ((0.36, 0.37, 0.40), "brushed"),
    ((0.20, 0.38, 0.32), "ruled"),  # cutting mat
    ((0.80, 0.80, 0.78), "ruled"),  # graph paper
    ((0.32, 0.36, 0.48), "woven"),  # cloth
    ((0.48, 0.44, 0.38), "woven"),
    ((0.76, 0.75, 0.72), "matte"),  # paper
    ((0.16, 0.17, 0.18), "matte"),  # rubber
)

OCCLUDED = 0.35
"""Share of the pictures in which something may lie on the part."""

LEAST_VISIBLE = 0.7
"""Share of the part that stays visible; an object that would hide more is not laid down."""


def compose(shape: Shape, random: Random) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Draw one part on a cluttered table and photograph it.

    Returns:
        ``(224, 224, 3)`` RGB pixels and the ``(224, 224)`` mask, 1 where the part is visible and 0 elsewhere.
    """
    light = random_light(random)
    canvas = table(light, random)
    for _ in range(int(random.integers(0, 4))):
        lay_clutter(canvas, light, random)
    pose = random_pose(random)
    part = draw(canvas, shape, pose, random_material(random), light, random)
    visible = part
    if random.random() < OCCLUDED:
        visible = occlude(canvas, part, pose, light, random)
    return photograph(canvas, random), visible.astype(np.uint8)


def random_light(random: Random) -> Light:
    """A lamp anywhere between 31 and 77 degrees above the table."""
    azimuth, elevation = random.uniform(0, 2 * np.pi), random.uniform(0.55, 1.35)
    flat = np.cos(elevation)
    direction = (flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation))
    return Light(direction, random.uniform(0.45, 1.0), random.uniform(0.2, 0.55), random.uniform(1.0, 5.0))


def random_pose(random: Random) -> Pose:
    """Any place with nine tenths of the radius inside the picture, any rotation, tilted up to 32 degrees."""
    radius = random.uniform(60, 100)
    slack = max(SIDE_PX / 2 - 0.9 * radius, 0)
    x, y = SIDE_PX / 2 + random.uniform(-slack, slack, 2)
    angle, tilt_axis = random.uniform(0, 2 * np.pi, 2)
    return Pose(x, y, radius, angle, random.uniform(0, 0.55), tilt_axis)


def random_material(random: Random) -> Material:
    """One of ``MATERIALS``, darker or lighter, duller or glossier."""
    material = MATERIALS[random.integers(len(MATERIALS))]
    tint = random.uniform(0.75, 1.25) * random.uniform(0.94, 1.06, 3)
    red, green, blue = np.clip(np.multiply(material.color, tint), 0, 1)
    return replace(material, color=(red, green, blue), gloss=material.gloss * random.uniform(0.4, 1.3))


def table(light: Light, random: Random) -> Pixels:
    """An empty table, lit: ``(224, 224, 3)``."""
    color, texture = TABLES[random.integers(len(TABLES))]
    shape = (SIDE_PX, SIDE_PX)
    grain = 1 + random.uniform(0.08, 0.28) * TEXTURES[texture](shape, random)
    if random.random() < 0.5:
        grain = grain.T
    row, column = np.mgrid[:SIDE_PX, :SIDE_PX].astype(np.float32) / SIDE_PX - 0.5
    falloff = 1 + random.uniform(-0.5, 0.5) * row + random.uniform(-0.5, 0.5) * column
    brightness = light.ambient + light.power * light.direction[2]
    tint = np.multiply(color, random.uniform(0.85, 1.15, 3))
    return np.asarray((grain * falloff * brightness)[..., None] * tint, np.float32)


# --- what else lies on the table: nothing here has a bore, a thread or teeth ----------------------------------------


def rod(x: Array, y: Array, random: Random) -> Relief:
    """Cable, pipe or pencil."""
    radius = random.uniform(0.05, 0.16)
    bend = random.uniform(-0.4, 0.4) * np.square(x)
    return Relief(np.maximum(np.abs(y - bend) - radius, np.abs(x) - 1), radius + dome(y - bend, radius))


def plate(x: Array, y: Array, random: Random) -> Relief:
    """Sheet-metal scrap, paper or a block."""
    distance = box(x, y, random.uniform(0.4, 0.8), random.uniform(0.3, 0.6))
    return Relief(distance, np.full_like(x, random.uniform(0.02, 0.3)))


def shard(x: Array, y: Array, random: Random) -> Relief:
    """Irregular polygon."""
    squeeze = random.uniform(0.5, 1.0)
    distance = polygon(x + 0.3 * y, y / squeeze, int(random.integers(3, 6)), random.uniform(0.35, 0.5))
    return Relief(distance, np.full_like(x, 0.1) + 0.2 * x)


def pebble(x: Array, y: Array, random: Random) -> Relief:
    """Drop of glue, pebble or coin."""
    distance = disc(x, y / random.uniform(0.6, 1.0), random.uniform(0.3, 0.7))
    return Relief(distance, 0.25 * np.sqrt(np.clip(-distance, 0, 1)))


def swarf(x: Array, y: Array, random: Random) -> Relief:
    """Curl of a turning chip."""
    turns = random.uniform(0.6, 1.4)
    spiral = np.hypot(x, y) - 0.55 - 0.35 * np.sin(turns * np.arctan2(y, x))
    return Relief(np.maximum(np.abs(spiral) - 0.05, -x - 0.2), np.full_like(x, 0.1))


CLUTTER: tuple[Shape, ...] = (rod, plate, shard, pebble, swarf)


def lay_clutter(canvas: Pixels, light: Light, random: Random) -> None:
    """Lay one object anywhere on the table."""
    x, y = random.uniform(0, SIDE_PX, 2)
    pose = Pose(x, y, random.uniform(12, 75), random.uniform(0, 2 * np.pi))
    shape = CLUTTER[random.integers(len(CLUTTER))]
    draw(canvas, shape, pose, random_material(random), light, random)


def occlude(canvas: Pixels, part: Mask, pose: Pose, light: Light, random: Random) -> Mask:
    """Lay one object on the part, unless it would hide too much; returns what stays visible of the part."""
    direction = random.uniform(0, 2 * np.pi)
    reach = random.uniform(0.4, 1.1) * pose.radius
    over = Pose(
        pose.x + reach * np.cos(direction),
        pose.y + reach * np.sin(direction),
        random.uniform(0.35, 1.2) * pose.radius,
        random.uniform(0, 2 * np.pi),
    )
    attempt = canvas.copy()
    shape = CLUTTER[random.integers(len(CLUTTER))]
    visible: Mask = part & ~draw(attempt, shape, over, random_material(random), light, random)
    if visible.sum() < LEAST_VISIBLE * part.sum():
        return part
    canvas[...] = attempt
    return visible


# --- the camera -----------------------------------------------------------------------------------------------------


def photograph(canvas: Pixels, random: Random) -> npt.NDArray[np.uint8]:
    """Exposure, white balance, defocus or motion blur, vignette, sensor noise and gamma; ``(H, W, 3)`` uint8."""
    exposure = random.uniform(0.7, 1.3) * random.uniform(0.92, 1.08, 3).astype(np.float32)
    blur = min(float(random.exponential(0.6)), 2.4)
    picture = ndimage.gaussian_filter(canvas * exposure, (blur, blur, 0), truncate=2.5)
    if random.random() < 0.2:
        axis, length = int(random.integers(0, 2)), int(random.integers(2, 7))
        picture = ndimage.uniform_filter1d(picture, length, axis=axis)
    noise = min(float(random.exponential(0.014)), 0.06)
    grain = random.standard_normal(picture.shape, np.float32)
    picture = picture + noise * grain * np.sqrt(np.clip(picture, 0.05, 1))
    contrast, level = random.uniform(0.75, 1.1), random.uniform(0.42, 0.58)
    picture = np.clip((picture - level) * contrast + level, 0, 1)
    gamma = random.uniform(0.75, 1.2)
    return np.asarray(picture**gamma * 255 + 0.5, np.uint8)
