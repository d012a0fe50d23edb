"""GBAN's speech frames: log-mel bands, cepstra and their slopes, every 10 ms.

Liu et al., Interspeech 2020, section 2.1; models.md section 5.1. There is no network: whatever
follows learns from the frames themselves, and standardises them where it wants to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from emotrace_models.encoders.base import NetworkEncoder
from emotrace_models.encoders.mel import MelConfig, cepstra, decibels, deltas, mel_power
from emotrace_models.registry import register
from emotrace_models.types import FloatArray, Modality, Utterance

MEL = MelConfig(
    n_fft=512, window=400, hop=160, bands=26, lowest=0.0, highest=6_500.0, shape="hamming"
)
CEPSTRA = 13
FLOOR = 1e-10  # of the mel power
SHORTEST = 61  # frames that one step of GBAN's convolutions needs; fewer are padded with silence


@dataclass(frozen=True, slots=True)
class MelFramesConfig:
    """longest: frames of 10 ms; what comes after them is not read."""

    longest: int = 750

    def __post_init__(self) -> None:
        if self.longest < SHORTEST:
            raise ValueError(f"longest must be at least {SHORTEST}, not {self.longest}")


@register("encoder", "mel_frames")
class MelFrames(NetworkEncoder):
    """52 values a frame: 26 ln(mel power + 1e-10), 13 MFCC, 13 deltas of those (width 9)."""

    modality: ClassVar[Modality] = Modality.ACOUSTIC
    config_type: ClassVar[type[MelFramesConfig]] = MelFramesConfig
    pads: ClassVar[bool] = True

    def __init__(self, config: MelFramesConfig, assets: Mapping[str, bytes] | None = None) -> None:
        super().__init__(config, assets)
        self.config = config
        self.width = MEL.bands + 2 * CEPSTRA

    @classmethod
    def small(cls) -> tuple[MelFramesConfig, Mapping[str, bytes]]:
        return MelFramesConfig(), {}

    def front(self, utterance: Utterance) -> FloatArray | None:
        """[frame, 52]; from SHORTEST to `longest` frames."""
        if utterance.samples is None or not len(utterance.samples):
            return None
        return mel_frames(utterance.samples)[: self.config.longest]

    def forward(self, fronts: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The frames as they are: [item, frame, 52] and their numbers [item]."""
        return fronts, lengths


def mel_frames(samples: FloatArray) -> FloatArray:
    """samples [sample] at 16 kHz, at least one -> [frame, 52], at least SHORTEST frames."""
    missing = MEL.samples(SHORTEST) - len(samples)
    power = mel_power(np.pad(samples, (0, max(0, missing))), MEL)
    mfcc = cepstra(decibels(power), CEPSTRA)
    return np.concatenate([np.log(power + np.float32(FLOOR)), mfcc, deltas(mfcc)], axis=1)
