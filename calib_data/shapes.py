"""The sixteen machine parts, each a signed distance and a relief: one row of ``SHAPES`` per class.

A shape is evaluated at points ``(x, y)`` of its own plane, in *part units*: every part fits into the unit disc.
Proportions that differ between two specimens of a class (bore, thread pitch, number of balls ...) are drawn at random;
what makes the class (six sides, ten teeth) is not. Signed distances and their combination by min and max follow Hart,
"Sphere tracing" (The Visual Computer, 1996); most distances here are bounds, exact on the outline itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Random = np.random.Generator


@dataclass(frozen=True)
class Relief:
    """A part seen from above, sampled at the points asked for.

    Attributes:
        distance: signed distance to the outline in part units, negative inside.
        height: height above the table in part units; meaningless outside.
        wall: thickness of the part at its outline, whose side shows when the part is tilted.
    """

    distance: Array
    height: Array
    wall: float = 0.0


Shape = Callable[[Array, Array, Random], Relief]


# --- distances ------------------------------------------------------------------------------------------------------


def disc(x: Array, y: Array, radius: float) -> Array:
    """Circle around the origin."""
    return np.hypot(x, y) - radius


def box(x: Array, y: Array, half_width: float, half_height: float) -> Array:
    """Rectangle around the origin; beside its corners a bound."""
    return np.maximum(np.abs(x) - half_width, np.abs(y) - half_height)


def polygon(x: Array, y: Array, sides: int, apothem: float) -> Array:
    """Regular polygon, one side facing +x."""
    return np.hypot(x, y) * np.cos(fold(x, y, sides)) - apothem


def fold(x: Array, y: Array, sectors: int) -> Array:
    """Angle to the axis of the nearest of ``sectors`` equal sectors, in -pi/sectors..pi/sectors."""
    step = 2 * np.pi / sectors
    angle: Array = np.mod(np.arctan2(y, x) + step / 2, step) - step / 2
    return angle


def bevel(distance: Array, width: float) -> Array:
    """0 at the outline to 1 at ``width`` inside it: a chamfer's profile."""
    return np.clip(-distance / width, 0.0, 1.0)


def dome(offset: Array, radius: Array | float) -> Array:
    """Height of a cylinder or ball at ``offset`` from its axis."""
    height: Array = np.sqrt(np.maximum(np.square(radius) - np.square(offset), 0.0))
    return height


# --- flat parts: nuts, washers, rings -------------------------------------------------------------------------------


def nut(sides: int) -> Shape:
    """Chamfered prism with a threaded bore."""

    def shape(x: Array, y: Array, random: Random) -> Relief:
        apothem = np.cos(np.pi / sides) * 1.04
        bore, thickness = random.uniform(0.42, 0.56) * apothem, random.uniform(0.45, 0.7)
        radius = np.hypot(x, y)
        body = np.maximum(polygon(x, y, sides, apothem), radius - 1.0)
        chamfer = np.clip((radius - apothem) * 0.55, 0.0, 1.0)
        height = thickness - chamfer - 0.12 * (1 - bevel(bore - radius, 0.1))
        return Relief(np.maximum(body, bore - radius), height, thickness)

    return shape


def flange_nut(x: Array, y: Array, random: Random) -> Relief:
    """Hexagon nut with a conical collar that reaches the unit circle."""
    apothem, bore = random.uniform(0.58, 0.66), random.uniform(0.28, 0.36)
    radius = np.hypot(x, y)
    flange = 0.12 + 0.2 * (1 - radius)
    hexagon = polygon(x, y, 6, apothem)
    prism = 0.62 - np.clip((radius - apothem) * 0.5, 0, 1) - 0.1 * (1 - bevel(bore - radius, 0.08))
    return Relief(np.maximum(radius - 1, bore - radius), np.where(hexagon < 0, prism, flange), 0.12)


def washer(x: Array, y: Array, random: Random) -> Relief:
    """Plain flat ring."""
    bore = random.uniform(0.42, 0.64)
    ring = np.maximum(disc(x, y, 1.0), -disc(x, y, bore))
    return Relief(ring, 0.12 * bevel(ring, 0.05), 0.1)


def lock_washer(x: Array, y: Array, random: Random) -> Relief:
    """Spring lock washer: one turn of a helix, cut by a slanted gap."""
    bore, gap = random.uniform(0.55, 0.66), random.uniform(0.07, 0.11)
    ring = np.maximum(disc(x, y, 1.0), -disc(x, y, bore))
    slot = np.maximum(np.abs(y - 0.45 * (x - 0.8)) - gap, -x)
    turn = np.mod(np.arctan2(y - 0.45 * (x - 0.8), x), 2 * np.pi) / (2 * np.pi)
    distance = np.maximum(ring, -slot)
    return Relief(distance, (0.12 + 0.16 * turn) * bevel(distance, 0.05), 0.14)


