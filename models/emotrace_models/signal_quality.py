"""How well a microphone caught an utterance, and what its sound is like. Pure, numpy, some 3 ms.

Frames of 32 ms every 16 ms. The voice is in the frames that are within VOICE_DB of the loud ones.
Harmonicity is the highest peak of a frame's normalised autocorrelation (Boersma 1993, equations 8
and 9); the background is the quiet end of the frames' energies (minimum statistics, Martin 2001).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from emotrace_models.types import SAMPLE_RATE, FloatArray

FRAME, HOP, POINTS = 256, 128, 512  # samples at 8 kHz, where the character of a sound is measured
WIDE_FRAME = 512  # samples at 16 kHz, for the bandwidth
SHORTEST_LAG, LONGEST_LAG = 16, 128  # samples at 8 kHz: 500 Hz to 62.5 Hz
OCTAVE_COST = 0.02  # prefers the shorter of two equally good periods
SILENCE = 1e-10  # power of a sample below which there is nothing: -100 dB

VOICE_DB = 15.0
VOICED = 0.5  # autocorrelation from which a frame has a pitch
STILL = 0.004  # octaves between two frames: a note that is held, and hardly ever a voice
APART = 4  # frames between two spectra that are compared: 64 ms, less than a syllable
BANDS = (100, 250, 400, 600, 850, 1_200, 1_700, 2_300, 3_000, 3_900)  # Hz, edges
QUIET_SHARE = 0.1  # of the frames: the quietest hold the background
QUIET_BIAS_DB = 0.8  # the mean of noise over its quietest tenth
LOWEST_RATIO = 0.1  # voice over background; less cannot be told from the background's own changes


@dataclass(frozen=True, slots=True)
class Character:
    """What tells a voice from other sounds, measured where the sound is loud.

    harmonicity, typical_harmonicity: 90th percentile and median of the frames', 0 to 1. voiced_s:
    seconds with a pitch.
    pitch_spread: deviation of the pitch in octaves. stillness: share of the steps from frame to
    frame in which a pitch does not move. steadiness: correlation of the fine spectrum with the one
    64 ms later, 1 for a tone that is held. variety: how far the spectrum's envelope changes, dB.
    """

    harmonicity: float
    typical_harmonicity: float
    voiced_s: float
    pitch_spread: float
    stillness: float
    steadiness: float
    variety: float


@dataclass(frozen=True, slots=True)
class SignalQuality:
    """Of one utterance. dB are relative to full scale, but for `snr_db`.

    seconds: its length. snr_db: voice over background; None where neither can be told from the
    other. bandwidth_hz: 99 % of the energy lies below, even of the sounds that reach highest.
    clipped: share of samples in runs at the extremes. offset: mean of the samples, which the other
    figures leave out. level_db: of the voice.
    """

    seconds: float
    snr_db: float | None
    bandwidth_hz: int
    clipped: float
    offset: float
    level_db: float
    character: Character


def measure(samples: FloatArray) -> SignalQuality:
    """samples [sample] float32 in [-1, 1] at 16 kHz, at least one."""
    offset = float(samples.mean(dtype=np.float64))
    centred = np.pad(samples - np.float32(offset), (0, max(0, 2 * WIDE_FRAME - len(samples))))
    frames = _frames(centred[: len(centred) // 2 * 2].reshape(-1, 2).mean(axis=1), FRAME, HOP)
    energy = _energy(centred)[: len(frames)]
    loud = energy > max(float(np.percentile(energy, 90)) * 10 ** (-VOICE_DB / 10), SILENCE)
    character = _character(frames, loud)
    return SignalQuality(
        seconds=len(samples) / SAMPLE_RATE,
        snr_db=_snr(energy, character.typical_harmonicity),
        bandwidth_hz=_bandwidth(centred),
        clipped=_clipped(samples),
        offset=offset,
        level_db=10 * math.log10(max(float(energy[loud].mean()) if loud.any() else 0.0, SILENCE)),
        character=character,
    )


def _frames(samples: FloatArray, length: int, hop: int) -> FloatArray:
    """[frame, length]."""
    return sliding_window_view(samples, length)[::hop]


def _energy(samples: FloatArray) -> NDArray[np.float64]:
    """[frame] mean power of 32 ms every 16 ms."""
    total = np.concatenate([[0.0], np.cumsum(samples.astype(np.float64) ** 2)])
    edges = np.arange(0, len(samples) - 2 * FRAME + 1, 2 * HOP)
    return np.asarray((total[edges + 2 * FRAME] - total[edges]) / (2 * FRAME))


def _snr(energy: NDArray[np.float64], harmonicity: float) -> float | None:
    """The better of two: by the quietest frames, which speech without a pause has not; and by what
    is periodic in the loud frames (Boersma 1993, equation 4).
    """
    count = max(1, round(QUIET_SHARE * len(energy)))
    quiet = float(np.partition(energy, count - 1)[:count].mean()) * 10 ** (QUIET_BIAS_DB / 10)
    voice = float(energy.mean()) - quiet
    if quiet <= SILENCE:
        return None
    ratio = max(voice / quiet, harmonicity / (1.0 - min(harmonicity, 0.9999)))
    return None if ratio < LOWEST_RATIO else 10 * math.log10(ratio)


def _bandwidth(samples: FloatArray) -> int:
    frames = _frames(samples, WIDE_FRAME, WIDE_FRAME) * _window(WIDE_FRAME)
    power = _power(np.fft.rfft(frames, axis=1))
    total = power.sum(axis=1)
    heard = power[total >= total.max() * 1e-3]
    below = np.cumsum(heard, axis=1)
    reach = np.argmax(below >= 0.99 * below[:, -1:], axis=1)
    return round(float(np.percentile(reach, 95)) * SAMPLE_RATE / WIDE_FRAME)


def _clipped(samples: FloatArray) -> float:
    """Share of samples in runs of three and more at the highest or the lowest value."""
    count = 0
    if len(samples) < 3:
        return 0.0
    for side in (samples, -samples):
        peak = float(side.max())
        if peak > 0.0:
            at_peak = side >= peak * 0.999
            run = at_peak[:-2] & at_peak[1:-1] & at_peak[2:]
            inside = np.convolve(run, np.ones(3), "full") > 0
            count += int(inside.sum())
    return min(1.0, count / len(samples))


def _character(frames: FloatArray, loud: NDArray[np.bool_]) -> Character:
    if not loud.any():
        return Character(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    centred = (frames - frames.mean(axis=1, keepdims=True)) * _window(FRAME)
    power = _power(np.fft.rfft(centred, POINTS, axis=1))
    pitch, harmonicity = _pitch(power)
    voiced = loud & (harmonicity > VOICED)
    steps = np.abs(np.diff(pitch))[voiced[1:] & voiced[:-1]]
    fine = power[:, ::2]  # the padding doubled the bins
    return Character(
        harmonicity=float(np.percentile(harmonicity[loud], 90)),
        typical_harmonicity=float(np.median(harmonicity[loud])),
        voiced_s=float(voiced.sum()) * 2 * HOP / SAMPLE_RATE,
        pitch_spread=float(pitch[voiced].std()) if voiced.any() else 0.0,
        stillness=float((steps < STILL).mean()) if len(steps) else 0.0,
        steadiness=_steadiness(fine, loud),
        variety=_variety(fine[loud]),
    )


def _pitch(power: FloatArray) -> tuple[FloatArray, FloatArray]:
    """power [frame, bin] of padded frames -> pitch in octaves and harmonicity, [frame] each."""
    correlation = np.fft.irfft(power, axis=1)[:, : LONGEST_LAG + 2]
    normalised = correlation / (correlation[:, :1] + SILENCE * FRAME) * _window_correction()
    candidates = normalised[:, SHORTEST_LAG : LONGEST_LAG + 1] - _octave_penalty()
    lag = candidates.argmax(axis=1) + SHORTEST_LAG
    rows = np.arange(len(lag))
    left, middle, right = (normalised[rows, lag + shift] for shift in (-1, 0, 1))
    curve = np.maximum(2 * middle - left - right, 1e-6)
    shift = np.clip((right - left) / (2 * curve), -0.5, 0.5)
    return -np.log2(lag + shift), np.clip(middle, 0.0, 1.0)


def _steadiness(power: FloatArray, loud: NDArray[np.bool_]) -> float:
    """Median correlation of what stands out of the spectrum's envelope, with APART frames later."""
    both = loud[APART:] & loud[:-APART]
    if not both.any():
        return 0.0
    level = np.log(power[:, 2:] + SILENCE)
    around = np.cumsum(np.pad(level, ((0, 0), (5, 4)), mode="edge"), axis=1)
    fine = level - (around[:, 9:] - around[:, :-9]) / 9
    fine /= np.sqrt(np.square(fine).sum(axis=1, keepdims=True)) + 1e-6
    return float(np.median((fine[APART:] * fine[:-APART]).sum(axis=1)[both]))


