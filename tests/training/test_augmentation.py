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
    mix,
    mu_law,
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
    assert drawn == {"clean", "noise", "babble", "low-pass", "telephone", "room"}


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
    assert share_above(band(SPEECH, 0.0, 3_600.0), 4_000) < 1e-6
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
    out = reverberate(click, 0.3, RNG(0))
    assert out[100] == pytest.approx(1.0, abs=0.01)
    assert power(out[101:2_000]) > power(out[2_000:6_000]) > 0
    assert np.abs(out[:100]).max() < 1e-6


def test_pink_noise_is_deeper_than_white() -> None:
    white, pink = (coloured_noise(16_000, tilt, RNG(0)) for tilt in (0.0, 1.0))
    assert share_above(pink, 2_000) < 0.5 * share_above(white, 2_000)


def test_babble_of_any_length() -> None:
    condition = replace(CLEAN, channel="babble", ratio=5.0)
    for length in (1, 500, 40_000):
        voices = RNG(4).standard_normal(length).astype(np.float32)
        assert len(apply(condition, SPEECH, voices, RNG(0))) == len(SPEECH)
