"""Light, material and camera: from a relief to pixels with Lambert and Blinn-Phong shading.

Pixels are float32 RGB in 0..1, ``(H, W, 3)``; x runs right, y down, lengths in pixels unless said.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from edgec.calib_data.shapes import Array, Random, Relief, Shape

Pixels = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Pose:
    """Where a part lies in the picture and how the camera sees it.

    Attributes:
        x, y: centre, pixels.
        radius: length of one part unit, pixels.
        angle: rotation in the picture, radians.
        tilt: angle between the camera and the part's axis, radians; foreshortens along ``tilt_axis``.
        tilt_axis: direction in the picture that leads away from the camera, radians.
    """

    x: float
    y: float
    radius: float
    angle: float
    tilt: float = 0.0
    tilt_axis: float = 0.0

    def to_part(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Picture coordinates to part units; perspective is that of a camera eight radii away."""
        x, y = (x - self.x) / self.radius, (y - self.y) / self.radius
        cos, sin = np.cos(self.tilt_axis), np.sin(self.tilt_axis)
        along, across = x * cos + y * sin, y * cos - x * sin
        depth = 1 + np.tan(self.tilt) * along / 8
        along, across = along * depth / np.cos(self.tilt), across * depth
        cos, sin = np.cos(self.tilt_axis - self.angle), np.sin(self.tilt_axis - self.angle)
        return along * cos - across * sin, along * sin + across * cos


@dataclass(frozen=True)
class Light:
    """One distant lamp and the light of the room.

    Attributes:
        direction: unit vector towards the lamp, ``(x, y, z)`` with z towards the camera.
        power: brightness of the lamp, ``ambient`` that of the room.
        softness_px: blur of the cast shadow.
    """

    direction: tuple[float, float, float]
    power: float
    ambient: float
    softness_px: float


@dataclass(frozen=True)
class Material:
    """How a surface answers to light.

    Attributes:
        color: diffuse RGB, 0..1.
        gloss: strength of the highlight, and ``shininess`` its Blinn-Phong exponent.
        mirror: strength of the reflected room, for bare metal.
        texture: key of ``TEXTURES``; ``contrast`` its strength.
    """

    color: tuple[float, float, float]
    gloss: float
    shininess: float
    mirror: float
    texture: str
    contrast: float


def noise(shape: tuple[int, int], random: Random, cells: int, stretch: float = 1.0) -> Pixels:
    """Smooth value noise, about -1..1: ``cells`` random grid points per 224 pixels, enlarged bicubically.

    ``stretch`` > 1 makes the cells longer in x than in y.
    """
    height, width = shape
    rows, columns = (max(2, round(cells * side / 224)) for side in (height, width / stretch))
    grid = random.uniform(-1, 1, (rows, columns)).astype(np.float32)
    return np.asarray(Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC))


def matte(shape: tuple[int, int], random: Random) -> Pixels:
    """Hardly any: broad, soft differences."""
    return noise(shape, random, 6)


def mottled(shape: tuple[int, int], random: Random) -> Pixels:
    """Several octaves: rust, concrete, zinc."""
    octaves = ((1.0, 9), (0.7, 24), (0.6, 70))
    return np.asarray(sum(weight * noise(shape, random, cells) for weight, cells in octaves) / 1.5, np.float32)


def brushed(shape: tuple[int, int], random: Random) -> Pixels:
    """Fine parallel scratches."""
    return np.asarray(noise(shape, random, 150, stretch=24) + 0.4 * noise(shape, random, 5), np.float32)


def grained(shape: tuple[int, int], random: Random) -> Pixels:
    """Wood: long grain and broad rings."""
    rings = np.sin(9 * noise(shape, random, 4, stretch=3))
    return np.asarray(0.6 * rings + 0.7 * noise(shape, random, 90, stretch=20), np.float32)


def woven(shape: tuple[int, int], random: Random) -> Pixels:
    """Cloth: two crossed threads of a few pixels."""
    row, column = np.ogrid[: shape[0], : shape[1]]
    period = random.uniform(4, 9)
    thread = np.sin(row * 2 * np.pi / period) * np.sin(column * 2 * np.pi / period)
    return np.asarray(0.7 * thread + 0.4 * noise(shape, random, 12), np.float32)


def ruled(shape: tuple[int, int], random: Random) -> Pixels:
    """Cutting mat or graph paper: thin lines on a square grid."""
    row, column = np.ogrid[: shape[0], : shape[1]]
    period, offset = random.uniform(14, 40), random.uniform(0, 40, 2)
    line = np.minimum(np.mod(row + offset[0], period), np.mod(column + offset[1], period)) < 1.6
    return np.asarray(1.2 * line + 0.4 * noise(shape, random, 8), np.float32)


TEXTURES = {
    "brushed": brushed,
    "grained": grained,
    "matte": matte,
    "mottled": mottled,
    "ruled": ruled,
    "woven": woven,
}


