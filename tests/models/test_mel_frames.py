"""GBAN's 52 values a frame."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from emotrace_models.encoders.mel_frames import SHORTEST, MelFrames, MelFramesConfig
from emotrace_models.types import Utterance

# What librosa 0.11 gives of `chirp` by models.md section 5.1 (melspectrogram, mfcc, delta): some
# columns of some frames. 0 to 25 are log-mel, 26 to 38 MFCC, 39 to 51 their slopes.
COLUMNS = [0, 12, 25, 26, 27, 38, 39, 40, 51]
LIBROSA = {
    0: [0.6089, -8.4096, -12.301, -169.8354, 80.9398, -3.1124, -0.3769, -1.9891, -0.5577],
    3: [-3.9656, -9.401, -11.8331, -189.1478, 61.9502, -12.7167, -0.3769, -1.9891, -0.5577],
    50: [-11.4782, -9.6246, -13.8145, -230.9845, 33.9917, -3.2668, -1.0938, -1.0076, -2.6023],
    100: [-9.4671, -7.8824, -12.5415, -198.3834, 9.985, -4.6969, 6.0944, 0.1536, 0.9637],
}  # fmt: skip


def chirp(seconds: float = 1.0) -> np.ndarray:
    t = np.arange(int(16_000 * seconds)) / 16_000
    rising = 0.3 * np.sin(2 * np.pi * (200 * t + 900 * t**2)) * np.exp(-2 * t)
    return rising.astype(np.float32)


def spoken(samples: np.ndarray | None) -> Utterance:
    return Utterance(0, "a", 0, 0, samples)


def encode(*samples: np.ndarray | None, longest: int = 750) -> list[np.ndarray | None]:
    encoder = MelFrames(MelFramesConfig(longest))
    items = [(encoder.start(), spoken(s)) for s in samples]
    return [features for features, _ in encoder.encode(items)]


def test_values_equal_those_of_librosa() -> None:
    (frames,) = encode(chirp())
    assert frames is not None
    assert frames.shape == (101, 52)
    assert frames.dtype == np.float32
    for row, values in LIBROSA.items():
        np.testing.assert_allclose(frames[row, COLUMNS], values, atol=1e-3)
    np.testing.assert_allclose([frames.mean(), frames.std()], [-9.927, 33.953], atol=1e-3)


def test_long_speech_is_cut_and_short_speech_padded_with_silence() -> None:
    long, short, one = encode(chirp(8.0), chirp(0.3), chirp(1.0)[:1])
    assert long is not None
    assert short is not None
    assert one is not None
    assert long.shape == (750, 52)
    assert short.shape == one.shape == (SHORTEST, 52)
    (padded,) = encode(np.pad(chirp(0.3), (0, 16_000)))
    assert padded is not None
    # The floor of the decibels, 80 under the loudest, is the same: so are all frames but the ends.
    np.testing.assert_allclose(short[:-4], padded[: SHORTEST - 4], atol=1e-4)
    (cut,) = encode(chirp(1.0), longest=70)
    assert cut is not None
    assert len(cut) == 70


def test_silence_gives_finite_values() -> None:
    (frames,) = encode(np.zeros(16_000, np.float32))
    assert frames is not None
    assert np.isfinite(frames).all()


def test_no_sound_gives_nothing_and_companions_change_nothing() -> None:
    missing, empty, first, second = encode(None, chirp()[:0], chirp(1.0), chirp(2.0))
    assert missing is None
    assert empty is None
    assert first is not None
    assert second is not None
    assert len(first) == 101
    assert len(second) == 201
    np.testing.assert_array_equal(first, encode(chirp(1.0))[0])


def test_there_is_nothing_to_train() -> None:
    encoder = MelFrames(*MelFrames.small())
    assert not list(encoder.parameters())
    assert not encoder.state_dict()
    assert encoder.width == 52
    fronts = torch.ones(1, 61, 52)
    assert encoder(fronts, torch.tensor([61]))[0] is fronts


def test_longest_leaves_room_for_one_step() -> None:
    with pytest.raises(ValueError, match="longest must be at least 61"):
        MelFramesConfig(60)
