"""The network of the compact acoustic encoder: normalised frames -> a unit vector.

A 5x5 stem, three convolutional stages and attentive statistics pooling (Okabe et al.,
arXiv 1803.10963). Everything outside the real frames is held at zero after every layer, so padding
changes nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emotrace_models.encoders.running_statistics import CONTOURS
from emotrace_models.encoders.spectral import BANDS

REDUCTION = 8  # frames in to frames out


@dataclass(frozen=True, slots=True)
class TowerConfig:
    """channels: of the stem and the stages. pooled: width before pooling."""

    width: int = 128
    channels: tuple[int, int, int, int] = (32, 64, 96, 128)
    contour: int = 32
    pooled: int = 192
    dropout: float = 0.2


class AcousticTower(nn.Module):
    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        stem, one, two, three = config.channels
        self.stages = nn.ModuleList(
            [
                Stage(2, stem, kernel=5, stride=(2, 2)),
                Stage(stem, one, kernel=3, stride=(2, 2)),
                Stage(one, two, kernel=3, stride=(2, 2), residual=True),
                Stage(two, three, kernel=3, stride=(2, 1), residual=True),
            ]
        )
        rows = BANDS // 2 ** len(self.stages)
        self.contour = nn.Conv1d(CONTOURS, config.contour, REDUCTION + 1, REDUCTION, padding=4)
        self.mix = nn.Linear(three * rows + config.contour, config.pooled)
        self.mix_norm = nn.LayerNorm(config.pooled)
        self.attention = nn.Sequential(
            nn.Linear(config.pooled, config.pooled // 2),
            nn.Tanh(),
            nn.Linear(config.pooled // 2, config.pooled),
        )
        self.pooled_norm = nn.LayerNorm(2 * config.pooled)
        self.dropout = nn.Dropout(config.dropout)
        self.projection = nn.Linear(2 * config.pooled, config.width)

    def forward(self, bands: Tensor, contours: Tensor, lengths: Tensor) -> Tensor:
        """bands [batch, 2, BANDS, frame], contours [batch, CONTOURS, frame], lengths [batch] of
        real frames, the others zero -> unit vectors [batch, width].
        """
        x = bands
        for stage in self.stages:
            x, lengths = stage(x, lengths)
        mask = real_frames(lengths, x.shape[-1])
        side = F.relu(self.contour(contours))
        x = torch.cat([x.flatten(1, 2), side], dim=1).transpose(1, 2)  # [batch, frame, feature]
        x = F.relu(self.mix_norm(self.mix(self.dropout(x))))
        return F.normalize(self.projection(self.dropout(self._pool(x, mask))), dim=-1)

    def _pool(self, x: Tensor, mask: Tensor) -> Tensor:
        """Attention-weighted mean and deviation of each feature: [batch, 2 * pooled]."""
        scores: Tensor = self.attention(x).float()
        weights = scores.masked_fill(~mask[..., None], -math.inf).softmax(dim=1)
        mean = (weights * x).sum(dim=1)
        spread = (weights * (x - mean[:, None]).square()).sum(dim=1)
        pooled: Tensor = self.pooled_norm(torch.cat([mean, (spread + 1e-4).sqrt()], dim=1))
        return pooled


class Stage(nn.Module):
    """Strided convolution, batch norm, ReLU; with `residual` a second one added to its output."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: tuple[int, int],
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False) if residual else None
        self.second_norm = nn.BatchNorm2d(outputs) if residual else None

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """x [batch, channel, band, frame], zero outside `lengths` -> the same, and new lengths."""
        lengths = -(-lengths // self.stride[1])
        x = F.relu(self.norm(self.conv(x)))
        real = real_frames(lengths, x.shape[-1])[:, None, None, :]
        x = x * real
        if self.second is not None and self.second_norm is not None:
            x = F.relu(x + self.second_norm(self.second(x))) * real
        return x, lengths


def real_frames(lengths: Tensor, frames: int) -> Tensor:
    """[batch, frame] bool: which frames lie inside each item's length."""
    return torch.arange(frames, device=lengths.device) < lengths[:, None]
