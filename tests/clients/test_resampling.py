"""The client's resampler: right at every rate, whatever the cuts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emotrace_clients.resampling import Resampler


def resampled(samples: np.ndarray, rate: int, cuts: list[int] | None = None) -> np.ndarray:
    resampler = Resampler(rate, 16_000)
    parts = [resampler.push(part) for part in np.split(samples, sorted(cuts or []))]
    return np.concatenate([*parts, resampler.finish()])


def tones(rate: int, seconds: float, *hertz: float) -> np.ndarray:
    time = np.arange(int(rate * seconds)) / rate
    return np.stack([np.sin(2 * np.pi * one * time) for one in hertz], axis=1).astype(np.float32)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 32_000, 44_100, 96_000, 192_000])
def test_tones_keep_pitch_phase_and_length(rate: int) -> None:
    given_ = tones(rate, 0.5, 440.0, 3_000.0)
    result = resampled(given_, rate)
    assert len(result) == -(-len(given_) * 16_000 // rate)
    wanted = tones(16_000, 1.0, 440.0, 3_000.0)[: len(result)]
    middle = slice(600, -600)
    assert np.abs(result[middle] - wanted[middle]).max() < 1e-4


def test_what_cannot_be_kept_does_not_fold_down() -> None:
    result = resampled(tones(48_000, 0.5, 9_000.0), 48_000)
    assert np.abs(result[600:-600]).max() < 1e-4


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 3_000), max_size=12))
def test_no_cut_changes_a_sample(cuts: list[int]) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, (3_000, 2)).astype(np.float32)
    np.testing.assert_array_equal(resampled(noise, 22_050, cuts), resampled(noise, 22_050))


def test_nothing_gives_nothing() -> None:
    assert len(Resampler(22_050, 16_000).finish()) == 0
    assert len(resampled(np.zeros((0, 1), dtype=np.float32), 22_050)) == 0
