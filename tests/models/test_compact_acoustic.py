"""The compact acoustic encoder: pure, exact under padding and batching, its state a value."""

from __future__ import annotations

import pickle
import time

import numpy as np
import pytest
import torch

from emotrace_models import registry
from emotrace_models.encoders.compact_acoustic import (
    CompactAcoustic,
    CompactAcousticConfig,
    collate,
)
from emotrace_models.encoders.running_statistics import (
    MARGIN,
    RANGE,
    RunningStatistics,
    active_range,
    without_silence,
)
from emotrace_models.encoders.spectral import COLUMNS, ENERGY
from emotrace_models.types import FloatArray, Transcript, Utterance

SMALL = CompactAcousticConfig(width=16, members=2, channels=(4, 6, 8, 8), contour=4, pooled=12)


def utterance(samples: int | FloatArray | None, seed: int = 0) -> Utterance:
    if isinstance(samples, int):
        values = np.random.default_rng(seed).standard_normal(samples) * 0.1
        samples = values.astype(np.float32)
    return Utterance(0, "a", 0, 0 if samples is None else len(samples), samples)


@pytest.fixture(scope="module")
def encoder() -> CompactAcoustic:
    """Random weights and, so that batch norm does something, random statistics."""
    torch.manual_seed(0)
    model = CompactAcoustic(SMALL).eval()
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_()
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2.0)
    model.prior.copy_(torch.stack([torch.full_like(model.prior[0], -4.0), model.prior[1] * 3]))
    return model


@pytest.mark.parametrize("samples", [0, 1, 100, 3_200, 3_201, 16_000, 160_000])
def test_a_unit_vector_for_every_length(encoder: CompactAcoustic, samples: int) -> None:
    ((vector, state),) = encoder.encode([(encoder.start(), utterance(samples))])
    assert vector is not None
    assert vector.shape == (16,)
    assert vector.dtype == np.float32
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5)
    assert isinstance(state, RunningStatistics)


@pytest.mark.parametrize("level", [0.0, 1e-9, 1.0])
def test_silence_and_full_scale_are_heard(encoder: CompactAcoustic, level: float) -> None:
    heard = encoder.encode([(encoder.start(), utterance(np.full(8_000, level, np.float32)))])
    assert heard[0][0] is not None
    assert np.isfinite(heard[0][0]).all()
    assert np.isfinite(heard[0][1].moments).all()


def test_a_turn_without_audio_has_no_vector_and_changes_nothing(encoder: CompactAcoustic) -> None:
    written = Utterance(0, "a", 0, 0, None, Transcript("good morning", "client"))
    state = encoder.start()
    assert encoder.encode([(state, written)]) == [(None, state)]
    assert encoder.encode([]) == []


def test_alone_is_as_in_a_batch(encoder: CompactAcoustic) -> None:
    items = [
        (encoder.start(), utterance(samples, seed))
        for seed, samples in enumerate((48_000, 1_000, 16_123, 0, 33_333, 7_999))
    ]
    items.append((encoder.encode(items[:1])[0][1], utterance(20_000, 9)))
    together = encoder.encode(items)
    for item, (vector, state) in zip(items, together, strict=True):
        ((alone, next_state),) = encoder.encode([item])
        assert vector is not None
        assert alone is not None
        np.testing.assert_allclose(vector, alone, atol=1e-5)
        np.testing.assert_array_equal(state.moments, next_state.moments)


def test_padding_changes_nothing(encoder: CompactAcoustic) -> None:
    bands, contours, _ = encoder.observe(encoder.start(), utterance(9_000).samples)  # type: ignore[arg-type]
    alone = encoder(*collate([(bands, contours)]))
    for extra in (1, 2, 7, 64):
        wide = torch.nn.functional.pad(bands, (0, extra))
        side = torch.nn.functional.pad(contours, (0, extra))
        padded = encoder(wide[None], side[None], torch.tensor([bands.shape[-1]]))
        torch.testing.assert_close(padded, alone, atol=1e-5, rtol=0)


