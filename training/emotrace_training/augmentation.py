"""Virtual speakers: one real voice under another speed, loudness and channel.

A condition is drawn once for a speaker, as a session has one microphone and one room, so the
running statistics that are drawn from the same virtual speaker's clips agree with it.
Samples are [sample] float32 at 16 kHz.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import soxr

from emotrace_models.types import SAMPLE_RATE, FloatArray

Channel = Literal["clean", "noise", "babble", "low-pass", "telephone", "room"]
_CHANNELS: tuple[tuple[Channel, float], ...] = (
    ("clean", 0.30),
    ("noise", 0.20),
    ("babble", 0.15),
    ("low-pass", 0.10),
    ("telephone", 0.12),
    ("room", 0.13),
)


@dataclass(frozen=True, slots=True)
class Condition:
    """speed: also raises the pitch. gain, ratio (speech to noise): dB. cutoff: Hz.

    decay: seconds to -60 dB of the room.
    """

    channel: Channel
    speed: float = 1.0
    gain: float = 0.0
    ratio: float = 20.0
    tilt: float = 0.0
    cutoff: float = 3_600.0
    decay: float = 0.3


CLEAN = Condition("clean")


def draw_condition(rng: np.random.Generator) -> Condition:
    names, shares = zip(*_CHANNELS, strict=True)
    return Condition(
        channel=names[int(rng.choice(len(names), p=shares))],
        speed=float(np.exp(rng.uniform(-0.13, 0.13))),
        gain=float(rng.uniform(-12.0, 6.0)),
        ratio=float(rng.uniform(3.0, 25.0)),
        tilt=float(rng.uniform(0.0, 1.0)),
        cutoff=float(rng.uniform(3_000.0, 4_500.0)),
        decay=float(rng.uniform(0.15, 0.6)),
    )


def apply(
    condition: Condition, samples: FloatArray, babble: FloatArray, rng: np.random.Generator
) -> FloatArray:
    """The clip under a condition. babble: other voices, at least one sample, repeated to length."""
    if condition == CLEAN:
        return samples
    out = samples
    if condition.speed != 1.0:
        out = soxr.resample(out, SAMPLE_RATE * condition.speed, SAMPLE_RATE, quality="LQ")
    match condition.channel:
        case "noise":
            out = mix(out, coloured_noise(len(out), condition.tilt, rng), condition.ratio)
        case "babble":
            shift = int(rng.integers(len(babble)))
            out = mix(out, np.resize(np.roll(babble, shift), len(out)), condition.ratio)
        case "low-pass":
            out = band(out, 0.0, condition.cutoff)
        case "telephone":
            out = mu_law(band(out, 300.0, 3_400.0))
        case "room":
            out = reverberate(out, condition.decay, rng)
        case "clean":
            pass
    gained = out * np.float32(10 ** (condition.gain / 20))
    return np.asarray(np.clip(gained, -1.0, 1.0), dtype=np.float32)


def mix(speech: FloatArray, noise: FloatArray, ratio: float) -> FloatArray:
    """Speech and noise of equal length, `ratio` dB of speech power over noise power."""
    powers = float(np.mean(speech**2)), float(np.mean(noise**2))
    if min(powers) == 0.0:
        return speech
    scale = np.sqrt(powers[0] / powers[1] / 10 ** (ratio / 10))
    return np.asarray(speech + noise * np.float32(scale), dtype=np.float32)


def coloured_noise(length: int, tilt: float, rng: np.random.Generator) -> FloatArray:
    """Noise whose power falls as f^-tilt: 0 white, 1 pink."""
    spectrum = np.fft.rfft(rng.standard_normal(length))
    spectrum[1:] *= np.arange(1, len(spectrum)) ** (-tilt / 2)
    return np.fft.irfft(spectrum, n=length).astype(np.float32)


def band(samples: FloatArray, low: float, high: float) -> FloatArray:
    """What lies between two frequencies in Hz, with slopes a tenth of them wide."""
    spectrum = np.fft.rfft(samples)
    hertz = np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE)
    gain = np.clip((high * 1.05 - hertz) / (high * 0.1), 0.0, 1.0)
    if low > 0:
        gain = gain * np.clip((hertz - low * 0.95) / (low * 0.1), 0.0, 1.0)
    return np.fft.irfft(spectrum * gain, n=len(samples)).astype(np.float32)


def mu_law(samples: FloatArray) -> FloatArray:
    """Through 8 bits of mu-law and back (G.711's curve, mu = 255), at the peak of the line."""
    peak = max(float(np.abs(samples).max()), 1e-6)
    pressed = np.sign(samples) * np.log1p(255 * np.abs(samples) / peak) / np.log1p(255)
    steps = np.round(pressed * 127) / 127
    curve = np.sign(steps) * np.expm1(np.abs(steps) * np.log1p(255)) / 255
    return np.asarray(curve * peak, dtype=np.float32)


def reverberate(samples: FloatArray, decay: float, rng: np.random.Generator) -> FloatArray:
    """A synthetic room: the direct sound, then noise that falls by 60 dB in `decay` seconds."""
    length = int(decay * SAMPLE_RATE)
    tail = rng.standard_normal(length) * np.exp(-6.9 * np.arange(length) / length)
    tail[0] = 0.0
    response = tail * (0.5 / np.sqrt(np.sum(tail**2)))
    response[0] = 1.0
    points = len(samples) + length
    wet = np.fft.irfft(np.fft.rfft(samples, points) * np.fft.rfft(response, points), n=points)
    return wet[: len(samples)].astype(np.float32)
