"""Resampler: sound at a rate that the protocol does not carry -> sound at one that it does."""

from __future__ import annotations

from math import gcd

import numpy as np
from numpy.typing import NDArray

_ZERO_CROSSINGS = 32  # of the kernel, to each side
_KAISER_BETA = 10.0  # stop band near -100 dB
_PASS_BAND = 0.95  # of the lower Nyquist frequency; the rest is for the filter's slope

FloatArray = NDArray[np.float32]


class Resampler:
    """A windowed sinc, stepped block by block: the result does not depend on the cuts.

    rate, wanted: Hz. A Kaiser window, one row of the kernel for each of the `wanted`/gcd phases
    (Crochiere & Rabiner 1983, section 4.3).
    """

    def __init__(self, rate: int, wanted: int) -> None:
        divisor = gcd(rate, wanted)
        self._up, self._down = wanted // divisor, rate // divisor
        cutoff = _PASS_BAND * min(1.0, wanted / rate)
        self._half = int(np.ceil(_ZERO_CROSSINGS / cutoff))  # input samples to each side
        phases = np.arange(self._up)[:, None] / self._up
        distance = np.arange(-self._half + 1, self._half + 1)[None, :] - phases
        window = np.i0(_KAISER_BETA * np.sqrt(np.clip(1 - (distance / self._half) ** 2, 0, None)))
        kernel = cutoff * np.sinc(cutoff * distance) * window
        self._kernel = (kernel / kernel.sum(axis=1, keepdims=True)).astype(np.float32)
        self._held: FloatArray | None = None  # input from `_base` on
        self._base = -self._half + 1
        self._taken = 0
        self._given = 0

    def push(self, samples: FloatArray) -> FloatArray:
        """samples [sample, channel] -> the output that is complete by now, [sample, channel]."""
        if self._held is None:
            self._held = np.zeros((self._half - 1, samples.shape[1]), dtype=np.float32)
        self._held = np.concatenate([self._held, samples.astype(np.float32, copy=False)])
        self._taken += len(samples)
        end = self._base + len(self._held)  # output at input position p needs p + half < end
        return self._give(max(self._given, -((self._half - end) * self._up // self._down)))

    def finish(self) -> FloatArray:
        """The rest, as if silence followed: in all ceil(taken * wanted / rate) samples."""
        if self._held is None:
            return np.zeros((0, 1), dtype=np.float32)
        silence = np.zeros((self._half + 1, self._held.shape[1]), dtype=np.float32)
        self._held = np.concatenate([self._held, silence])
        return self._give(-(-self._taken * self._up // self._down))

    def _give(self, upto: int) -> FloatArray:
        """Output samples from the last one given up to `upto`."""
        assert self._held is not None
        index = np.arange(self._given, upto, dtype=np.int64) * self._down
        first = index // self._up - self._half + 1 - self._base  # of each window, in `_held`
        taps = first[:, None] + np.arange(2 * self._half)
        windows = self._held[taps]  # [output, tap, channel]
        result: FloatArray = np.einsum("otc,ot->oc", windows, self._kernel[index % self._up])
        self._given = upto
        keep = upto * self._down // self._up - self._half + 1 - self._base
        keep = min(max(keep, 0), len(self._held))
        self._held = self._held[keep:]
        self._base += keep
        return result
