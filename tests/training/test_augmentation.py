"""Virtual speakers: each condition does what its name says and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from emotrace_models.types import FloatArray
from emotrace_training.augmentation import (
    CLEAN,
    Condition,
    apply,
    band,
    coloured_noise,
    draw_condition,
    equalise,
    mix,
    mu_law,
    opus,
    reverberate,
)

RNG = np.random.default_rng
SPEECH = (RNG(1).standard_normal(16_000) * 0.1).astype(np.float32)
BABBLE = RNG(2).standard_normal(5_000).astype(np.float32)


def power(samples: FloatArray) -> float:
    return float(np.mean(samples.astype(np.float64) ** 2))


def share_above(samples: FloatArray, hertz: float) -> float:
    spectrum = np.abs(np.fft.rfft(samples)) ** 2
    return float(spectrum[np.fft.rfftfreq(len(samples), 1 / 16_000) > hertz].sum() / spectrum.sum())


def test_clean_is_the_clip_itself() -> None:
    assert apply(CLEAN, SPEECH, BABBLE, RNG(0)) is SPEECH


@pytest.mark.parametrize("seed", range(40))
def test_any_condition_gives_sound_speech(seed: int) -> None:
    condition = draw_condition(RNG(seed))
    assert condition == draw_condition(RNG(seed))
    out = apply(condition, SPEECH, BABBLE, RNG(seed))
    np.testing.assert_array_equal(out, apply(condition, SPEECH, BABBLE, RNG(seed)))
    assert out.dtype == np.float32
    assert np.isfinite(out).all()
    assert np.abs(out).max() <= 1.0
    assert len(out) == pytest.approx(16_000 / condition.speed, rel=0.01)


def test_every_channel_is_drawn() -> None:
    drawn = {draw_condition(RNG(seed)).channel for seed in range(200)}
    assert drawn == {"clean", "noise", "babble", "low-pass", "telephone", "room", "codec"}


@pytest.mark.parametrize("ratio", [0.0, 10.0, 20.0])
def test_the_ratio_of_speech_to_noise(ratio: float) -> None:
    noise = coloured_noise(len(SPEECH), 1.0, RNG(3))
    added = mix(SPEECH, noise, ratio) - SPEECH
    assert 10 * np.log10(power(SPEECH) / power(added)) == pytest.approx(ratio, abs=0.1)


def test_silence_takes_no_noise() -> None:
    silence = np.zeros(100, np.float32)
    assert mix(silence, SPEECH[:100], 10.0) is silence


def test_gain_and_speed() -> None:
    quieter = apply(Condition("clean", gain=-6.0), SPEECH, BABBLE, RNG(0))
    assert 10 * np.log10(power(quieter) / power(SPEECH)) == pytest.approx(-6.0, abs=0.01)
    t = np.arange(16_000) / 16_000
    tone = np.sin(2 * np.pi * 400 * t).astype(np.float32) * np.float32(0.5)
    faster = apply(Condition("clean", speed=1.1), tone, BABBLE, RNG(0))
    peak = np.fft.rfftfreq(len(faster), 1 / 16_000)[np.abs(np.fft.rfft(faster)).argmax()]
    assert peak == pytest.approx(440, abs=3)


def test_bands() -> None:
    assert share_above(SPEECH, 4_000) > 0.4
    assert share_above(band(SPEECH, 0.0, 3_600.0), 4_000) < 1e-5
    telephone = apply(Condition("telephone"), SPEECH, BABBLE, RNG(0))
    assert share_above(telephone, 4_000) < 0.01  # what mu-law adds
    assert 1 - share_above(telephone, 250) < 0.01


def test_mu_law_is_coarse_and_close() -> None:
    out = mu_law(SPEECH)
    assert len(np.unique(out)) <= 255
    assert power(out - SPEECH) < 1e-3 * power(SPEECH)


def test_a_room_adds_a_tail() -> None:
    click = np.zeros(16_000, np.float32)
    click[100] = 1.0
    out = reverberate(click, 0.3, 0.25, RNG(0))
    assert out[100] == pytest.approx(1.0, abs=0.01)
    assert power(out[101:2_000]) > power(out[2_000:6_000]) > 0
    assert np.abs(out[:100]).max() < 1e-6
    assert power(out[101:]) * len(out[101:]) == pytest.approx(0.25, rel=0.01)


def test_a_microphone_raises_what_it_hears_well() -> None:
    out = equalise(SPEECH, (0.0, 0.0, 0.0, 0.0, 12.0, 12.0))
    high, before = (share_above(x, 4_200) * power(x) for x in (out, SPEECH))
    assert 10 * np.log10(high / before) == pytest.approx(12.0, abs=0.3)
    np.testing.assert_allclose(equalise(SPEECH, (0.0,) * 6), SPEECH, atol=1e-6)


@pytest.mark.parametrize("length", [320, 5_000, 16_001])
def test_a_codec_keeps_length_and_place(length: int) -> None:
    t = np.arange(length) / 16_000
    sound = (np.sin(2 * np.pi * 300 * t) * np.sin(2 * np.pi * 3 * t) * 0.3).astype(np.float32)
    out = opus(sound, 16_000)
    assert out.shape == sound.shape
    assert out.dtype == np.float32
    assert np.corrcoef(out, sound)[0, 1] > 0.9
    assert np.abs(out - sound).max() > 1e-4, "nothing was lost"


def test_a_room_may_hum() -> None:
    quiet = Condition("room", wet=0.1)
    hum = replace(quiet, background=10.0)
    plain, noisy = (apply(c, SPEECH, BABBLE, RNG(5)) for c in (quiet, hum))
    assert power(noisy - plain) == pytest.approx(power(plain) / 10, rel=0.2)


def test_pink_noise_is_deeper_than_white() -> None:
    white, pink = (coloured_noise(16_000, tilt, RNG(0)) for tilt in (0.0, 1.0))
    assert share_above(pink, 2_000) < 0.5 * share_above(white, 2_000)


def test_babble_of_any_length() -> None:
    condition = replace(CLEAN, channel="babble", ratio=5.0)
    for length in (1, 500, 40_000):
        voices = RNG(4).standard_normal(length).astype(np.float32)
        assert len(apply(condition, SPEECH, voices, RNG(0))) == len(SPEECH)
