"""Sound that nobody spoke, made from a seed: rooms, noise, hum, music, keyboards, breath.

Every kind is a generator of `seconds` of [sample] float32 at 16 kHz. The seed draws level, pitch,
tempo and timbre anew every few seconds, so that a minute holds many cases. The thresholds of
emotrace_models/speech_gate.py were settled on seeds below 100; tests take others.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

RATE = 16_000
PIECE_S = (4.0, 9.0)  # one level, pitch and timbre
BLOCK = 2_048  # samples; transforms of whole blocks are fast whatever the length

Sound = NDArray[np.float64]
Piece = Callable[[int, np.random.Generator], Sound]


def _level(sound: Sound, dbfs: float) -> Sound:
    """The sound at so many dB of full scale (its root mean square)."""
    power = float(np.sqrt(np.mean(sound**2)))
    return sound if power == 0.0 else sound * (10 ** (dbfs / 20) / power)


def _noise(count: int, rng: np.random.Generator, tilt: float) -> Sound:
    """Noise whose power falls as f^-tilt: 0 white, 1 pink, 2 brown."""
    return _filtered(
        rng.standard_normal(count), lambda hertz: np.maximum(hertz, 20.0) ** (-tilt / 2)
    )


def _filtered(sound: Sound, gain: Callable[[Sound], Sound]) -> Sound:
    """gain: of frequencies in Hz."""
    points = -(-len(sound) // BLOCK) * BLOCK
    spectrum = np.fft.rfft(sound, points) * gain(np.fft.rfftfreq(points, 1 / RATE))
    return np.asarray(np.fft.irfft(spectrum, points)[: len(sound)])


def _bump(hertz: Sound, centre: float, width: float) -> Sound:
    return np.asarray(1.0 / (1.0 + ((hertz - centre) / width) ** 2))


def _room(count: int, rng: np.random.Generator) -> Sound:
    quiet = _level(_noise(count, rng, rng.uniform(0.7, 1.6)), rng.uniform(-75, -50))
    return quiet + _hum(count, rng) * 10 ** (rng.uniform(-60, -35) / 20)


def _coloured(tilt: float) -> Piece:
    def piece(count: int, rng: np.random.Generator) -> Sound:
        return _level(_noise(count, rng, tilt), rng.uniform(-50, -8))

    return piece


def _hum(count: int, rng: np.random.Generator) -> Sound:
    """Mains: 50 or 60 Hz with harmonics that fall off, and hardly any change."""
    base = rng.choice([50.0, 60.0]) * (1 + rng.normal(0, 5e-4))
    time = np.arange(count) / RATE
    fall = rng.uniform(0.3, 1.5)
    total = np.zeros(count)
    for k in range(1, int(rng.integers(3, 40))):
        loud = k**-fall * 10 ** (rng.normal(0, 6) / 20) * (1.0 if k % 2 else rng.uniform(0.1, 1))
        total += loud * np.sin(2 * np.pi * base * k * time + rng.uniform(0, 6.28))
    drift = 1 + 0.1 * np.sin(2 * np.pi * rng.uniform(0.1, 2) * time)
    return _level(total * drift + 0.01 * _noise(count, rng, 1), rng.uniform(-45, -10))


def _fan(count: int, rng: np.random.Generator) -> Sound:
    """Air noise, the tones of the blades, and a beat between them."""
    time = np.arange(count) / RATE
    air = _level(_noise(count, rng, rng.uniform(1.0, 2.0)), -20)
    blade = rng.uniform(60, 300)
    tones = sum(np.sin(2 * np.pi * blade * k * time) / k for k in range(1, 6))
    beat = 1 + rng.uniform(0, 0.5) * np.sin(2 * np.pi * rng.uniform(0.3, 8) * time)
    return _level((air + _level(tones, rng.uniform(-50, -22))) * beat, rng.uniform(-45, -12))


def _note(
    count: int, pitch: float, rng: np.random.Generator, timbre: tuple[float, float, float, float]
) -> Sound:
    """timbre: fall of the partials, attack and decay in seconds, depth of vibrato."""
    fall, attack, decay, vibrato = timbre
    time = np.arange(count) / RATE
    sway = vibrato * np.sin(2 * np.pi * rng.uniform(4.5, 6.5) * time)
    phase = 2 * np.pi * pitch * np.cumsum(1 + sway) / RATE
    partials = range(1, max(2, min(25, int(7_500 / pitch))))
    tone = np.asarray(sum(k**-fall * np.sin(k * phase + rng.uniform(0, 6.28)) for k in partials))
    rise = np.minimum(1.0, time / attack)
    release = np.minimum(1.0, (count / RATE - time) / 0.03)
    return np.asarray(tone * rise * release * np.exp(-time / decay))


def _timbre(rng: np.random.Generator) -> tuple[float, float, float, float]:
    return (
        rng.uniform(0.6, 3.0),
        float(np.exp(rng.uniform(np.log(0.004), np.log(0.15)))),
        float(np.exp(rng.uniform(np.log(0.15), np.log(5.0)))),
        rng.choice([0.0, rng.uniform(0.001, 0.012)]),
    )


def _equal_tempered(step: float) -> float:
    return float(440.0 * 2 ** (step / 12))


def _chords(count: int, rng: np.random.Generator) -> Sound:
    total, timbre, root = np.zeros(count), _timbre(rng), rng.integers(-24, 1)
    beat = int(rng.uniform(0.4, 2.0) * RATE)
    for at in range(0, count, beat):
        size = min(beat, count - at)
        shape = rng.choice(np.array([[0, 4, 7, 12], [0, 3, 7, 10], [0, 4, 7, 11], [0, 5, 7, 12]]))
        step = root + rng.choice([0, 5, 7, 9, -4])
        for interval in shape:
            total[at : at + size] += _note(size, _equal_tempered(step + interval), rng, timbre)
    return _level(total, rng.uniform(-35, -10))


def _melody(count: int, rng: np.random.Generator) -> Sound:
    total, timbre, step = np.zeros(count), _timbre(rng), int(rng.integers(-14, 10))
    beat, at = rng.uniform(0.12, 0.5), 0
    while at < count:
        size = min(int(beat * rng.choice([1, 1, 2, 0.5, 3]) * RATE), count - at)
        if rng.random() > 0.1:
            total[at : at + size] = _note(size, _equal_tempered(step), rng, timbre)
        step = int(np.clip(step + rng.choice([-5, -4, -2, -1, 0, 1, 2, 3, 5, 7]), -20, 20))
        at += size
    return _level(total, rng.uniform(-35, -10))


def _strike(count: int, rng: np.random.Generator, kind: int) -> Sound:
    """A drum: kick, snare, or cymbal."""
    time = np.arange(count) / RATE
    if kind == 0:
        sweep = 50 + rng.uniform(80, 250) * np.exp(-time / 0.03)
        return np.asarray(np.sin(2 * np.pi * np.cumsum(sweep) / RATE) * np.exp(-time / 0.12))
    wide = _noise(count, rng, 0)
    if kind == 1:
        body = np.sin(2 * np.pi * rng.uniform(150, 250) * time) * np.exp(-time / 0.06)
        return np.asarray(0.6 * body + 0.5 * wide * np.exp(-time / rng.uniform(0.05, 0.15)))
    bright = _filtered(wide, lambda hertz: (hertz > 5_000).astype(float))
    return np.asarray(0.5 * bright * np.exp(-time / rng.uniform(0.02, 0.3)))


def _drums(count: int, rng: np.random.Generator) -> Sound:
    total, step = np.zeros(count), int(60 / rng.uniform(70, 180) / 2 * RATE)
    for number, at in enumerate(range(0, count, step)):
        size = min(int(0.6 * RATE), count - at)
        for kind, due in ((0, number % 4 == 0), (1, number % 4 == 2), (2, True)):
            if due and rng.random() > 0.1:
                loud = rng.uniform(0.6, 1.0) * (0.4 if kind == 2 else 1.0)
                total[at : at + size] += loud * _strike(size, rng, kind)
    return _level(total, rng.uniform(-35, -12))


def _band_music(count: int, rng: np.random.Generator) -> Sound:
    """Chords, a tune and drums together."""
    parts = [_level(make(count, rng), rng.uniform(-24, -16)) for make in (_chords, _melody, _drums)]
    return _level(np.sum(parts, axis=0), rng.uniform(-35, -10))


def _click(count: int, rng: np.random.Generator, pitch: float, decay: float) -> Sound:
    time = np.arange(count) / RATE
    ring = np.sin(2 * np.pi * pitch * time) + rng.normal(0, 0.7, count)
    return np.asarray(ring * np.exp(-time / decay))


def _typing(count: int, rng: np.random.Generator) -> Sound:
    """Keys: a click going down and a weaker one coming up, in bursts as words are."""
    total = _level(_noise(count, rng, 1.0), rng.uniform(-70, -50))
    pitch, decay = rng.uniform(800, 5_000), rng.uniform(0.002, 0.012)
    pace, loud, at = rng.uniform(0.06, 0.25), rng.uniform(0.02, 0.6), 0.1
    while at < count / RATE - 0.2:
        for delay, share in ((0.0, 1.0), (rng.uniform(0.05, 0.12), rng.uniform(0.2, 0.6))):
            first = int((at + delay) * RATE)
            size = min(int(0.08 * RATE), count - first)
            key = pitch * rng.uniform(0.7, 1.4)
            heavy = share * loud * rng.uniform(0.5, 1.0)
            total[first : first + size] += heavy * _click(size, rng, key, decay)
        at += pace * rng.uniform(0.6, 1.6) + (rng.uniform(0.3, 1.0) if rng.random() < 0.12 else 0)
    return total


def _breath(count: int, rng: np.random.Generator) -> Sound:
    """In and out: noise through the throat's resonances, swelling and dying away."""
    total = _level(_noise(count, rng, 1.0), rng.uniform(-75, -55))
    loud, at = rng.uniform(-40, -14), rng.uniform(0.1, 0.8)
    centres = rng.uniform(400, 900), rng.uniform(1_100, 2_200), rng.uniform(2_400, 3_600)
    while at < count / RATE - 0.3:
        size = min(int(rng.uniform(0.35, 1.6) * RATE), count - int(at * RATE))
        shares = rng.uniform(0.2, 1.0, 3)
        shaped = _filtered(
            _noise(size, rng, 0.6),
            lambda hertz, shares=shares: sum(  # type: ignore[misc]
                share * _bump(hertz, centre, 250)
                for share, centre in zip(shares, centres, strict=True)
            ),
        )
        swell = np.sin(np.pi * np.linspace(0, 1, size) ** rng.uniform(0.5, 1.5)) ** 1.5
        first = int(at * RATE)
        total[first : first + size] += _level(shaped, loud + rng.uniform(-6, 3)) * swell
        at += size / RATE + rng.uniform(0.2, 1.2)
    return total


