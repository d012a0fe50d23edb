"""What happens to speech between a mouth and a model, named, for measuring what it costs.

Each takes samples [sample] float32 at 16 kHz and gives as many, at the same place in time. The
ratio of speech to noise is that of their mean powers over the whole clip, pauses included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import soxr
import torch

from emotrace_models.encoders.running_statistics import RANGE
from emotrace_models.encoders.spectral import ENERGY, HOP, analyse
from emotrace_models.types import SAMPLE_RATE, FloatArray
from emotrace_training.augmentation import (
    band,
    coloured_noise,
    mix,
    mu_law,
    opus,
    reverberate,
)

VOICES = 6  # that babble is made of
TELEPHONE_RATE = 8_000  # Hz


@dataclass(frozen=True, slots=True, eq=False)
class Babble:
    """Clips of voices that no measured clip is of."""

    clips: Sequence[FloatArray]

    def draw(self, length: int, rng: np.random.Generator) -> FloatArray:
        """Some of the voices at once, equally loud, each from a random place on: [length]."""
        chosen = rng.choice(len(self.clips), min(VOICES, len(self.clips)), replace=False)
        voices = [np.roll(self.clips[int(i)], int(rng.integers(1 << 30))) for i in chosen]
        total = np.sum([np.resize(v / (np.std(v) + 1e-6), length) for v in voices], axis=0)
        return np.asarray(total, dtype=np.float32)


Degradation = Callable[[FloatArray, Babble, np.random.Generator], FloatArray]


def untouched(samples: FloatArray, babble: Babble, rng: np.random.Generator) -> FloatArray:
    return samples


def _white(
    samples: FloatArray, babble: Babble, rng: np.random.Generator, ratio: float
) -> FloatArray:
    return within_scale(mix(samples, coloured_noise(len(samples), 0.0, rng), ratio))


def _babbling(
    samples: FloatArray, babble: Babble, rng: np.random.Generator, ratio: float
) -> FloatArray:
    return within_scale(mix(samples, babble.draw(len(samples), rng), ratio))


def _telephone(samples: FloatArray, babble: Babble, rng: np.random.Generator) -> FloatArray:
    """300 to 3400 Hz, 8 kHz, 8 bits of mu-law."""
    narrow = soxr.resample(band(samples, 300.0, 3_400.0), SAMPLE_RATE, TELEPHONE_RATE)
    wide = soxr.resample(mu_law(narrow), TELEPHONE_RATE, SAMPLE_RATE)[: len(samples)]
    return np.pad(wide, (0, len(samples) - len(wide)))


def _opus(samples: FloatArray, babble: Babble, rng: np.random.Generator, rate: int) -> FloatArray:
    return opus(samples, rate)


def _low_pass(
    samples: FloatArray, babble: Babble, rng: np.random.Generator, cutoff: float
) -> FloatArray:
    return band(samples, 0.0, cutoff)


def _room(
    samples: FloatArray, babble: Babble, rng: np.random.Generator, decay: float, wet: float
) -> FloatArray:
    return within_scale(reverberate(samples, decay, wet, rng))


def _quiet(
    samples: FloatArray, babble: Babble, rng: np.random.Generator, gain: float
) -> FloatArray:
    """`gain` dB, then the steps of 16 bits."""
    return np.asarray(np.round(samples * 10 ** (gain / 20) * 32_768) / 32_768, dtype=np.float32)


def _clipped(
    samples: FloatArray, babble: Babble, rng: np.random.Generator, below: float
) -> FloatArray:
    """Cut off `below` dB under the clip's own peak."""
    limit = np.abs(samples).max() * np.float32(10 ** (-below / 20))
    return np.clip(samples, -limit, limit)


def white(ratio: float) -> Degradation:
    return partial(_white, ratio=ratio)


def babbling(ratio: float) -> Degradation:
    return partial(_babbling, ratio=ratio)


def coded(rate: int) -> Degradation:
    """Opus at `rate` bit/s."""
    return partial(_opus, rate=rate)


def low_pass(cutoff: float) -> Degradation:
    return partial(_low_pass, cutoff=cutoff)


def room(decay: float, wet: float) -> Degradation:
    """decay: seconds to -60 dB. wet: power of the tail over that of the direct sound."""
    return partial(_room, decay=decay, wet=wet)


def quiet(gain: float) -> Degradation:
    return partial(_quiet, gain=gain)


def clipped(below: float) -> Degradation:
    return partial(_clipped, below=below)


telephone: Degradation = _telephone


def within_scale(samples: FloatArray) -> FloatArray:
    """Turned down where it would pass full scale: a noise must not bring clipping with it."""
    peak = float(np.abs(samples).max())
    return samples if peak <= 1.0 else np.asarray(samples / np.float32(peak), dtype=np.float32)


def onset(samples: FloatArray) -> int:
    """The sample where speech begins by the acoustic encoder's own rule: its first frame within
    35 dB of the loudest one.
    """
    energy = analyse(torch.tensor(samples, dtype=torch.float32))[:, ENERGY]
    return int((energy > energy.max() - RANGE).nonzero()[0, 0]) * HOP


def first_seconds(samples: FloatArray, seconds: float) -> FloatArray:
    """The clip from its onset on, at most so many seconds of it."""
    start = onset(samples)
    return samples[start : start + round(seconds * SAMPLE_RATE)]
