"""A log-mel spectrogram as a square picture of grey levels (Yu et al., Electronics 2024, and its
released code; models.md section 4.1).

The picture is resized, so every utterance, short or long, becomes as many columns: time stretches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from emotrace_models.encoders.base import NetworkEncoder
from emotrace_models.encoders.mel import MelConfig, decibels, mel_power
from emotrace_models.registry import register
from emotrace_models.types import FloatArray, Modality, Utterance

N_FFT, HOP = 2048, 512  # samples; the paper calls its hop 512 ms
TOP_DB = 80.0  # what lies further under the loudest, or under -80 dB, is black
MEAN, DEVIATION = 0.5, 0.5  # of grey levels in [0, 1]; the release leaves them at 0


@dataclass(frozen=True, slots=True)
class MelImageConfig:
    """size: rows and columns of the picture. bands: of the mel spectrum, before resizing."""

    size: int = 224
    bands: int = 224

    def __post_init__(self) -> None:
        for name in ("size", "bands"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")

    @property
    def mel(self) -> MelConfig:
        """librosa's defaults, which the released code takes."""
        return MelConfig(n_fft=N_FFT, window=N_FFT, hop=HOP, bands=self.bands)


@register("encoder", "mel_image")
class MelImage(NetworkEncoder):
    """`size` mel rows, the lowest first, of `size` columns of time, in [-1, 1]. No weights."""

    modality: ClassVar[Modality] = Modality.ACOUSTIC
    config_type: ClassVar[type[MelImageConfig]] = MelImageConfig
    pads: ClassVar[bool] = True

    def __init__(self, config: MelImageConfig, assets: Mapping[str, bytes] | None = None) -> None:
        super().__init__(config, assets)
        self.config = config
        self.width = config.size

    @property
    def stream(self) -> str:
        return "spectrogram"

    @classmethod
    def small(cls) -> tuple[MelImageConfig, Mapping[str, bytes]]:
        return MelImageConfig(size=16, bands=32), {}

    def front(self, utterance: Utterance) -> NDArray[np.uint8] | None:
        """The picture [row, column] of grey levels 0 to 255."""
        if utterance.samples is None or not len(utterance.samples):
            return None
        return resized(grey_levels(utterance.samples, self.config), self.config.size)

    def forward(self, fronts: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """fronts [item, row, column] uint8 -> [item, row, column] float32, and the rows [item]."""
        return (fronts.float() / 255.0 - MEAN) / DEVIATION, lengths


def grey_levels(samples: FloatArray, config: MelImageConfig) -> NDArray[np.uint8]:
    """samples [sample] at 16 kHz, at least one -> [band, frame], the lowest band first."""
    levels = decibels(mel_power(samples, config.mel), reference=1.0, range_db=TOP_DB).T
    grey: FloatArray = np.clip((levels + TOP_DB) * 255.0 / TOP_DB, 0, 255) + 0.5
    return grey.astype(np.uint8)


def resized(picture: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """[row, column] -> [size, size], bilinear over each new pixel's area, as Pillow does it."""
    image = torch.tensor(picture, dtype=torch.float32)[None, None]
    image = functional.interpolate(image, (size, size), mode="bilinear", antialias=True)
    levels: NDArray[np.uint8] = image[0, 0].round().clamp(0, 255).byte().numpy()
    return levels
