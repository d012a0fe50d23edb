"""Faces as other cameras might have seen them: [face, 1, side, side] floats from 0 to 255."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

TURN = math.radians(10)
ZOOM = 0.1  # up to so much larger or smaller
SHIFT = 0.06  # of a side, either way
STRETCH = 0.05  # of one axis against the other
SOFT = 0.15  # share of faces that are seen with fewer pixels
COVERED = 0.25  # share of faces with a grey patch


def varied(pixels: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Turned, zoomed, shifted, half of them mirrored; other light, fewer pixels, a part covered.

    side: of what is given, [face, 1, side, side].
    """
    seen = softened(relit(moved(pixels, side, generator), generator), generator)
    return covered(seen, generator)


def moved(pixels: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Where a face reaches over the edge, the edge is repeated."""

    def drawn(most: float) -> Tensor:
        return (2 * torch.rand(count, generator=generator) - 1) * most

    count = len(pixels)
    angle, zoom, stretch = drawn(TURN), torch.exp(drawn(ZOOM)), torch.exp(drawn(STRETCH))
    mirror = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
    rows = [
        [angle.cos() * zoom * stretch * mirror, -angle.sin() * zoom, drawn(2 * SHIFT)],
        [angle.sin() * zoom * mirror, angle.cos() * zoom / stretch, drawn(2 * SHIFT)],
    ]
    maps = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=1)
    grid = F.affine_grid(maps, [count, 1, side, side], align_corners=False)
    return F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)


def relit(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """A little brighter or darker, with more or less contrast: levels are equalised already."""
    count = (len(pixels), 1, 1, 1)
    contrast = torch.exp(0.5 * (torch.rand(count, generator=generator) - 0.5))
    brightness = 40 * (torch.rand(count, generator=generator) - 0.5)
    mean = pixels.mean(dim=(1, 2, 3), keepdim=True)
    return ((pixels - mean) * contrast + mean + brightness).clamp(0, 255)


def softened(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Some faces, in one go, with as many pixels as a small or far face has."""
    chosen = torch.rand(len(pixels), generator=generator) < SOFT
    if not chosen.any():
        return pixels
    side = pixels.shape[-1]
    fewer = int(torch.randint(side // 2, side, (1,), generator=generator))
    few = F.interpolate(pixels[chosen], size=(fewer, fewer), mode="area")
    out = pixels.clone()
    out[chosen] = F.interpolate(few, size=(side, side), mode="bilinear", align_corners=False)
    return out


def covered(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Some faces with a grey patch (DeVries and Taylor, arXiv 1708.04552)."""
    count, _, side, _ = pixels.shape

    def drawn(low: int, high: int) -> Tensor:
        return torch.randint(low, high, (count, 1, 1, 1), generator=generator)

    places = torch.arange(side)
    height, width = drawn(side // 6, side * 5 // 12), drawn(side // 6, side * 5 // 12)
    top, left = drawn(-side // 8, side), drawn(-side // 8, side)
    down, across = places.view(1, 1, -1, 1), places.view(1, 1, 1, -1)
    patch = (down >= top) & (down < top + height) & (across >= left) & (across < left + width)
    patch &= torch.rand((count, 1, 1, 1), generator=generator) < COVERED
    return pixels.masked_fill(patch, 127.5)