def tooth_washer(x: Array, y: Array, random: Random) -> Relief:
    """Externally toothed lock washer: a thin ring with many twisted teeth."""
    teeth, bore = int(random.integers(13, 17)), random.uniform(0.5, 0.58)
    radius, angle = np.hypot(x, y), fold(x, y, teeth)
    ring = radius - (bore + 0.19)
    tooth = np.maximum(np.abs(angle) * radius - 0.115, radius - 1.0)
    outline = np.maximum(np.minimum(ring, tooth), bore - radius)
    twist = np.where(ring > 0, 1.1 * angle * radius, 0.0)
    return Relief(outline, 0.1 * bevel(outline, 0.04) + twist, 0.06)


def retaining_ring(x: Array, y: Array, random: Random) -> Relief:
    """External circlip: an open ring, thickest opposite its gap, with a pierced lug at both ends."""
    opening, bore = random.uniform(0.32, 0.5), random.uniform(0.68, 0.74)
    radius, angle = np.hypot(x, y), np.abs(np.arctan2(y, x))
    ring = np.maximum(radius - (bore + 0.1 + 0.1 * angle / np.pi), bore - radius)
    ring = np.maximum(ring, (opening - angle) * radius)
    lug_x, lug_y = 0.86 * np.cos(opening + 0.1), 0.86 * np.sin(opening + 0.1)
    lug = np.hypot(x - lug_x, np.abs(y) - lug_y)
    outline = np.maximum(np.minimum(ring, lug - 0.14), 0.055 - lug)
    return Relief(outline, 0.1 * bevel(outline, 0.04), 0.08)


def gear(teeth: int) -> Shape:
    """Spur gear with trapezoidal teeth, a bore with or without keyway, and a web that may be recessed or pierced."""

    def shape(x: Array, y: Array, random: Random) -> Relief:
        root, bore = random.uniform(0.7, 0.78), random.uniform(0.18, 0.3)
        radius = np.hypot(x, y)
        flank = np.clip(0.5 + 2.4 * (0.25 - np.abs(fold(x, y, teeth)) * teeth / (2 * np.pi)) * 2, 0, 1)
        outline = np.maximum((radius - root - (1 - root) * flank) * 0.8, bore - radius)
        if random.random() < 0.5:
            outline = np.maximum(outline, -box(x - bore, y, 0.09, 0.07))
        height = np.full_like(x, 0.32)
        web = np.maximum(radius - root + 0.14, bore + 0.14 - radius)
        if random.random() < 0.6:
            height -= 0.12 * bevel(web, 0.04)
        if random.random() < 0.4:
            holes = int(random.integers(3, 7))
            centre, angle = (root + bore) / 2, fold(x, y, holes)
            pierced = np.hypot(radius * np.cos(angle) - centre, radius * np.sin(angle)) - 0.09
            outline = np.maximum(outline, -pierced)
        return Relief(outline, height - 0.06 * (1 - bevel(outline, 0.04)), 0.3)

    return shape


def bearing(rolling_element: Callable[[Array, Array, float], Array]) -> Shape:
    """Two races and a row of rolling elements, whose height is ``rolling_element(along, across, size)``."""

    def shape(x: Array, y: Array, random: Random) -> Relief:
        count, bore = int(random.integers(8, 12)), random.uniform(0.34, 0.44)
        radius, angle = np.hypot(x, y), fold(x, y, count)
        pitch = (1 + bore) / 2
        size = min(0.15, 0.78 * pitch * np.pi / count)
        track = np.abs(radius - pitch) - (size + 0.035)
        element = rolling_element(radius * np.cos(angle) - pitch, radius * np.sin(angle), size)
        outline = np.maximum(radius - 1, bore - radius)
        races = 0.36 - 0.06 * (1 - bevel(outline, 0.04))
        return Relief(outline, np.where(track < 0, np.maximum(element, 0.02), races), 0.34)

    return shape


def ball(along: Array, across: Array, size: float) -> Array:
    """Height of a ball of radius ``size``, 0 beside it."""
    return np.where(np.hypot(along, across) < size, 0.08 + 1.3 * dome(np.hypot(along, across), size), 0.0)


def roller(along: Array, across: Array, size: float) -> Array:
    """Height of a roller that lies along the bearing's radius, 0 beside it."""
    inside = box(along, across, size, 0.62 * size) < 0
    return np.where(inside, 0.1 + 1.6 * dome(across, 0.64 * size), 0.0)


# --- lying parts: screws, studs, springs ----------------------------------------------------------------------------


def thread(x: Array, y: Array, radius: float, pitch: float) -> Array:
    """Depth of a V thread (0..1) on a cylinder that lies along x, seen from above."""
    phase = np.mod((x + 0.5 * pitch * y / radius) / pitch, 1.0)
    depth: Array = np.abs(2 * phase - 1)
    return depth


