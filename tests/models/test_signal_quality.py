"""What a microphone delivered, measured on sounds whose every figure is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from doubles import RATE, speech, voice
from nonspeech import non_speech

from emotrace_models.signal_quality import SignalQuality, measure
from emotrace_models.types import FloatArray


def _talk(seconds: float = 3.0) -> FloatArray:
    """Half a second of voice, a quarter of rest, and so on, at about -20 dB."""
    sound = voice(seconds) * 0.3
    time = np.arange(len(sound)) / RATE
    return np.where(time % 0.75 < 0.5, sound, 0.0).astype(np.float32)


def _noise(count: int) -> FloatArray:
    return np.random.default_rng(100).standard_normal(count).astype(np.float32)


def _power(sound: FloatArray) -> float:
    return float(np.mean(sound.astype(np.float64) ** 2))


@pytest.mark.parametrize("ratio", [25.0, 10.0, 5.0, 0.0])
def test_the_ratio_of_voice_to_noise_is_found(ratio: float) -> None:
    talk = _talk()
    noise = _noise(len(talk))
    noise *= np.float32(math.sqrt(_power(talk) / _power(noise) / 10 ** (ratio / 10)))
    found = measure(talk + noise).snr_db
    assert found == pytest.approx(ratio, abs=3.0)


def test_a_voice_without_a_pause_is_not_taken_for_noise() -> None:
    snr = measure(voice(1.0) * 0.3).snr_db
    assert snr is not None
    assert snr > 8


def test_clipping_is_found_at_any_level() -> None:
    talk = _talk()
    peak = float(np.abs(talk).max())
    cut = np.clip(talk, -peak / 2, peak / 2)
    assert measure(talk).clipped == 0.0
    share = float((np.abs(cut) >= peak / 2).mean())
    assert share > 0.005
    assert 0.3 * share < measure(cut).clipped <= share  # runs of three and more
    assert measure(cut * 0.1).clipped == pytest.approx(measure(cut).clipped)


def test_an_offset_changes_nothing_else() -> None:
    talk = _talk()
    plain, shifted = measure(talk), measure(talk + np.float32(0.3))
    assert shifted.offset == pytest.approx(plain.offset + 0.3, abs=1e-4)
    assert _figures(replace(shifted, offset=0.0)) == pytest.approx(
        _figures(replace(plain, offset=0.0)), abs=0.02, rel=0.02
    )


def test_loudness_changes_the_level_and_nothing_else() -> None:
    talk = _talk() + 0.001 * _noise(3 * RATE)
    plain, soft = measure(talk), measure(talk * np.float32(0.1))
    assert soft.level_db == pytest.approx(plain.level_db - 20, abs=0.1)
    assert _figures(replace(soft, level_db=0.0)) == pytest.approx(
        _figures(replace(plain, level_db=0.0)), abs=0.02, rel=0.02
    )


@pytest.mark.parametrize("cutoff", [2_000, 3_400, 6_000])
def test_the_bandwidth_is_where_the_sound_ends(cutoff: int) -> None:
    spectrum = np.fft.rfft(_noise(3 * RATE))
    spectrum[np.fft.rfftfreq(3 * RATE, 1 / RATE) > cutoff] = 0.0
    found = measure(np.fft.irfft(spectrum).astype(np.float32) * 0.1).bandwidth_hz
    assert cutoff * 0.9 < found <= cutoff * 1.05


def test_a_held_chord_is_steadier_than_a_voice_and_noise_varies_less() -> None:
    talk, chord, noise = (
        measure(sound).character
        for sound in (_talk(), _chord(3.0), non_speech("pink noise", 3.0, 100))
    )
    assert talk.steadiness < 0.4 < 0.8 < chord.steadiness
    tone = measure(_chord(3.0, notes=(220.0,))).character
    assert talk.stillness < 0.25 < 0.8 < tone.stillness
    assert noise.variety < 2.2 < 4.0 < talk.variety
    assert noise.harmonicity < 0.6 < 0.9 < talk.harmonicity
    assert noise.voiced_s < 1.0 < talk.voiced_s


def _chord(seconds: float, notes: Sequence[float] = (220.0, 277.2, 329.6)) -> FloatArray:
    time = np.arange(int(seconds * RATE)) / RATE
    return sum(0.05 * np.sin(2 * np.pi * note * time) for note in notes).astype(np.float32)


@pytest.mark.parametrize("count", [1, 100, 511, 1_000, 5_000])
@pytest.mark.parametrize("value", [0.0, 1.0, -0.5])
def test_nothing_and_next_to_nothing_can_be_measured(count: int, value: float) -> None:
    quality = measure(np.full(count, value, np.float32))
    assert quality.seconds == count / RATE
    assert quality.offset == value
    assert all(math.isfinite(figure) for figure in _figures(quality))


def test_samples_are_left_as_they_were() -> None:
    samples = np.frombuffer(speech(1.0), "<i2").astype(np.float32) / 32_768
    samples.setflags(write=False)
    assert measure(samples) == measure(samples)


def _figures(quality: SignalQuality) -> list[float]:
    sound = quality.character
    return [
        quality.seconds,
        0.0 if quality.snr_db is None else quality.snr_db,
        quality.bandwidth_hz,
        quality.clipped,
        quality.offset,
        quality.level_db,
        sound.harmonicity,
        sound.typical_harmonicity,
        sound.voiced_s,
        sound.pitch_spread,
        sound.stillness,
        sound.steadiness,
        sound.variety,
    ]
