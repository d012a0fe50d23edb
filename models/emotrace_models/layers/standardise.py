"""Standardisation by the training data's own mean and spread, kept with the weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Standardise(nn.Module):
    """(x - mean) / scale, a pair of numbers for each of `width` features; at first it does nothing.

    Training fills the buffers from its training split before the first epoch.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))

    def fit(self, mean: Tensor, deviation: Tensor) -> None:
        """mean, deviation [width]; a feature that never changes keeps its size."""
        self.mean.copy_(mean)
        self.scale.copy_(torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation)))

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> [..., width]."""
        return (x - self.mean) / self.scale
