"""The acoustic front end: frames depend on their own samples alone, and mean what they say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from emotrace_models.encoders.prototypes import EMOTIONS, class_prototypes, prototype_index
from emotrace_models.encoders.running_statistics import (
    KEPT,
    LIMIT,
    RunningStatistics,
    moments,
    views,
)
from emotrace_models.encoders.spectral import (
    BANDS,
    COLUMNS,
    PITCH,
    SHORTEST,
    VOICED,
    VOICING,
    analyse,
    frame_count,
)

PRIOR = torch.stack([torch.full((KEPT,), -4.0), torch.full((KEPT,), 3.0)])


def noise(samples: int, seed: int = 0, level: float = 0.1) -> Tensor:
    values = np.random.default_rng(seed).standard_normal(samples) * level
    return torch.from_numpy(values.astype(np.float32))


def tone(hertz: float, samples: int = 16_000) -> Tensor:
    """A voice-like buzz: eight harmonics."""
    t = torch.arange(samples) / 16_000
    return sum((torch.sin(2 * torch.pi * hertz * k * t) / k for k in range(1, 9)), t * 0) * 0.1


@pytest.mark.parametrize("samples", [0, 1, SHORTEST - 1, SHORTEST, 4_000, 4_159, 16_000, 48_001])
def test_every_length_gives_the_frames_that_it_should(samples: int) -> None:
    frames = analyse(noise(samples))
    assert frames.shape == (frame_count(samples), COLUMNS)
    assert bool(frames.isfinite().all())


def test_the_features_of_a_prefix_are_a_prefix_of_the_features() -> None:
    whole = noise(32_000)
    prefix = analyse(whole[:16_000])
    full = analyse(whole)[: len(prefix)]
    torch.testing.assert_close(prefix[:, : BANDS + 1], full[:, : BANDS + 1], atol=1e-5, rtol=0)
    # Pitch looks 7.5 ms further than its frame: only the last one differs.
    torch.testing.assert_close(prefix[:-1, PITCH:], full[:-1, PITCH:], atol=1e-4, rtol=0)


@pytest.mark.parametrize("hertz", [80.0, 110.0, 175.0, 220.0, 330.0, 440.0])
def test_pitch_of_a_buzz(hertz: float) -> None:
    frames = analyse(tone(hertz))[5:-5]
    assert bool((frames[:, VOICING] > 0.8).all())
    found = 2 ** frames[:, PITCH].median()
    assert found.item() == pytest.approx(hertz, rel=0.02)


def test_silence_and_white_noise_are_unvoiced() -> None:
    assert bool((analyse(torch.zeros(16_000))[:, VOICING] < VOICED).all())
    assert (analyse(noise(16_000))[:, VOICING] < VOICED).float().mean().item() > 0.9


def test_a_tone_stands_in_the_band_of_its_frequency() -> None:
    t = torch.arange(16_000) / 16_000
    loudest = [
        int(analyse(0.1 * torch.sin(2 * torch.pi * hertz * t))[:, :BANDS].mean(0).argmax())
        for hertz in (300.0, 1_000.0, 3_000.0, 7_000.0)
    ]
    assert loudest == sorted(set(loudest))
    assert loudest[0] < 15
    assert loudest[-1] > 58


def test_no_band_is_empty() -> None:
    assert bool((analyse(noise(16_000))[:, :BANDS].mean(dim=0) > -10).all())


def test_silence_round_the_speech_changes_no_statistic() -> None:
    speech = analyse(tone(150.0))
    quiet = analyse(torch.zeros(16_000))
    both = torch.cat([quiet, speech, quiet])
    alone = moments(speech, torch.ones(len(speech), dtype=torch.bool))
    together = moments(both, torch.ones(len(both), dtype=torch.bool))
    torch.testing.assert_close(alone, together)


def test_frames_outside_the_mask_change_nothing() -> None:
    frames = analyse(noise(16_000))
    mask = torch.arange(len(frames)) < 50
    louder = frames.clone()
    louder[50:] += 5
    torch.testing.assert_close(moments(frames, mask), moments(louder, mask))
    torch.testing.assert_close(
        moments(louder, mask), moments(frames[:50], torch.ones(50, dtype=torch.bool))
    )


def test_a_view_by_the_utterance_does_not_know_the_gain_and_the_running_one_does() -> None:
    def both(scale: float) -> tuple[Tensor, Tensor]:
        frames = analyse(noise(48_000) * scale)
        mask = torch.ones(len(frames), dtype=torch.bool)
        bands, _ = views(
            frames, mask, moments(frames, mask), torch.zeros(3, KEPT), PRIOR, anchor=3000.0
        )
        return bands[0], bands[1]

    soft, loud = both(1.0), both(4.0)
    assert (loud[0] - soft[0]).abs().mean().item() < 0.2
    assert (loud[1] - soft[1]).mean().item() > 0.4


def test_a_long_past_outweighs_the_prior() -> None:
    frames = analyse(noise(48_000))
    mask = torch.ones(len(frames), dtype=torch.bool)
    own = moments(frames, mask)
    bands, _ = views(frames, mask, own, own * 1_000, PRIOR, anchor=300.0)
    assert abs(bands[1].mean().item()) < 0.01
    assert bands.abs().max().item() <= LIMIT


def test_running_statistics_are_values_and_fade() -> None:
    empty = RunningStatistics.empty()
    one = np.full((3, KEPT), 60.0)
    after = empty.including(one, memory=100)
    assert empty.moments.sum() == 0
    assert after.moments[0, 0] == 60
    longer = after.including(one, memory=100)
    assert longer.moments[0, 0] == pytest.approx(100)
    with pytest.raises(ValueError, match="read-only"):
        longer.moments[0, 0] = 1


def test_prototypes_are_orthonormal_in_the_whole_and_in_every_block_of_eight() -> None:
    frame = class_prototypes(128)
    torch.testing.assert_close(frame @ frame.T, torch.eye(len(EMOTIONS)))
    for block in frame.split(8, dim=1):
        torch.testing.assert_close(block @ block.T * 16, torch.eye(len(EMOTIONS)))
    with pytest.raises(ValueError, match="multiple of 8"):
        class_prototypes(20)


def test_which_labels_have_a_prototype() -> None:
    assert prototype_index("calm") == prototype_index("neutral") == EMOTIONS.index("neutral")
    assert prototype_index("frustration") is None
