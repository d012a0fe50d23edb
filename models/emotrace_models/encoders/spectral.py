"""Sound to frames: log-mel bands, energy, voicing and pitch, each frame from its own samples only.

Frames of 25 ms every 10 ms at 16 kHz, without padding at the ends, so the features of a prefix are
a prefix of the features. Pitch is the strongest peak of the normalised autocorrelation of 40 ms
(Boersma 1993, equations 8 and 9, without his path search).
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from emotrace_models.types import SAMPLE_RATE

BANDS = 64
ENERGY, PITCH = BANDS, BANDS + 1  # columns after the bands
VOICING = BANDS + 2
COLUMNS = BANDS + 3

WINDOW, HOP, POINTS = 400, 160, 512  # samples
SHORTEST = 3_200  # samples; anything shorter is padded with silence to 0.2 s
LOWEST, HIGHEST = 50.0, 7_600.0  # Hz, of the mel bands
FLOOR = 1e-7  # of the mel power, about 10 times the noise of 16-bit samples

PITCH_WINDOW, PITCH_POINTS = 320, 512  # samples at 8 kHz
SHORTEST_LAG, LONGEST_LAG = 16, 128  # samples at 8 kHz: 500 Hz to 62.5 Hz
OCTAVE_COST = 0.02  # prefers the shorter of two equally good periods
VOICED = 0.5  # autocorrelation from which a frame counts as voiced


def frame_count(samples: int) -> int:
    return 1 + (max(samples, SHORTEST) - WINDOW) // HOP


def analyse(samples: Tensor) -> Tensor:
    """samples [sample] float32 in [-1, 1] at 16 kHz -> frames [frame, COLUMNS] float32.

    Columns: BANDS natural-log mel powers, log energy, log2 pitch in Hz (of the strongest peak,
    meaningful where the frame is voiced), voicing in [0, 1].
    """
    if len(samples) < SHORTEST:
        samples = F.pad(samples, (0, SHORTEST - len(samples)))
    power = _power(samples)
    bands = (power @ _mel_filters() + FLOOR).log()
    energy = (power.mean(dim=1, keepdim=True) + FLOOR).log()
    pitch, voicing = _pitch(samples, len(bands))
    return torch.cat([bands, energy, pitch[:, None], voicing[:, None]], dim=1)


def _power(samples: Tensor) -> Tensor:
    """[frame, bin] power spectrum."""
    windowed = samples.unfold(0, WINDOW, HOP) * _window(WINDOW)
    return _squared(torch.fft.rfft(windowed, n=POINTS))


def _squared(spectrum: Tensor) -> Tensor:
    """Magnitudes squared; sums over a dimension of two are slow."""
    return spectrum.real.square() + spectrum.imag.square()


def _pitch(samples: Tensor, frames: int) -> tuple[Tensor, Tensor]:
    """log2 pitch and voicing [frame], of 40 ms round the middle of each 25 ms frame."""
    pairs = samples[: len(samples) // 2 * 2]
    half = (pairs[::2] + pairs[1::2]) / 2  # 8 kHz
    margin = (PITCH_WINDOW - WINDOW // 2) // 2
    hop = HOP // 2
    needed = (frames - 1) * hop + PITCH_WINDOW
    half = F.pad(half, (margin, max(0, needed - margin - len(half))))[:needed]
    pieces = half.unfold(0, PITCH_WINDOW, hop)
    pieces = (pieces - pieces.mean(dim=1, keepdim=True)) * _window(PITCH_WINDOW)
    spectrum = _squared(torch.fft.rfft(pieces, n=PITCH_POINTS))
    correlation = torch.fft.irfft(spectrum, n=PITCH_POINTS)[:, : LONGEST_LAG + 2]
    # The floor keeps digital silence unvoiced.
    normalised = correlation / (correlation[:, :1] + 1e-6) * _window_correction()
    candidates = normalised[:, SHORTEST_LAG : LONGEST_LAG + 1] - _octave_penalty()
    lag = candidates.argmax(dim=1, keepdim=True) + SHORTEST_LAG
    left, middle, right = (normalised.gather(1, lag + shift)[:, 0] for shift in (-1, 0, 1))
    curve = (2 * middle - left - right).clamp_min(1e-6)
    shift = ((right - left) / (2 * curve)).clamp(-0.5, 0.5)
    pitch = torch.log2(SAMPLE_RATE / 2 / (lag[:, 0] + shift))
    return pitch, middle.clamp(0.0, 1.0)


@lru_cache
def _window(length: int) -> Tensor:
    return torch.hann_window(length, periodic=True)


@lru_cache
def _window_correction() -> Tensor:
    """What the window itself takes from the autocorrelation at each lag (Boersma, equation 9)."""
    spectrum = torch.fft.rfft(_window(PITCH_WINDOW), n=PITCH_POINTS).abs().square()
    own = torch.fft.irfft(spectrum, n=PITCH_POINTS)[: LONGEST_LAG + 2]
    correction: Tensor = own[0] / own
    return correction


@lru_cache
def _octave_penalty() -> Tensor:
    lags = torch.arange(SHORTEST_LAG, LONGEST_LAG + 1, dtype=torch.float32)
    return OCTAVE_COST * torch.log2(lags / SHORTEST_LAG)


@lru_cache
def _mel_filters() -> Tensor:
    """Triangles [bin, band] on the mel scale 2595 log10(1 + f / 700), each of height 1."""

    def mel(hertz: float) -> float:
        return 2595.0 * math.log10(1.0 + hertz / 700.0)

    points = torch.linspace(mel(LOWEST), mel(HIGHEST), BANDS + 2, dtype=torch.float64)
    edges = 700.0 * (10.0 ** (points / 2595.0) - 1.0)
    bins = torch.arange(POINTS // 2 + 1, dtype=torch.float64) * SAMPLE_RATE / POINTS
    # The narrowest triangles lie between two bins: widen them so that no band is empty.
    spacing = SAMPLE_RATE / POINTS
    low = torch.minimum(edges[:-2], edges[1:-1] - spacing)
    high = torch.maximum(edges[2:], edges[1:-1] + spacing)
    rising = (bins[:, None] - low) / (edges[1:-1] - low)
    falling = (high - bins[:, None]) / (high - edges[1:-1])
    return torch.minimum(rising, falling).clamp_min(0.0).float()