def draw(canvas: Pixels, shape: Shape, pose: Pose, material: Material, light: Light, random: Random) -> Mask:
    """Draw one object over ``canvas`` in place, with its shadow.

    Returns:
        The pixels that it covers, ``(H, W)``.
    """
    covered = np.zeros(canvas.shape[:2], np.bool_)
    rows, columns = extent(pose.y, pose.radius, canvas.shape[0]), extent(pose.x, pose.radius, canvas.shape[1])
    window = canvas[rows, columns]
    if window.size == 0:
        return covered
    row, column = np.mgrid[rows, columns].astype(np.float64)
    relief = shape(*pose.to_part(column, row), random)
    coverage = np.clip(0.5 - relief.distance * pose.radius * np.cos(pose.tilt), 0, 1).astype(np.float32)
    wall = side_wall(coverage, relief, pose)
    solid = np.maximum(coverage, wall)
    window *= 1 - cast_shadow(solid, relief, pose, light)[..., None]
    texture = 1 + material.contrast * TEXTURES[material.texture](coverage.shape, random)
    color = np.array(material.color, np.float32)
    edge = (0.35 + 0.25 * np.cos(pose.tilt_axis)) * (light.ambient + 0.5 * light.power) * texture * wall  # dark rim
    blend(window, edge[..., None] * color, wall)
    body, gloss = shade(relief, coverage, pose, material, light, texture, random)
    blend(window, body[..., None] * color + gloss[..., None], coverage)
    covered[rows, columns] = solid >= 0.5
    return covered


def extent(centre: float, radius: float, side: int) -> slice:
    """Pixels of one axis that an object and its shadow can reach."""
    reach = 1.15 * radius + 14
    return slice(max(0, int(centre - reach)), max(0, min(side, int(centre + reach) + 1)))


def blend(window: Pixels, over: Pixels, coverage: Pixels) -> None:
    """Lay ``over`` on ``window`` in place, where ``coverage`` is 1 wholly."""
    window += coverage[..., None] * (over - window)


def side_wall(coverage: Pixels, relief: Relief, pose: Pose) -> Pixels:
    """Coverage of the wall that a tilted flat part shows below its upper face: the face swept along the tilt."""
    length = relief.wall * pose.radius * np.sin(pose.tilt)
    wall = coverage
    for step in range(1, int(length) + 1):
        shift = (round(step * np.sin(pose.tilt_axis)), round(step * np.cos(pose.tilt_axis)))
        wall = np.maximum(wall, shifted(coverage, shift))
    return wall


def shifted(image: Pixels, shift: tuple[int, int]) -> Pixels:
    """``image`` moved by whole pixels (down, right), zero where nothing comes in."""
    moved = np.zeros_like(image)
    (height, width), (down, right) = image.shape, shift
    moved[max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)] = image[
        max(0, -down) : height + min(0, -down), max(0, -right) : width + min(0, -right)
    ]
    return moved


def cast_shadow(solid: Pixels, relief: Relief, pose: Pose, light: Light) -> Pixels:
    """Opacity of the shadow on the table: the outline moved away from the lamp by the part's height, and blurred."""
    height = float(relief.height[solid > 0.5].mean()) if (solid > 0.5).any() else 0.0
    length = min(height * pose.radius, 14.0)
    x, y, z = light.direction
    moved = shifted(solid, (round(-y / z * length), round(-x / z * length)))
    contact = ndimage.gaussian_filter(np.maximum(moved, 0.7 * solid), light.softness_px, truncate=2.5)
    return np.asarray(contact * (0.75 * light.power / (light.power + light.ambient)), np.float32)


def shade(
    relief: Relief,
    coverage: Pixels,
    pose: Pose,
    material: Material,
    light: Light,
    texture: Pixels,
    random: Random,
) -> tuple[Pixels, Pixels]:
    """Brightness of the upper face, ``(H, W)`` each: what its colour is multiplied by, and the highlight to add.

    Lambert and Blinn-Phong ("Models of light reflection for computer synthesized pictures", SIGGRAPH 1977), the viewer
    straight above; bare metal also mirrors a room of one bright and one dark half.
    """
    height = np.where(coverage > 0, (relief.height * pose.radius).astype(np.float32), 0)
    scratches = 0.12 * (texture - 1) if material.texture == "brushed" else np.zeros_like(texture)
    normal_x, normal_y, normal_z = normals(height, scratches, pose)
    x, y, z = light.direction
    diffuse = np.maximum(normal_x * x + normal_y * y + normal_z * z, 0)
    towards_viewer = np.maximum(normal_x * x + normal_y * y + normal_z * (z + 1), 0) / np.sqrt(2 + 2 * z)
    phase, spin = random.uniform(0, 2 * np.pi, 2)
    room = np.sin(phase + 3.2 * (normal_x * np.cos(spin) + normal_y * np.sin(spin)))
    body = (light.ambient + light.power * diffuse) * cavity(height, coverage, pose.radius) * texture
    body = body * (1 + material.mirror * room)
    gloss = material.gloss * light.power * towards_viewer**material.shininess
    return body.astype(np.float32), gloss.astype(np.float32)


def normals(height: Pixels, scratches: Pixels, pose: Pose) -> tuple[Pixels, Pixels, Pixels]:
    """Unit normals of a height map in pixels on the tilted plane of ``pose``; ``scratches`` are slopes in y to add."""
    slope_y, slope_x = np.gradient(height)
    lean = np.tan(pose.tilt)
    normal_x = lean * np.cos(pose.tilt_axis) - slope_x
    normal_y = lean * np.sin(pose.tilt_axis) - slope_y + scratches
    normal_z = 1 / np.sqrt(normal_x**2 + normal_y**2 + 1)
    return normal_x * normal_z, normal_y * normal_z, normal_z


def cavity(height: Pixels, coverage: Pixels, radius: float) -> Pixels:
    """Ambient light that reaches a point: less where it lies below its surroundings, 0.4..1.2."""
    weight = ndimage.gaussian_filter(coverage, 4, truncate=2) + 1e-3
    around = ndimage.gaussian_filter(height, 4, truncate=2) / weight
    return np.asarray(1 + np.clip((height - around) / (0.25 * radius), -0.6, 0.2), np.float32)
