"""Windows of Whisper's encoder, and that a shorter one is what it is taken for."""

from __future__ import annotations

from pathlib import Path

import ctranslate2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import WhisperConfig, WhisperForConditionalGeneration
from transformers.models.whisper.modeling_whisper import WhisperEncoder
from whispers import write_whisper

from emotrace_models.types import SAMPLE_RATE
from emotrace_models.whisper_windows import FULL_FRAMES, MARGIN_FRAMES, window_frames

LENGTHS = st.integers(0, 30 * SAMPLE_RATE)


@given(LENGTHS)
def test_the_full_window_is_what_whisper_was_trained_on(samples: int) -> None:
    assert window_frames(samples, "full") == FULL_FRAMES


@given(LENGTHS)
def test_a_window_holds_the_speech_and_at_most_a_quarter_more(samples: int) -> None:
    frames = window_frames(samples, "speech")
    speech = samples / SAMPLE_RATE * 100
    assert min(speech + MARGIN_FRAMES, FULL_FRAMES) <= frames <= FULL_FRAMES
    assert frames <= 1.25 * (np.ceil(speech) + MARGIN_FRAMES)


@given(LENGTHS, LENGTHS)
def test_more_speech_has_no_shorter_window(one: int, other: int) -> None:
    short, long = sorted((one, other))
    assert window_frames(short, "speech") <= window_frames(long, "speech")


@pytest.mark.parametrize("frames", [160, 250, 1_200])
def test_a_short_window_takes_the_first_positions(tmp_path: Path, frames: int) -> None:
    """Against transformers' encoder, with its table of positions cut off."""
    folder = write_whisper(tmp_path)
    trained = WhisperForConditionalGeneration.from_pretrained(folder.parent / "source")
    config = WhisperConfig(**{**trained.config.to_dict(), "max_source_positions": frames // 2})
    encoder = WhisperEncoder(config).train(False)
    weights = trained.model.encoder.state_dict()
    weights["embed_positions.weight"] = weights["embed_positions.weight"][: frames // 2]
    encoder.load_state_dict(weights)
    features = np.random.default_rng(0).normal(0, 1, (2, 80, frames)).astype(np.float32)
    with torch.no_grad():
        expected = encoder(torch.from_numpy(features)).last_hidden_state.numpy()
    whisper = ctranslate2.models.Whisper(str(folder), compute_type="float32", intra_threads=1)
    encoded = np.array(whisper.encode(ctranslate2.StorageView.from_array(features)))
    np.testing.assert_allclose(encoded, expected, atol=1e-4)