def shank(x: Array, y: Array, random: Random, start: float) -> tuple[Array, Array, float]:
    """Threaded cylinder from ``start`` to x = 1; returns distance, height and its radius."""
    radius, pitch = random.uniform(0.2, 0.26), random.uniform(0.09, 0.13)
    plain_to = start + random.choice([0.0, 0.45]) * random.uniform(0.6, 1.2)
    threaded = np.where(x > plain_to, 1.0, 0.0)
    local = radius - 0.045 * threaded * thread(x, y, radius, pitch)
    tip = 0.6 * np.clip(x - 0.92, 0, 1)
    distance = np.maximum(np.abs(y) - local + tip, np.maximum(x - 1.0, start - x))
    height = radius + dome(y, local) - 0.05 * threaded * thread(x, y, radius, pitch)
    return distance, height, radius


def screw(head: Callable[[Array, Array, Random, float], tuple[Array, Array]], start: float) -> Shape:
    """A shank along +x and a ``head(x, y, random, shank_radius)`` on the other side of ``start``."""

    def shape(x: Array, y: Array, random: Random) -> Relief:
        distance, height, radius = shank(x, y, random, start - 0.02)
        head_distance, head_height = head(x, y, random, radius)
        return Relief(np.minimum(distance, head_distance), np.where(head_distance < 0, head_height, height))

    return shape


def hexagon_head(x: Array, y: Array, random: Random, radius: float) -> tuple[Array, Array]:
    """Hexagonal prism with its axis along x, a face or an edge up."""
    size, depth = 2.0 * radius, random.uniform(0.24, 0.3)
    along, across = x + 1 - depth / 2, np.abs(y)
    corner = 0.5 * np.clip(across - 0.7 * size, 0, 1)
    distance = np.maximum(np.abs(along) - depth / 2 + np.where(along < 0, corner, 0), across - size)
    face_up = np.clip((size - across) * 1.73, 0, 0.866 * size)
    edge_up = (size - across * 0.577) * 0.9
    return distance, radius + (face_up if random.random() < 0.6 else edge_up)


def cap_head(x: Array, y: Array, random: Random, radius: float) -> tuple[Array, Array]:
    """Cylindrical head with knurls along its axis."""
    size, depth = 1.6 * radius, random.uniform(0.44, 0.52)
    along = x + 1 - depth / 2
    distance = np.maximum(np.abs(along) - depth / 2, np.abs(y) - size)
    around = np.arcsin(np.clip(y / size, -1, 1))
    knurl = 0.02 * np.sin(around * 26) * (np.abs(along) < depth / 2 - 0.05)
    return distance, radius + dome(y, size) - 0.06 * (1 - bevel(distance, 0.05)) + knurl


def countersunk_head(x: Array, y: Array, random: Random, radius: float) -> tuple[Array, Array]:
    """90 degree cone with a thin cylindrical rim."""
    size, rim = random.uniform(2.0, 2.2) * radius, 0.05
    taper = np.clip(size - (x + 1 - rim), radius, size)
    distance = np.maximum(np.maximum(-1 - x, x + 1 - rim - (size - radius)), np.abs(y) - taper)
    return distance, radius + dome(y, taper)


def stud(x: Array, y: Array, random: Random) -> Relief:
    """Threaded at both ends, no head."""
    radius, pitch = random.uniform(0.2, 0.26), random.uniform(0.09, 0.13)
    threaded = np.where(np.abs(x) > random.choice([0.0, 0.25]), 1.0, 0.0)
    local = radius - 0.045 * threaded * thread(x, y, radius, pitch)
    tip = 0.6 * np.clip(np.abs(x) - 0.92, 0, 1)
    distance = np.maximum(np.abs(y) - local + tip, np.abs(x) - 1)
    return Relief(distance, radius + dome(y, local) - 0.05 * threaded * thread(x, y, radius, pitch))


def spring(x: Array, y: Array, random: Random) -> Relief:
    """Compression spring: the projection of a helix is a cosine; its slope turns |y - cos| into a distance."""
    coil, wire, pitch = random.uniform(0.28, 0.4), random.uniform(0.045, 0.06), random.uniform(0.2, 0.3)
    angle = 2 * np.pi * x / pitch
    slope = 2 * np.pi * coil / pitch * np.sin(angle)
    offset = np.abs(y - coil * np.cos(angle)) / np.sqrt(1 + np.square(slope))
    distance = np.maximum(np.maximum(offset - wire, np.abs(y) - coil - wire), np.abs(x) - 0.95)
    return Relief(distance, coil + 0.5 * coil * np.sin(angle) + 1.5 * dome(offset, wire))


SHAPES: dict[str, Shape] = {
    "ball_bearing": bearing(ball),
    "bolt": screw(hexagon_head, start=-0.76),
    "cap_screw": screw(cap_head, start=-0.6),
    "countersunk_screw": screw(countersunk_head, start=-0.75),
    "flange_nut": flange_nut,
    "gear_10": gear(10),
    "gear_8": gear(8),
    "hex_nut": nut(6),
    "lock_washer": lock_washer,
    "retaining_ring": retaining_ring,
    "roller_bearing": bearing(roller),
    "spring": spring,
    "square_nut": nut(4),
    "stud": stud,
    "tooth_washer": tooth_washer,
    "washer": washer,
}
"""Class name to shape, in the order of the class indices (alphabetical, as a folder per class is read)."""
