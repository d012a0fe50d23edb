"""Degradations do what their names say: ratios, bands, steps, places in time."""

from __future__ import annotations

import numpy as np
import pytest

from emotrace_models.types import SAMPLE_RATE, FloatArray
from emotrace_training.degradations import (
    Babble,
    Degradation,
    babbling,
    clipped,
    coded,
    first_seconds,
    low_pass,
    onset,
    quiet,
    room,
    telephone,
    white,
)


def speech(seconds: float = 1.5, seed: int = 0) -> FloatArray:
    """Pulses of 120 Hz that swell and fade like syllables: harmonics over the whole band."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    wave = sum(np.sin(2 * np.pi * 120 * k * t) for k in range(1, 60)) / 60
    syllables = 0.2 + np.sin(2 * np.pi * 3 * t) ** 2
    return np.asarray(wave * syllables * 0.3 + rng.standard_normal(len(t)) * 1e-4, np.float32)


BABBLE = Babble([speech(1.0 + number / 3, number + 1) for number in range(8)])


def through(change: Degradation, samples: FloatArray, seed: int = 3) -> FloatArray:
    return change(samples, BABBLE, np.random.default_rng(seed))


def power(samples: FloatArray, low: float, high: float) -> float:
    spectrum = np.abs(np.fft.rfft(samples)) ** 2
    hertz = np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE)
    return float(spectrum[(hertz >= low) & (hertz < high)].sum())


@pytest.mark.parametrize("ratio", [20, 10, 0])
@pytest.mark.parametrize("kind", [white, babbling])
def test_the_ratio_of_speech_to_noise(kind, ratio: int) -> None:
    clean = speech()
    noisy = through(kind(ratio), clean)
    scale = float(noisy @ clean / (clean @ clean)) if kind is white else 1.0
    noise = noisy - np.float32(scale) * clean
    found = 10 * np.log10(np.mean((scale * clean) ** 2) / np.mean(noise**2))
    assert found == pytest.approx(ratio, abs=0.3)


def test_white_noise_is_flat() -> None:
    clean = speech()
    noise = through(white(0), clean) - clean
    quarters = [power(noise, low, low + 2_000) for low in (0, 2_000, 4_000, 6_000)]
    assert max(quarters) < 1.2 * min(quarters)


def test_noise_brings_no_clipping_with_it() -> None:
    loud = speech() / np.abs(speech()).max()
    noisy = through(white(0), loud)
    assert np.abs(noisy).max() <= 1.0
    assert (np.abs(noisy) > 0.999).sum() <= 2, "turned down, not cut off"


def test_bands_of_channels() -> None:
    clean = speech()
    line = through(telephone, clean)
    assert power(line, 4_000, 8_001) < 1e-4 * power(clean, 4_000, 8_001)
    assert power(line, 0, 200) < 0.01 * power(clean, 0, 200)
    assert power(line, 500, 3_000) == pytest.approx(power(clean, 500, 3_000), rel=0.1)
    dull = through(low_pass(4_000.0), clean)
    assert power(dull, 4_400, 8_001) < 1e-4 * power(clean, 4_400, 8_001)
    assert power(dull, 0, 3_700) == pytest.approx(power(clean, 0, 3_700), rel=0.01)


@pytest.mark.parametrize(
    "change",
    [white(10), babbling(10), telephone, coded(16_000), low_pass(4_000.0), room(0.3, 0.5),
     quiet(-20.0), clipped(12.0)],
)  # fmt: skip
def test_length_and_place_in_time_stay(change: Degradation) -> None:
    """A click stays where it was; the same seed gives the same sound."""
    samples = speech()
    samples[:8_000] *= 0.01
    changed = through(change, samples)
    assert changed.shape == samples.shape
    assert changed.dtype == np.float32
    assert np.isfinite(changed).all()
    lags = np.fft.irfft(np.fft.rfft(changed) * np.fft.rfft(samples).conj())
    assert abs((int(lags.argmax()) + 12_000) % 24_000 - 12_000) <= 2
    np.testing.assert_array_equal(changed, through(change, samples))


def test_a_lower_rate_of_opus_loses_more() -> None:
    clean = speech()
    lost = [float(np.mean((through(coded(rate), clean) - clean) ** 2)) for rate in (32_000, 8_000)]
    assert 0 < lost[0] < lost[1]


def test_a_room_rings_on() -> None:
    click = np.zeros(SAMPLE_RATE, np.float32)
    click[1_000] = 0.5
    heard = through(room(0.5, 1.0), click)
    assert heard[1_000] == pytest.approx(0.5)
    tail = heard[1_001:] ** 2
    assert tail.sum() == pytest.approx(0.25, rel=0.05), "a tail as strong as the direct sound"
    first, last = tail[:2_000].sum(), tail[5_000:7_000].sum()
    # 60 dB in half a second: 5,000 samples later 37.5 dB less.
    assert 10 * np.log10(first / last) == pytest.approx(37.5, abs=2)


def test_quiet_and_clipped() -> None:
    clean = speech()
    low = through(quiet(-20.0), clean)
    np.testing.assert_allclose(low, clean * 0.1, atol=0.51 / 32_768)
    np.testing.assert_array_equal(low * 32_768, np.round(low * 32_768))
    cut = through(clipped(12.0), clean)
    peak = np.abs(clean).max()
    assert np.abs(cut).max() == pytest.approx(peak * 10 ** (-12 / 20), rel=1e-5)
    inside = np.abs(clean) < 0.2 * peak
    np.testing.assert_array_equal(cut[inside], clean[inside])


def test_beginnings_are_cut_from_the_onset_of_speech() -> None:
    silence = np.random.default_rng(0).standard_normal(8_000).astype(np.float32) * 1e-5
    clip = np.concatenate([silence, speech(2.0), silence])
    assert abs(onset(clip) - 8_000) <= 400, "within a frame"
    head = first_seconds(clip, 1.0)
    assert len(head) == SAMPLE_RATE
    np.testing.assert_array_equal(head, clip[onset(clip) : onset(clip) + SAMPLE_RATE])
    assert len(first_seconds(clip, 5.0)) == len(clip) - onset(clip)


def test_babble_is_of_several_voices() -> None:
    two = Babble([np.full(10, 1.0, np.float32), np.tile([1.0, -1.0], 5).astype(np.float32)])
    drawn = two.draw(25, np.random.default_rng(0))
    assert drawn.shape == (25,)
    many = [BABBLE.draw(4_000, np.random.default_rng(seed)) for seed in (0, 1)]
    assert not np.array_equal(*many)
