"""Mel spectra and what is made of them: decibels, cepstra, deltas. Numpy alone.

The conventions are librosa's, whose results these equal: Slaney's Auditory Toolbox mel scale or
HTK's, triangles of height 1 or of one area, periodic windows in the middle of the transform.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from emotrace_models.types import SAMPLE_RATE, FloatArray

Shape = Literal["hann", "hamming"]
Padding = Literal["zeros", "reflect"]
Scale = Literal["htk", "slaney"]
Norm = Literal["slaney", "none"]

# Slaney's scale: linear below 1 kHz, then 27 steps of equal ratio to 6.4 kHz.
_LINEAR, _CORNER = 200.0 / 3, 1000.0
_STEP = np.log(6.4) / 27


@dataclass(frozen=True, slots=True)
class MelConfig:
    """Raises ValueError, which names the setting. Lengths are samples at `rate` Hz.

    n_fft: points of the transform. window: samples of a frame. shape: of the window.
    centre: frame t lies around sample t * hop, and the ends are padded by `padding`; else it
        begins there and only whole frames count.
    bands: triangles from `lowest` to `highest` Hz. norm: `slaney`, triangles of one area.
    power: of the magnitude; 2 is energy.
    """

    n_fft: int = 512
    window: int = 400
    hop: int = 160
    bands: int = 80
    lowest: float = 0.0
    highest: float = 8_000.0
    scale: Scale = "slaney"
    norm: Norm = "slaney"
    shape: Shape = "hann"
    centre: bool = True
    padding: Padding = "zeros"
    power: float = 2.0
    rate: int = SAMPLE_RATE

    def __post_init__(self) -> None:
        for name in ("n_fft", "window", "hop", "bands", "rate"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.window > self.n_fft:
            raise ValueError(f"window {self.window} is longer than n_fft {self.n_fft}")
        if not 0 <= self.lowest < self.highest <= self.rate / 2:
            raise ValueError(
                f"bands must lie from 0 to {self.rate / 2:g} Hz, lowest first, not from "
                f"{self.lowest:g} to {self.highest:g}"
            )
        if self.power <= 0:
            raise ValueError(f"power must be above 0, not {self.power}")
        choices = {"scale": Scale, "norm": Norm, "shape": Shape, "padding": Padding}
        for name, choice in choices.items():
            if getattr(self, name) not in get_args(choice):
                raise ValueError(f"{name} must be one of {', '.join(get_args(choice))}")

    def frames(self, samples: int) -> int:
        """How many frames `samples` give."""
        if self.centre:
            samples += 2 * (self.n_fft // 2) - self.n_fft + self.window
        return max(0, 1 + (samples - self.window) // self.hop)

    def samples(self, frames: int) -> int:
        """The fewest samples, at least 1, that give `frames` frames."""
        needed = (frames - 1) * self.hop
        if not self.centre:
            return needed + self.window
        return max(1, needed + self.n_fft - 2 * (self.n_fft // 2))


def mel_power(samples: FloatArray, config: MelConfig) -> FloatArray:
    """samples [sample] -> [frame, band]; power 2 gives energies.

    Raises ValueError where the samples do not fill one frame.
    """
    result: FloatArray = spectrum(samples, config) @ mel_filters(config)
    return result


def spectrum(samples: FloatArray, config: MelConfig) -> FloatArray:
    """samples [sample] -> [frame, bin]: magnitudes to the power of `power`."""
    if not len(samples) or not config.frames(len(samples)):
        raise ValueError(f"{len(samples)} samples do not fill a frame of {config.window}")
    samples = samples.astype(np.float32, copy=False)
    count = config.frames(len(samples))
    if config.centre:
        left = config.n_fft // 2 - (config.n_fft - config.window) // 2
        sides = (left, config.n_fft // 2 + 1)  # on the right a little more than is read
        zeros = config.padding == "zeros"
        samples = np.pad(samples, sides) if zeros else np.pad(samples, sides, mode="reflect")
    framed = np.lib.stride_tricks.sliding_window_view(samples, config.window)
    framed = framed[:: config.hop][:count] * _window(config.window, config.shape)
    magnitudes: FloatArray = np.abs(np.fft.rfft(framed, n=config.n_fft)).astype(np.float32)
    return magnitudes**config.power


def decibels(
    power: FloatArray,
    reference: float | Literal["max"] = 1.0,
    floor: float = 1e-10,
    range_db: float | None = 80.0,
) -> FloatArray:
    """10 log10(power / reference), powers under `floor` raised to it.

    reference: `max`, the largest power there. range_db: nothing lies further under the loudest.
    """
    top = float(power.max()) if reference == "max" else reference
    result: FloatArray = np.float32(10.0) * np.log10(np.maximum(power, np.float32(floor)))
    result -= np.float32(10.0 * np.log10(max(top, floor)))
    return result if range_db is None else np.maximum(result, result.max() - np.float32(range_db))


def cepstra(levels: FloatArray, count: int) -> FloatArray:
    """The first `count` coefficients of the orthonormal DCT-II over bands: [frame, band] ->
    [frame, count]. Of mel energies in decibels these are librosa's MFCC.

    Raises ValueError where there are fewer bands.
    """
    if count > levels.shape[1]:
        raise ValueError(f"{levels.shape[1]} bands have no {count} cepstral coefficients")
    result: FloatArray = levels @ _dct(levels.shape[1])[:, :count]
    return result


def deltas(features: FloatArray, width: int = 9) -> FloatArray:
    """The slope a frame of the line fitted to `width` frames around it: [frame, feature].

    At the ends it is the slope of the first or last `width` frames (Savitzky-Golay, as librosa).
    Raises ValueError where there are fewer frames.
    """
    if width < 3 or width % 2 == 0:
        raise ValueError(f"the width of deltas must be odd and at least 3, not {width}")
    if len(features) < width:
        raise ValueError(f"deltas over {width} frames need as many, not {len(features)}")
    half = width // 2
    places = np.arange(-half, half + 1, dtype=np.float32)
    around = np.lib.stride_tricks.sliding_window_view(features, width, axis=0)
    slopes = around @ (places / np.square(places).sum())
    return np.pad(slopes, ((half, half), (0, 0)), mode="edge")


@lru_cache
def mel_filters(config: MelConfig) -> FloatArray:
    """Triangles [bin, band]."""
    ends = _mel(np.array([config.lowest, config.highest]), config.scale)
    edges = _hertz(np.linspace(ends[0], ends[1], config.bands + 2), config.scale)
    bins = np.arange(config.n_fft // 2 + 1) * (config.rate / config.n_fft)
    rising = (bins[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    filters = np.maximum(0.0, np.minimum(rising, falling))
    if config.norm == "slaney":
        filters *= 2.0 / (edges[2:] - edges[:-2])
    return _frozen(filters)


def _mel(hertz: NDArray[np.float64], scale: Scale) -> NDArray[np.float64]:
    if scale == "htk":
        return 2595.0 * np.log10(1.0 + hertz / 700.0)
    above = _CORNER / _LINEAR + np.log(np.maximum(hertz, _CORNER) / _CORNER) / _STEP
    return np.where(hertz < _CORNER, hertz / _LINEAR, above)


def _hertz(mel: NDArray[np.float64], scale: Scale) -> NDArray[np.float64]:
    if scale == "htk":
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    above = _CORNER * np.exp(_STEP * (mel - _CORNER / _LINEAR))
    return np.where(mel < _CORNER / _LINEAR, mel * _LINEAR, above)


@lru_cache
def _window(length: int, shape: Shape) -> FloatArray:
    rest = {"hann": 0.5, "hamming": 0.54}[shape]
    turns = 2 * np.pi * np.arange(length) / length
    return _frozen(rest - (1 - rest) * np.cos(turns))


@lru_cache
def _dct(size: int) -> FloatArray:
    """[band, coefficient]."""
    places = np.arange(size)
    basis = np.cos(np.pi * (places[:, None] + 0.5) * places / size) * np.sqrt(2.0 / size)
    basis[:, 0] *= np.sqrt(0.5)
    return _frozen(basis)


def _frozen(values: NDArray[np.float64]) -> FloatArray:
    result = values.astype(np.float32)
    result.flags.writeable = False
    return result
