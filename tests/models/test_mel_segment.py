"""Three seconds of sound as a picture of 256 frames: the three ways to make it fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from emotrace_models.encoders.mel_segment import MelSegment, MelSegmentConfig, resized
from emotrace_models.types import SAMPLE_RATE, Utterance


def noise(seconds: float, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 0.1, round(seconds * SAMPLE_RATE)).astype(np.float32)


def utterance(samples: NDArray[np.float32] | None) -> Utterance:
    return Utterance(0, "a", 0, 0 if samples is None else len(samples), samples)


def segment(samples: NDArray[np.float32], **settings: Any) -> NDArray[np.float32]:
    front = MelSegment(MelSegmentConfig(**settings)).front(utterance(samples))
    assert front is not None
    return front


@pytest.mark.parametrize("fit", ["resize", "crop", "hop"])
@pytest.mark.parametrize("seconds", [0.001, 1.0, 3.0, 7.3])
def test_always_256_frames_of_128_bands(fit: str, seconds: float) -> None:
    found = segment(noise(seconds), mel_fit=fit)
    assert found.shape == (256, 128)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()


def test_resize_is_torchs_linear_interpolation_of_301_frames() -> None:
    levels = np.random.default_rng(1).normal(size=(301, 5)).astype(np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(levels).T[None], size=256, mode="linear"
    )[0].T
    np.testing.assert_allclose(resized(levels, 256), expected, rtol=0, atol=1e-4)


def beep(at: float) -> NDArray[np.float32]:
    samples = np.zeros(3 * SAMPLE_RATE, np.float32)
    place = round(at * SAMPLE_RATE)
    samples[place : place + 800] = np.sin(2 * np.pi * 1000 / SAMPLE_RATE * np.arange(800))
    return samples


@pytest.mark.parametrize(
    ("fit", "expected"),
    [("resize", 2.0 / 3 * 256), ("crop", 200 - 22), ("hop", 2.0 / 3 * 256)],
)
def test_a_sound_lands_where_the_fit_puts_it(fit: str, expected: float) -> None:
    loudest = segment(beep(2.0), mel_fit=fit).max(axis=1).argmax()
    assert abs(loudest - expected) < 6


def test_the_middle_of_a_long_utterance_and_silence_after_a_short_one() -> None:
    long = noise(7.0)
    np.testing.assert_array_equal(segment(long), segment(long[2 * SAMPLE_RATE : 5 * SAMPLE_RATE]))
    short = segment(noise(1.0))
    np.testing.assert_allclose(short[120:], short.min(), atol=1e-3)
    assert short[:80].min() > short.min() + 10


def test_no_band_of_128_is_empty() -> None:
    assert (segment(noise(3.0)).std(axis=0) > 0).all()


def test_no_sound_is_no_features() -> None:
    encoder = MelSegment(*MelSegment.small())
    found = encoder.encode(
        [(None, utterance(s)) for s in (None, noise(0.0), noise(0.5), noise(2.0))]
    )
    shapes = [None if features is None else features.shape for features, _ in found]
    assert shapes == [None, None, (16, 8), (16, 8)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mel_fit": "squeeze"}, "mel_fit must be one of resize, crop, hop"),
        ({"mel_fit": "crop", "seconds": 2.0}, "have only 201 frames of 10 ms, not 256"),
        ({"bands": 0}, "bands must be at least 1"),
        ({"seconds": -1.0}, "seconds must be above 0"),
    ],
)
def test_a_bad_setting_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MelSegmentConfig(**settings)