def _variety(power: FloatArray) -> float:
    """Mean over bands of the deviation in time of a band's level relative to the others, dB."""
    edges = [round(hertz * FRAME / (SAMPLE_RATE / 2)) for hertz in BANDS]
    sums = np.add.reduceat(power, edges, axis=1)[:, :-1] / np.diff(edges)
    level = 10 * np.log10(sums + SILENCE)
    return float((level - level.mean(axis=1, keepdims=True)).std(axis=0).mean())


def _power(spectrum: NDArray[np.complexfloating]) -> FloatArray:
    return np.asarray(spectrum.real**2 + spectrum.imag**2, dtype=np.float32)


@lru_cache
def _window(length: int) -> FloatArray:
    """Hann's."""
    return np.hanning(length + 1)[:-1].astype(np.float32)


@lru_cache
def _window_correction() -> FloatArray:
    """What the window itself takes from the autocorrelation at each lag (Boersma, equation 9)."""
    own = np.fft.irfft(_power(np.fft.rfft(_window(FRAME), POINTS)))[: LONGEST_LAG + 2]
    return np.asarray(own[0] / own, dtype=np.float32)


@lru_cache
def _octave_penalty() -> FloatArray:
    lags = np.arange(SHORTEST_LAG, LONGEST_LAG + 1)
    return np.asarray(OCTAVE_COST * np.log2(lags / SHORTEST_LAG), dtype=np.float32)
