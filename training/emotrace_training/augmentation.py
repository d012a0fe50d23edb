"""Virtual speakers: one real voice under another speed, loudness, microphone and channel.

A condition is drawn once for a speaker, as a session has one microphone and one room, so the
running statistics that are drawn from the same virtual speaker's clips agree with it.
Samples are [sample] float32 at 16 kHz.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Literal

import av
import numpy as np
import soxr

from emotrace_models.types import SAMPLE_RATE, FloatArray

Channel = Literal["clean", "noise", "babble", "low-pass", "telephone", "room", "codec"]
_CHANNELS: tuple[tuple[Channel, float], ...] = (
    ("clean", 0.17),
    ("noise", 0.22),
    ("babble", 0.18),
    ("low-pass", 0.07),
    ("telephone", 0.12),
    ("room", 0.16),
    ("codec", 0.08),
)
_RESPONSE = (60.0, 200.0, 600.0, 1_800.0, 4_000.0, 7_600.0)  # Hz, of a microphone's response
_BLOCK = 2_048  # samples; transforms of whole blocks are fast whatever the clip's length


@dataclass(frozen=True, slots=True)
class Condition:
    """speed: also raises the pitch. gain, ratio (speech to noise): dB. cutoff: Hz.

    response: dB of the microphone at the frequencies _RESPONSE, empty for a flat one. decay:
    seconds to -60 dB of the room; wet: power of its tail over that of the direct sound.
    background: dB of speech over the noise of a room or line, None for none. rate: bit/s of Opus.
    """

    channel: Channel
    speed: float = 1.0
    gain: float = 0.0
    ratio: float = 20.0
    tilt: float = 0.0
    cutoff: float = 3_600.0
    decay: float = 0.3
    wet: float = 0.25
    response: tuple[float, ...] = ()
    background: float | None = None
    rate: int = 16_000


CLEAN = Condition("clean")


def draw_condition(rng: np.random.Generator) -> Condition:
    names, shares = zip(*_CHANNELS, strict=True)
    channel = names[int(rng.choice(len(names), p=shares))]
    response = rng.normal(0.0, 4.0, len(_RESPONSE)) if rng.random() < 0.6 else ()
    noisy = channel in ("low-pass", "telephone", "room") and rng.random() < 0.5
    return Condition(
        channel=channel,
        speed=float(np.exp(rng.uniform(-0.13, 0.13))),
        gain=float(rng.uniform(-15.0, 6.0)),
        ratio=float(rng.uniform(-3.0, 22.0)),
        tilt=float(rng.uniform(0.0, 1.5)),
        cutoff=float(rng.uniform(3_000.0, 4_500.0)),
        decay=float(rng.uniform(0.15, 0.8)),
        wet=float(rng.uniform(0.1, 0.8)),
        response=tuple(float(value) for value in response),
        background=float(rng.uniform(8.0, 30.0)) if noisy else None,
        rate=int(rng.integers(9_000, 24_000)),
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
    if condition.channel == "room":
        out = reverberate(out, condition.decay, condition.wet, rng)
    if condition.background is not None:
        out = mix(out, coloured_noise(len(out), condition.tilt, rng), condition.background)
    if condition.response:
        out = equalise(out, condition.response)
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
        case "codec":
            out = opus(out, condition.rate)
        case "clean" | "room":
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
    points = _whole_blocks(length)
    spectrum = np.fft.rfft(rng.standard_normal(points))
    spectrum[1:] *= np.arange(1, len(spectrum)) ** (-tilt / 2)
    return np.fft.irfft(spectrum, n=points)[:length].astype(np.float32)


def equalise(samples: FloatArray, response: tuple[float, ...]) -> FloatArray:
    """Through a microphone of `response` dB at the frequencies _RESPONSE, straight between them on
    a logarithmic axis.
    """
    hertz, spectrum = _spectrum(samples)
    level = np.interp(np.log(np.maximum(hertz, 1.0)), np.log(_RESPONSE), response)
    return _samples(spectrum * 10 ** (level / 20), len(samples))


def band(samples: FloatArray, low: float, high: float) -> FloatArray:
    """What lies between two frequencies in Hz, with slopes a tenth of them wide."""
    hertz, spectrum = _spectrum(samples)
    gain = np.clip((high * 1.05 - hertz) / (high * 0.1), 0.0, 1.0)
    if low > 0:
        gain = gain * np.clip((hertz - low * 0.95) / (low * 0.1), 0.0, 1.0)
    return _samples(spectrum * gain, len(samples))


def mu_law(samples: FloatArray) -> FloatArray:
    """Through 8 bits of mu-law and back (G.711's curve, mu = 255), at the peak of the line."""
    peak = max(float(np.abs(samples).max()), 1e-6)
    pressed = np.sign(samples) * np.log1p(255 * np.abs(samples) / peak) / np.log1p(255)
    steps = np.round(pressed * 127) / 127
    curve = np.sign(steps) * np.expm1(np.abs(steps) * np.log1p(255)) / 255
    return np.asarray(curve * peak, dtype=np.float32)


def reverberate(
    samples: FloatArray, decay: float, wet: float, rng: np.random.Generator
) -> FloatArray:
    """A synthetic room: the direct sound, then noise that falls by 60 dB in `decay` seconds."""
    length = int(decay * SAMPLE_RATE)
    tail = rng.standard_normal(length) * np.exp(-6.9 * np.arange(length) / length)
    tail[0] = 0.0
    response = tail * np.sqrt(wet / np.sum(tail**2))
    response[0] = 1.0
    points = _whole_blocks(len(samples) + length)
    heard = np.fft.rfft(samples, points) * np.fft.rfft(response, points)
    return np.fft.irfft(heard, n=points)[: len(samples)].astype(np.float32)


def opus(samples: FloatArray, rate: int) -> FloatArray:
    """Through Opus at `rate` bit/s and back, at the same length and place in time."""
    file = io.BytesIO()
    with av.open(file, "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=SAMPLE_RATE, layout="mono")
        stream.bit_rate = rate
        sound = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
        sound.sample_rate = SAMPLE_RATE
        for packet in (*stream.encode(sound), *stream.encode(None)):
            container.mux(packet)
    file.seek(0)
    resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
    with av.open(file, "r") as container:
        pieces = [
            piece.to_ndarray()[0]
            for frame in (*container.decode(audio=0), None)
            for piece in resampler.resample(frame)
        ]
    decoded = np.concatenate(pieces)[: len(samples)]
    return np.pad(decoded, (0, len(samples) - len(decoded))).astype(np.float32)


def _whole_blocks(length: int) -> int:
    return -(-length // _BLOCK) * _BLOCK


def _spectrum(samples: FloatArray) -> tuple[FloatArray, np.ndarray]:
    """Frequencies in Hz and the transform, the clip followed by silence to whole blocks."""
    points = _whole_blocks(len(samples))
    return np.fft.rfftfreq(points, 1 / SAMPLE_RATE), np.fft.rfft(samples, points)


def _samples(spectrum: np.ndarray, length: int) -> FloatArray:
    return np.fft.irfft(spectrum)[:length].astype(np.float32)
