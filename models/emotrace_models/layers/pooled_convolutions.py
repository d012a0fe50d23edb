"""GBAN's convolutions over speech frames and words (Liu et al., Interspeech 2020; models.md 5.2).

Pooling keeps only steps whose whole window lies inside the real length, so padding on the right
changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

POOL = 2


class SpeechConvolutions(nn.Module):
    """For each of `filters`: convolution without padding, ReLU, maximum of every two.

    stride, reach: output step i is of input frames stride * i ... stride * i + reach - 1.
    """

    def __init__(self, width: int, filters: Sequence[int], kernel: int = 4) -> None:
        super().__init__()
        channels = [width, *filters]
        self.kernel = kernel
        self.convolutions = nn.ModuleList(
            nn.Conv1d(inputs, outputs, kernel)
            for inputs, outputs in zip(channels, filters, strict=False)
        )
        self.width = channels[-1]
        self.stride = POOL ** len(filters)
        self.reach = 1
        for _ in filters:
            self.reach = POOL * self.reach + kernel - 1

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """x [batch, frame, width] of at least `reach` frames, lengths [batch] of at least as many
        -> [batch, step, self.width] and steps [batch]. Nothing beyond `lengths` is read by them."""
        x = x.transpose(1, 2)
        for convolution in self.convolutions:
            x = F.max_pool1d(F.relu(convolution(x)), POOL)
            lengths = (lengths - self.kernel + 1) // POOL
        return x.transpose(1, 2), lengths


class TextConvolutions(nn.Module):
    """Convolutions of several kernels side by side, as long as the text; ReLU, maximum of every
    two. Output step j is of words 2 j and 2 j + 1 and those around them."""

    def __init__(self, width: int, filters: int, kernels: Sequence[int]) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv1d(width, filters, k) for k in kernels)
        self.kernels = tuple(kernels)
        self.width = filters * len(self.kernels)
        self.stride = self.reach = POOL

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """x [batch, word, width], zero beyond lengths [batch], which are at least 2
        -> [batch, step, self.width] and steps [batch]."""
        x = x.transpose(1, 2)
        pooled = [
            F.max_pool1d(F.relu(convolution(F.pad(x, ((k - 1) // 2, k // 2)))), POOL)
            for k, convolution in zip(self.kernels, self.convolutions, strict=True)
        ]
        return torch.cat(pooled, dim=1).transpose(1, 2), lengths // POOL