def test_the_same_again_and_no_state_outside_the_value(encoder: CompactAcoustic) -> None:
    item = (encoder.start(), utterance(16_000))
    first = encoder.encode([item])[0]
    encoder.encode([(first[1], utterance(30_000, 5))])
    again = encoder.encode([item])[0]
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(item[0].moments, 0)


def test_what_was_heard_matters(encoder: CompactAcoustic) -> None:
    state = encoder.start()
    loud = np.random.default_rng(3).standard_normal(48_000).astype(np.float32) * 0.5
    _, after = encoder.encode([(state, utterance(loud))])[0]
    fresh = encoder.encode([(state, utterance(16_000))])[0][0]
    later = encoder.encode([(after, utterance(16_000))])[0][0]
    assert np.abs(fresh - later).max() > 1e-3


def test_the_state_can_be_stored(encoder: CompactAcoustic) -> None:
    _, state = encoder.encode([(encoder.start(), utterance(16_000))])[0]
    restored = pickle.loads(pickle.dumps(state))
    np.testing.assert_array_equal(restored.moments, state.moments)


def test_a_config_from_plain_values_and_the_settings_it_refuses() -> None:
    config = registry.configured(
        "encoder", "compact_acoustic", {"members": 1, "channels": [2, 2, 4, 4], "width": 8}
    )
    assert config.channels == (2, 2, 4, 4)
    for bad in ({"channels": [1, 2]}, {"members": 0}, {"anchor": 0.0}, {"pooled": 3}, {"x": 1}):
        with pytest.raises(registry.BadConfig):
            registry.configured("encoder", "compact_acoustic", bad)


def test_the_mean_of_the_members(encoder: CompactAcoustic) -> None:
    inputs = collate([encoder.observe(encoder.start(), utterance(9_000).samples)[:2]])  # type: ignore[arg-type]
    parts = [member(*inputs) for member in encoder.members]
    mean = torch.nn.functional.normalize(torch.stack(parts).mean(dim=0), dim=-1)
    torch.testing.assert_close(encoder(*inputs), mean)


def test_the_full_size_is_small_and_quick() -> None:
    model = CompactAcoustic(CompactAcousticConfig(members=1)).eval()
    assert sum(p.numel() for p in model.parameters()) < 650_000
    item = (model.start(), utterance(48_000))
    model.encode([item])
    times = []
    for _ in range(5):
        began = time.perf_counter()
        model.encode([item])
        times.append(time.perf_counter() - began)
    assert min(times) < 0.25  # a guard against a slip of an order of magnitude, on any machine


def test_silence_round_the_speech_changes_nothing(encoder: CompactAcoustic) -> None:
    rng = np.random.default_rng(4)
    speech = rng.standard_normal(16_000).astype(np.float32) * 0.1
    quiet = (rng.standard_normal(8_000) * 1e-5).astype(np.float32)
    said = np.concatenate([quiet[:4_800], speech, quiet[4_800:]])
    long = np.concatenate([np.zeros(160 * 90, np.float32), said, np.zeros(160 * 200, np.float32)])
    (one, state), (other, after) = encoder.encode(
        [(encoder.start(), utterance(said)), (encoder.start(), utterance(long))]
    )
    assert one is not None
    assert other is not None
    np.testing.assert_allclose(one, other, atol=1e-5)
    np.testing.assert_allclose(state.moments, after.moments, rtol=1e-5)
    bands, _, _ = encoder.observe(encoder.start(), long)
    assert bands.shape[-1] < 100 + 2 * MARGIN + 4


def test_what_counts_as_speech() -> None:
    frames = torch.zeros(60, COLUMNS)
    frames[:, ENERGY] = -20.0
    frames[30:35, ENERGY] = 0.0
    frames[40, ENERGY] = -RANGE + 0.1
    frames[50, ENERGY] = -RANGE - 0.1
    assert active_range(frames) == (30, 40)
    assert torch.equal(without_silence(frames), frames[30 - MARGIN : 41 + MARGIN])
    frames[0, ENERGY] = 0.0
    assert len(without_silence(frames)) == 41 + MARGIN
    assert active_range(torch.zeros(5, COLUMNS)) == (0, 4), "silence counts as a whole"
