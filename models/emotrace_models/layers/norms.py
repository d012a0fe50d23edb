"""Normalisations of the xLSTM blocks: no bias; a scale that is stored as its distance from 1."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

EPSILON = 1e-5


class ScaleNorm(nn.Module):
    """Layer normalisation over the last axis, scale 1 + weight."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, self.weight.shape, 1.0 + self.weight, eps=EPSILON)


class HeadNorm(nn.Module):
    """Normalises each head by itself: [..., head, size] -> [..., head * size], scale 1 + weight."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))

    def forward(self, h: Tensor) -> Tensor:
        return functional.layer_norm(h, h.shape[-1:], eps=EPSILON).flatten(-2) * (1.0 + self.weight)
