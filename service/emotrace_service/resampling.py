"""Resampler: a stream's own rate -> 16 kHz, the same however the stream was cut. Pure.

soxr's stream is fed blocks of the same 10 ms, so that no cut shows. What it remembers cannot be
taken out of it, but it reaches back no further than its filter: a new one that has heard the last
blocks again goes on as the old one would have (within 2e-7).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import soxr

from emotrace_models.types import SAMPLE_RATE, FloatArray

BLOCKS_A_SECOND = 100
BLOCK_OUT = SAMPLE_RATE // BLOCKS_A_SECOND
MEMORY_BLOCKS = 30  # 0.3 s; the filter's own reach is less than 0.1 s


@dataclass(frozen=True, slots=True, eq=False)
class ResamplerState:
    """heard: the last blocks [sample, channel], then less than one. blocks: fed so far.
    given: samples a channel given out so far."""

    heard: FloatArray
    blocks: int
    given: int


class Resampler:
    """One a stream. state: to go on from; None: a new stream."""

    def __init__(self, rate: int, channels: int, state: ResamplerState | None = None) -> None:
        self._stream = soxr.ResampleStream(
            rate, SAMPLE_RATE, channels, dtype="float32", quality="HQ"
        )
        self._block = rate // BLOCKS_A_SECOND
        self._waiting = np.empty((0, channels), np.float32)  # less than one block
        self._memory: deque[FloatArray] = deque(maxlen=MEMORY_BLOCKS)
        self._ready = self._waiting  # resampled, and not given out yet
        self._blocks = self._given = self._skip = 0
        if state is not None:
            self._go_on(state)

    @property
    def state(self) -> ResamplerState:
        """A value that a new one can go on from."""
        heard = np.concatenate([*self._memory, self._waiting])
        heard.setflags(write=False)
        return ResamplerState(heard, self._blocks, self._given)

    def push(self, steps: FloatArray, *, last: bool = False) -> FloatArray:
        """[sample, channel] at the stream's rate -> what is complete of it at 16 kHz."""
        waiting = np.concatenate([self._waiting, steps])
        whole = len(waiting) - len(waiting) % self._block
        blocks = (waiting[at : at + self._block] for at in range(0, whole, self._block))
        parts = [self._ready, *map(self._feed, blocks)]
        self._waiting = waiting[whole:].copy()
        if last:
            parts.append(self._stream.resample_chunk(self._waiting, last=True))
            self._waiting = self._waiting[:0]
        resampled = np.concatenate(parts)
        skipped = min(self._skip, len(resampled))
        self._skip -= skipped
        # A filter's overshoot at full scale would leave [-1, 1].
        given: FloatArray = np.clip(resampled[skipped:], -1.0, 1.0)
        self._ready = self._ready[:0]
        self._given += len(given)
        return given

    def _feed(self, block: FloatArray) -> FloatArray:
        """block: [samples of 10 ms, channel]."""
        self._memory.append(block.copy())
        self._blocks += 1
        resampled: FloatArray = self._stream.resample_chunk(block)
        return resampled

    def _go_on(self, state: ResamplerState) -> None:
        again = len(state.heard) // self._block
        whole = again * self._block
        heard = [
            self._feed(state.heard[at : at + self._block]) for at in range(0, whole, self._block)
        ]
        self._waiting = state.heard[whole:].copy()
        self._blocks, self._given = state.blocks, state.given
        # Where the first sample not given out yet lies in what the new stream gives.
        first = state.given - (state.blocks - again) * BLOCK_OUT
        resampled = np.concatenate([self._ready, *heard])
        self._ready = resampled[first:]
        self._skip = max(0, first - len(resampled))
