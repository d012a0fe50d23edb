"""Mel segment: three seconds of sound as a picture of a fixed size.

Paper: cross-modal attention with Tucker (Kumar et al., 2025), section 2; models.md section 7.1. The
CNN that reads it belongs to the fusion model. The paper's 3 s at a hop of 10 ms are 301 frames, not
the 256 it names: `mel_fit` says how they meet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
from torch import Tensor

from emotrace_models.encoders.base import NetworkEncoder
from emotrace_models.encoders.mel import MelConfig, decibels, mel_power
from emotrace_models.registry import register
from emotrace_models.types import SAMPLE_RATE, FloatArray, Modality, Utterance

MelFit = Literal["resize", "crop", "hop"]

# 25 ms windows in a transform long enough that none of 128 bands is empty.
TRANSFORM, WINDOW, HOP = 1024, 400, 160


@dataclass(frozen=True, slots=True)
class MelSegmentConfig:
    """Raises ValueError, which names the setting.

    seconds: in the middle of a longer utterance; a shorter one is followed by silence.
    mel_fit: how frames of 10 ms become `frames`: `resize`, linear in time; `crop`, the middle ones;
        `hop`, another hop (11.7 ms for the paper's sizes).
    """

    seconds: float = 3.0
    bands: int = 128
    frames: int = 256
    mel_fit: MelFit = "resize"

    def __post_init__(self) -> None:
        if self.mel_fit not in get_args(MelFit):
            raise ValueError(f"mel_fit must be one of {', '.join(get_args(MelFit))}")
        for name in ("bands", "frames"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0.0 < self.seconds < 3600.0:
            raise ValueError(f"seconds must be above 0, not {self.seconds}")
        if self.mel_fit == "crop" and self.mel().frames(self.samples) < self.frames:
            raise ValueError(
                f"mel_fit crop: {self.seconds:g} s have only {self.mel().frames(self.samples)} "
                f"frames of 10 ms, not {self.frames}"
            )
        if self.mel_fit == "hop" and self.samples < self.frames:
            raise ValueError(f"mel_fit hop: {self.seconds:g} s cannot have {self.frames} frames")

    @property
    def samples(self) -> int:
        return round(self.seconds * SAMPLE_RATE)

    def mel(self) -> MelConfig:
        hop = self.samples // self.frames if self.mel_fit == "hop" else HOP
        return MelConfig(n_fft=TRANSFORM, window=WINDOW, hop=hop, bands=self.bands)


@register("encoder", "mel_segment")
class MelSegment(NetworkEncoder):
    """Decibels of mel energy, no more than 80 under the loudest: [frames, bands]."""

    modality: ClassVar[Modality] = Modality.ACOUSTIC
    config_type: ClassVar[type[MelSegmentConfig]] = MelSegmentConfig
    pads: ClassVar[bool] = True

    def __init__(self, config: MelSegmentConfig, assets: Mapping[str, bytes] | None = None) -> None:
        super().__init__(config, assets)
        self.config = config
        self.width = config.bands

    @classmethod
    def small(cls) -> tuple[MelSegmentConfig, Mapping[str, bytes]]:
        return MelSegmentConfig(seconds=1.0, bands=8, frames=16), {}

    def front(self, utterance: Utterance) -> FloatArray | None:
        if utterance.samples is None or not len(utterance.samples):
            return None
        segment = middle(utterance.samples, self.config.samples)
        levels = decibels(mel_power(segment, self.config.mel()))
        frames = self.config.frames
        if self.config.mel_fit == "resize":
            return resized(levels, frames)
        first = max(0, len(levels) - frames) // 2
        return levels[first : first + frames]

    def forward(self, fronts: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The segments as they are: [item, frame, band] and their numbers of frames [item]."""
        return fronts, lengths


def middle(samples: FloatArray, count: int) -> FloatArray:
    """The middle `count` samples, or all of them and then silence."""
    first = max(0, len(samples) - count) // 2
    return np.pad(samples[first : first + count], (0, max(0, count - len(samples))))


def resized(levels: FloatArray, frames: int) -> FloatArray:
    """[frame, band] -> [frames, band], linear in time with half-pixel centres."""
    last = len(levels) - 1
    places = (np.arange(frames) + 0.5) * (len(levels) / frames) - 0.5
    before = np.floor(np.clip(places, 0, last)).astype(int)
    after = np.minimum(before + 1, last)
    share = (np.clip(places, 0, last) - before)[:, None].astype(np.float32)
    result: FloatArray = levels[before] * (1 - share) + levels[after] * share
    return result
