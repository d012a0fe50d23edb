"""The network of the compact acoustic encoder: normalised frames -> a unit vector.

A 5x5 stem, three convolutional stages and attentive statistics pooling (Okabe et al.,
arXiv 1803.10963). Everything outside the real frames is held at zero after every layer, so padding
changes nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emotrace_models.encoders.running_statistics import CONTOURS
from emotrace_models.encoders.spectral import BANDS
from emotrace_models.layers.precision import entering, joined

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
        x = entering(bands, self.stages)
        for stage in self.stages:
            x, lengths = stage(x, lengths)
        x = x.float()
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
    """Strided convolution, batch norm, ReLU; with `residual` a second one added to its output.

    Without gradients and outside training, a convolution and its norm are one convolution, whose
    weights are made when first needed, and again after each change of the originals.
    """

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
        self.norm: nn.Module = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False) if residual else None
        self.second_norm: nn.Module | None = nn.BatchNorm2d(outputs) if residual else None
        self._folded: dict[nn.Conv2d, tuple[Tensor, Tensor]] = {}

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """x [batch, channel, band, frame], zero outside `lengths` -> the same, and new lengths."""
        lengths = -(-lengths // self.stride[1])
        x = F.relu(self._normed(self.conv, self.norm, x), inplace=True)
        frames = x.shape[-1]
        # Masks cost as much as a convolution: not where nothing is padded.
        padded = int(lengths.min()) < frames
        real = real_frames(lengths, frames)[:, None, None, :] if padded else None
        if real is not None:
            x = x * real
        if self.second is not None and self.second_norm is not None:
            x = F.relu(x + self._normed(self.second, self.second_norm, x), inplace=True)
            if real is not None:
                x = x * real
        return x, lengths

    def to_bf16(self) -> None:
        """Convolutions in bfloat16 from now on, each joined with its norm: for inference alone."""
        self.conv, self.norm = joined(self.conv, self.norm), nn.Identity()
        if self.second is not None and self.second_norm is not None:
            self.second = joined(self.second, self.second_norm)
            self.second_norm = nn.Identity()

    def train(self, mode: bool = True) -> Stage:
        self._folded.clear()
        return super().train(mode)

    def _normed(self, conv: nn.Conv2d, norm: nn.Module, x: Tensor) -> Tensor:
        out: Tensor
        if self.training or torch.is_grad_enabled() or not isinstance(norm, nn.BatchNorm2d):
            out = norm(conv(x))
            return out
        if conv not in self._folded:
            self._folded[conv] = folded(conv, norm)
        weight, bias = self._folded[conv]
        return F.conv2d(x, weight, bias, conv.stride, conv.padding)

    def _apply(self, *arguments: Any, **options: Any) -> Stage:
        self._folded.clear()
        super()._apply(*arguments, **options)  # type: ignore[no-untyped-call]
        return self

    def _load_from_state_dict(self, *arguments: Any, **options: Any) -> None:
        self._folded.clear()
        super()._load_from_state_dict(*arguments, **options)


def folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of the one convolution that does what `conv` and then `norm` do."""
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("a norm without running statistics cannot be folded")
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    weight = conv.weight * scale[:, None, None, None]
    return (
        weight.contiguous(memory_format=torch.channels_last),
        norm.bias - norm.running_mean * scale,
    )


def real_frames(lengths: Tensor, frames: int) -> Tensor:
    """[batch, frame] bool: which frames lie inside each item's length."""
    return torch.arange(frames, device=lengths.device) < lengths[:, None]
