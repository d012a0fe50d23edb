"""Centring: a sound card's constant offset, taken out of what the voice detector hears. Pure.

The detector goes deaf at an offset of a third of full scale. Causal, and the same however the bytes
were cut. Sound without an offset passes as it is, bit for bit: so do the utterances themselves,
whose own offset is taken out, exactly, when they are over (emotrace_models.speech_gate).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emotrace_models.speech_gate import OFFSET
from emotrace_models.types import SAMPLE_RATE, FloatArray
from emotrace_service.audio import FRAME_SAMPLES

MEMORY_S = 1.0
SHARE = FRAME_SAMPLES / SAMPLE_RATE / MEMORY_S
SETTLING_FRAMES = 8  # before them a loud first syllable could be taken for an offset


@dataclass(frozen=True, slots=True)
class CentringState:
    """offsets: a running mean a channel. weight: of how much sound. frames: heard so far."""

    offsets: tuple[float, ...]
    weight: float = 0.0
    frames: int = 0


class Centring:
    """Of the channels of one session. state: to go on from."""

    def __init__(self, channels: int, state: CentringState | None = None) -> None:
        state = state or CentringState((0.0,) * channels)
        # Plain numbers: for two of them an array costs ten times as much.
        self._offsets = list(state.offsets)
        self._weight = state.weight
        self._frames = state.frames

    @property
    def state(self) -> CentringState:
        """A value that a new one can go on from."""
        return CentringState(tuple(self._offsets), self._weight, self._frames)

    def push(self, samples: FloatArray) -> FloatArray:
        """The next frame of every channel, [channel, 512], without the offset so far."""
        means = np.add.reduce(samples, axis=1, dtype=np.float64) / FRAME_SAMPLES
        self._weight += SHARE * (1.0 - self._weight)
        self._frames += 1
        largest = 0.0
        for channel, mean in enumerate(means.tolist()):
            offset = self._offsets[channel] + SHARE * (mean - self._offsets[channel])
            self._offsets[channel] = offset
            largest = max(largest, abs(offset))
        if self._frames < SETTLING_FRAMES or largest <= OFFSET * self._weight:
            return samples
        found = np.array(self._offsets) / self._weight
        found[np.abs(found) <= OFFSET] = 0.0
        return np.asarray(samples - found[:, None], dtype=np.float32)
