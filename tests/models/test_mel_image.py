"""The log-mel picture, against transformers' spectrogram and Pillow's resizing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from emotrace_models import registry
from emotrace_models.encoders.mel_image import MelImage, MelImageConfig, grey_levels, resized
from emotrace_models.types import FloatArray, Utterance

LENGTHS = [1, 300, 5_000, 16_000, 70_001]


def samples(length: int, level: float = 0.1) -> FloatArray:
    """A gliding tone in noise, so that both loud and silent bands are there."""
    rng = np.random.default_rng(length)
    time = np.arange(length) / 16_000
    tone = np.sin(2 * np.pi * (200 + 600 * time) * time)
    return (level * (tone + 0.01 * rng.standard_normal(length))).astype(np.float32)


def utterance(values: FloatArray | None) -> Utterance:
    return Utterance(0, "a", 0, 0 if values is None else len(values), values)


def reference_levels(values: FloatArray) -> NDArray[np.uint8]:
    """The released code's steps, with transformers' spectrogram in place of librosa's."""
    decibels = spectrogram(
        values,
        window_function(2048, "hann"),
        frame_length=2048,
        hop_length=512,
        power=2.0,
        center=True,
        pad_mode="constant",
        mel_filters=mel_filter_bank(1025, 224, 0.0, 8_000.0, 16_000, "slaney", "slaney"),
        mel_floor=1e-10,
        log_mel="dB",
        reference=1.0,
        min_value=1e-10,
        db_range=80.0,
    )
    return ((decibels + 80) * 255 / 80).clip(0, 255).__add__(0.5).astype(np.uint8)


@pytest.mark.parametrize("level", [1e-4, 0.1, 0.9])
@pytest.mark.parametrize("length", LENGTHS)
def test_grey_levels_are_those_of_a_well_known_implementation(length: int, level: float) -> None:
    values = samples(length, level)
    found, expected = grey_levels(values, MelImageConfig()), reference_levels(values)
    assert found.shape == expected.shape == (224, 1 + length // 512)
    # Levels at the border between two whole numbers may round either way.
    difference = np.abs(found.astype(int) - expected.astype(int))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3
    assert length < 300 or np.ptp(expected) > 60


@pytest.mark.parametrize("length", LENGTHS)
def test_resizing_is_pillows(length: int) -> None:
    picture = grey_levels(samples(length), MelImageConfig())
    for size in (224, 64):
        resize = Image.fromarray(picture).resize((size, size), Image.Resampling.BILINEAR)
        difference = np.abs(resized(picture, size).astype(int) - np.asarray(resize).astype(int))
        assert difference.max() <= 1  # Pillow rounds after each direction


def test_a_picture_lies_from_minus_one_to_one_and_is_not_flipped() -> None:
    tone = np.sin(2 * np.pi * 500 * np.arange(16_000) / 16_000).astype(np.float32)
    ((image, state),) = MelImage(MelImageConfig()).encode([(None, utterance(tone))])
    assert image is not None
    assert image.shape == (224, 224)
    assert image.dtype == np.float32
    assert -1.0 <= image.min() < image.max() == 1.0
    assert 0 < image.mean(axis=1).argmax() < 112  # 500 Hz lies in the lower half
    assert state is None


def test_digital_silence_is_black() -> None:
    silence = np.zeros(8_000, np.float32)
    ((image, _),) = MelImage(MelImageConfig(size=32)).encode([(None, utterance(silence))])
    assert image is not None
    assert (image == -1.0).all()


def test_alone_is_as_in_a_batch_and_nothing_heard_is_nothing() -> None:
    encoder = MelImage(MelImageConfig(size=24))
    items = [(None, utterance(samples(length))) for length in LENGTHS]
    items.insert(2, (None, utterance(None)))
    items.append((None, utterance(np.zeros(0, np.float32))))
    together = encoder.encode(items)
    for item, (image, _) in zip(items, together, strict=True):
        ((alone, _),) = encoder.encode([item])
        assert (image is None) == (item[1].samples is None or not len(item[1].samples))
        assert image is None or np.array_equal(image, alone)


def test_it_is_the_dual_streams_own_stream_and_has_no_weights() -> None:
    encoder = MelImage(*MelImage.small())
    assert encoder.stream == "spectrogram"
    assert not encoder.state_dict()
    fronts = torch.zeros(2, 16, 16, dtype=torch.uint8)
    assert encoder(fronts, torch.tensor([16, 16]))[0].dtype == torch.float32


def test_a_bad_setting_is_named() -> None:
    with pytest.raises(registry.BadConfig, match="size must be at least 1"):
        registry.configured("encoder", "mel_image", {"size": 0})
