"""Random changes to a training batch: one affine warp, brightness and contrast, all drawn from one generator."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Augment:
    """Ranges of the random changes; the defaults suit photographs.

    Attributes:
        rotation_deg: largest rotation to either side.
        zoom: smallest and largest enlargement.
        shift: largest translation, as a share of the picture's side.
        vertical_flip: also mirror top to bottom (left to right is always mirrored half of the time).
        brightness: largest addition to pixels on -1..1.
        contrast: largest relative change of contrast.
    """

    rotation_deg: float = 10.0
    zoom: tuple[float, float] = (0.95, 1.3)
    shift: float = 0.08
    vertical_flip: bool = False
    brightness: float = 0.2
    contrast: float = 0.2


ANY_SIDE_UP = Augment(rotation_deg=180.0, zoom=(0.9, 1.1), vertical_flip=True, brightness=0.1, contrast=0.1)
"""For pictures taken from above, which have no up: the parts data set."""


def augmented(batch: Tensor, truth: Tensor, augment: Augment, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Changed copies; edges are mirrored outwards, and masks go the way of their pictures, by nearest neighbour.

    Args:
        batch: ``(N, 3, H, W)`` float32 on -1..1.
        truth: masks ``(N, H, W)``, or classes ``(N,)``, which stay.
    """
    matrices = random_affine(len(batch), augment, generator).to(batch.device)
    grid = F.affine_grid(matrices, list(batch.shape), align_corners=False)
    warped = F.grid_sample(batch, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    contrast = 1 + uniform(len(batch), augment.contrast, generator).to(batch.device)
    brightness = uniform(len(batch), augment.brightness, generator).to(batch.device)
    if truth.ndim == 3:
        masks = truth[:, None].float()
        moved = F.grid_sample(masks, grid, mode="nearest", padding_mode="reflection", align_corners=False)
        truth = moved[:, 0].to(truth.dtype)
    return warped * contrast.view(-1, 1, 1, 1) + brightness.view(-1, 1, 1, 1), truth


def random_affine(count: int, augment: Augment, generator: torch.Generator) -> Tensor:
    """``(count, 2, 3)`` matrices from output to input coordinates on -1..1."""
    angle = uniform(count, math.radians(augment.rotation_deg), generator)
    smallest, largest = augment.zoom
    zoom = smallest + (largest - smallest) * torch.rand(count, generator=generator)
    flip = torch.stack([random_sign(count, generator), random_sign(count, generator)])
    if not augment.vertical_flip:
        flip[1] = 1.0
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    shift = augment.shift * 2 * (2 * torch.rand(2, count, generator=generator) - 1)
    rows = [cos * flip[0], -sin * flip[1], shift[0], sin * flip[0], cos * flip[1], shift[1]]
    return torch.stack(rows, dim=1).view(count, 2, 3)


def uniform(count: int, limit: float, generator: torch.Generator) -> Tensor:
    """``count`` values, uniform on -limit..limit."""
    return limit * (2 * torch.rand(count, generator=generator) - 1)


def random_sign(count: int, generator: torch.Generator) -> Tensor:
    """``count`` values, each -1 or 1."""
    return torch.randint(0, 2, (count,), generator=generator).float() * 2 - 1
