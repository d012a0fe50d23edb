"""Centring: a sound card's constant offset, taken out of what the voice detector hears. Pure.

The detector goes deaf at an offset of a third of full scale. Causal, and the same however the bytes
were cut. Sound without an offset passes as it is, bit for bit: so do the utterances themselves,
whose own offset is taken out, exactly, when they are over (emotrace_models.speech_gate).
"""

from __future__ import annotations

import numpy as np

from emotrace_models.speech_gate import OFFSET
from emotrace_models.types import SAMPLE_RATE, FloatArray
from emotrace_service.audio import FRAME_SAMPLES

MEMORY_S = 1.0
SETTLING_FRAMES = 8  # before them a loud first syllable could be taken for an offset


class Centring:
    """Of the channels of one session."""

    def __init__(self, channels: int) -> None:
        self._sum = np.zeros(channels)
        self._weight = 0.0
        self._frames = 0

    def push(self, samples: FloatArray) -> FloatArray:
        """The next frame of every channel, [channel, 512], without the offset so far."""
        share = FRAME_SAMPLES / SAMPLE_RATE / MEMORY_S
        self._sum += share * (samples.mean(axis=1, dtype=np.float64) - self._sum)
        self._weight += share * (1.0 - self._weight)
        self._frames += 1
        offset = self._sum / self._weight
        if self._frames < SETTLING_FRAMES or not (np.abs(offset) > OFFSET).any():
            return samples
        offset[np.abs(offset) <= OFFSET] = 0.0
        return np.asarray(samples - offset[:, None], dtype=np.float32)
