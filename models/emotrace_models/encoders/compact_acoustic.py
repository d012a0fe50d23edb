"""Compact acoustic encoder: the sound of an utterance -> a unit vector in the shared emotion space.

An ensemble of small towers that were trained apart against the same class prototypes
(prototypes.py); the vector is the normalised mean of theirs. The speaker's running statistics are
the state, a value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emotrace_models.encoders.acoustic_tower import AcousticTower, Stage, TowerConfig
from emotrace_models.encoders.base import Encoder, SpeakerState
from emotrace_models.encoders.buckets import buckets
from emotrace_models.encoders.prototypes import in_frame
from emotrace_models.encoders.running_statistics import (
    KEPT,
    RunningStatistics,
    moments,
    views,
    without_silence,
)
from emotrace_models.encoders.spectral import analyse
from emotrace_models.registry import register
from emotrace_models.types import FloatArray, Modality, Utterance


@dataclass(frozen=True, slots=True)
class CompactAcousticConfig:
    """members: towers. anchor: frames that the prior weighs. memory: frames of speech kept.

    channels, contour, pooled: sizes of each tower. dropout: in training only.
    """

    width: int = 128
    members: int = 2
    channels: tuple[int, int, int, int] = (32, 64, 96, 128)
    contour: int = 32
    pooled: int = 192
    dropout: float = 0.2
    anchor: float = 300.0
    memory: int = 30_000

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))  # JSON has only lists
        if len(self.channels) != 4:
            raise ValueError(f"channels must be four numbers, not {len(self.channels)}")
        sizes = (self.width, self.members, *self.channels, self.contour, self.pooled, self.memory)
        if min(sizes) < 1 or self.pooled % 2:
            raise ValueError("sizes must be positive and pooled even")
        if not 0.0 < self.anchor < float("inf"):
            raise ValueError(f"anchor must be positive, not {self.anchor}")

    def tower(self) -> TowerConfig:
        return TowerConfig(self.width, self.channels, self.contour, self.pooled, self.dropout)


@register("encoder", "compact_acoustic")
class CompactAcoustic(Encoder):
    modality: ClassVar[Modality] = Modality.ACOUSTIC
    config_type: ClassVar[type[CompactAcousticConfig]] = CompactAcousticConfig
    prior: Tensor

    def __init__(
        self, config: CompactAcousticConfig, assets: Mapping[str, bytes] | None = None
    ) -> None:
        super().__init__(config, assets)
        self.config = config
        self.width = config.width
        self.members = nn.ModuleList(AcousticTower(config.tower()) for _ in range(config.members))
        # Mean and deviation of each column over the training speakers.
        self.register_buffer("prior", torch.tensor([[0.0] * KEPT, [1.0] * KEPT]))

    @classmethod
    def small(cls) -> tuple[CompactAcousticConfig, Mapping[str, bytes]]:
        return CompactAcousticConfig(16, 2, channels=(4, 6, 8, 8), contour=4, pooled=8), {}

    def in_bf16(self) -> Self:
        own = self.copied()
        for member in own.members:
            for stage in cast(AcousticTower, member).stages:
                cast(Stage, stage).to_bf16()
        return own

    def start(self) -> RunningStatistics:
        return RunningStatistics.empty()

    def forward(self, bands: Tensor, contours: Tensor, lengths: Tensor) -> Tensor:
        """The ensemble's unit vectors [batch, width]; arguments as AcousticTower.forward."""
        bands = bands.contiguous(memory_format=torch.channels_last)
        vectors = [member(bands, contours, lengths) for member in self.members]
        return F.normalize(torch.stack(vectors).mean(dim=0), dim=-1)

    @torch.inference_mode()
    def encode(
        self, items: Sequence[tuple[SpeakerState, Utterance]]
    ) -> list[tuple[FloatArray | None, SpeakerState]]:
        results: list[tuple[FloatArray | None, SpeakerState]] = [(None, s) for s, _ in items]
        heard = [
            (i, *self.observe(state, utterance.samples))
            for i, (state, utterance) in enumerate(items)
            if utterance.samples is not None
        ]
        for bucket in buckets([bands.shape[-1] for _, bands, _, _ in heard]):
            together = [heard[number] for number in bucket]
            inputs = collate([(bands, contours) for _, bands, contours, _ in together])
            vectors = in_frame(self(*inputs))
            for row, (i, _, _, state) in enumerate(together):
                results[i] = (vectors[row].numpy().copy(), state)
        return results

    @torch.inference_mode()
    def observe(
        self, state: RunningStatistics, samples: FloatArray
    ) -> tuple[Tensor, Tensor, RunningStatistics]:
        """One utterance's bands [2, BANDS, frame], contours [CONTOURS, frame], and next state."""
        frames = without_silence(analyse(torch.tensor(samples, dtype=torch.float32)))
        mask = torch.ones(len(frames), dtype=torch.bool)
        own = moments(frames, mask)
        earlier = torch.tensor(state.moments, dtype=torch.float32)
        bands, contours = views(frames, mask, own, earlier, self.prior, self.config.anchor)
        heard = state.including(own.double().numpy().astype(np.float64), self.config.memory)
        return bands, contours, heard


def collate(inputs: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs of several utterances, zeros after the shorter ones, and their lengths."""
    lengths = torch.tensor([bands.shape[-1] for bands, _ in inputs])
    longest = int(lengths.max())
    bands = torch.stack([F.pad(b, (0, longest - b.shape[-1])) for b, _ in inputs])
    contours = torch.stack([F.pad(c, (0, longest - c.shape[-1])) for _, c in inputs])
    return bands, contours, lengths
