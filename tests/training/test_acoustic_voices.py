"""Voices made from a batch: frames and what was said before change alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from emotrace_models.encoders.running_statistics import moments
from emotrace_models.encoders.spectral import BANDS, COLUMNS, ENERGY, PITCH, VOICING, analyse
from emotrace_training.acoustic_sampling import Batch
from emotrace_training.acoustic_voices import _warps, disguised


@pytest.fixture
def batch() -> Batch:
    """Four items that differ in length; the past of each is the item itself."""
    torch.manual_seed(0)
    frames = torch.zeros(4, 30, COLUMNS)
    mask = torch.zeros(4, 30, dtype=torch.bool)
    for item, length in enumerate((30, 20, 30, 5)):
        smooth = torch.randn(length, 1).cumsum(0) * 0.2 - 5 + torch.arange(BANDS) * -0.05
        frames[item, :length, :BANDS] = smooth
        frames[item, :length, ENERGY] = torch.randn(length)
        frames[item, :length, PITCH] = 7 + torch.rand(length)
        frames[item, :length, VOICING] = torch.rand(length)
        mask[item, :length] = True
    return Batch(frames, mask, moments(frames, mask), torch.arange(4))


def test_the_batch_itself_stays(batch: Batch) -> None:
    before = batch.frames.clone(), batch.earlier.clone()
    other = disguised(batch, 0.1, np.random.default_rng(0))
    assert torch.equal(batch.frames, before[0])
    assert torch.equal(batch.earlier, before[1])
    assert (other.frames - batch.frames).abs().max() > 0.1
    assert torch.equal(other.labels, batch.labels)
    again = disguised(batch, 0.1, np.random.default_rng(0))
    assert torch.equal(other.frames, again.frames)


def test_padding_stays_zero_and_voicing_as_it_was(batch: Batch) -> None:
    other = disguised(batch, 0.1, np.random.default_rng(1))
    assert bool((other.frames[~batch.mask] == 0).all())
    assert torch.equal(other.frames[..., VOICING], batch.frames[..., VOICING])


def test_the_past_is_the_past_of_the_new_voice(batch: Batch) -> None:
    """Exact for what is only shifted, close for what is warped."""
    other = disguised(batch, 0.1, np.random.default_rng(2))
    heard = moments(other.frames, other.mask)
    count = heard[:, 0]
    assert torch.equal(other.earlier[:, 0], count)

    def mean(sums: Tensor) -> Tensor:
        return sums[:, 1] / sums[:, 0].clamp_min(1)

    torch.testing.assert_close(mean(other.earlier), mean(heard), atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(
        other.earlier[:, 2, BANDS:], heard[:, 2, BANDS:], atol=0.01, rtol=1e-3
    )
    torch.testing.assert_close(other.earlier[:, 2], heard[:, 2], atol=0.5, rtol=0.01)


def test_a_warp_moves_a_tone_to_another_band() -> None:
    t = torch.arange(16_000) / 16_000
    tones = [torch.sin(2 * torch.pi * hertz * t) * 0.1 for hertz in (1_500.0, 1_650.0)]
    low, high = (analyse(tone)[:, :BANDS].mean(dim=0) for tone in tones)
    # Bands at 1 / 1.1 of their frequency: what was at 1,500 Hz is heard at 1,650 Hz.
    warped = low @ torch.from_numpy(_warps(np.array([1 / 1.1])))[0]
    assert int(warped.argmax()) == int(high.argmax())
    assert int(low.argmax()) != int(high.argmax())


def test_no_warp_is_none_and_every_column_a_mean() -> None:
    same, other = _warps(np.array([1.0, 0.9]))
    np.testing.assert_allclose(same, np.eye(BANDS), atol=1e-4)
    np.testing.assert_allclose(other.sum(axis=0), np.ones(BANDS), atol=1e-6)
    assert other.min() >= 0