def _clicks(count: int, rng: np.random.Generator) -> Sound:
    """10 ms clicks, twenty a second: what makes a voice detector flap."""
    total, step = np.zeros(count), RATE // 20
    for at in range(0, count - step, step):
        total[at : at + 160] = rng.uniform(0.1, 0.9) * rng.standard_normal(160).clip(-1, 1)
    return total


def _tones(count: int, rng: np.random.Generator) -> Sound:
    """Beeps, dial tones, sirens and full-scale squares."""
    time = np.arange(count) / RATE
    pitch = rng.uniform(100, 2_500)
    kind = int(rng.integers(4))
    if kind == 0:
        gate = (time % rng.uniform(0.3, 1.5)) < rng.uniform(0.1, 0.8)
        sound = np.sin(2 * np.pi * pitch * time) * gate
    elif kind == 1:
        sound = np.sin(2 * np.pi * pitch * time) + np.sin(
            2 * np.pi * rng.uniform(1, 2) * pitch * time
        )
    elif kind == 2:
        sweep = pitch * (1 + 0.4 * np.sin(2 * np.pi * rng.uniform(0.2, 3) * time))
        sound = np.sign(np.sin(2 * np.pi * np.cumsum(sweep) / RATE)) * 0.5
    else:
        return np.asarray(np.sign(np.sin(2 * np.pi * rng.uniform(60, 400) * time)))
    return _level(sound, rng.uniform(-35, -6))


KINDS: dict[str, Piece] = {
    "digital silence": lambda count, rng: np.zeros(count),
    "quiet room": _room,
    "white noise": _coloured(0.0),
    "pink noise": _coloured(1.0),
    "brown noise": _coloured(2.0),
    "hum": _hum,
    "fan": _fan,
    "chords": _chords,
    "melody": _melody,
    "drums": _drums,
    "band": _band_music,
    "tones": _tones,
    "typing": _typing,
    "clicks": _clicks,
    "breath": _breath,
}


def non_speech(kind: str, seconds: float, seed: int) -> NDArray[np.float32]:
    """[sample] float32 in [-1, 1] at 16 kHz. Same arguments, same sound."""
    rng = np.random.default_rng([seed, sorted(KINDS).index(kind)])
    total = round(seconds * RATE)
    pieces: list[Sound] = []
    made = 0
    while made < total:
        count = min(int(rng.uniform(*PIECE_S) * RATE), total - made)
        pieces.append(KINDS[kind](count, rng))
        made += count
    return np.clip(np.concatenate(pieces), -1.0, 1.0).astype(np.float32)
