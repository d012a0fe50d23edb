"""The mel front end against transformers' spectrograms and slow readings of the definitions."""

from __future__ import annotations

import numpy as np
import pytest
from transformers import audio_utils

from emotrace_models.encoders.mel import (
    MelConfig,
    cepstra,
    decibels,
    deltas,
    mel_filters,
    mel_power,
    spectrum,
)

NOISE = (0.1 * np.random.default_rng(0).standard_normal(9_000)).astype(np.float32)

CONFIGS = {
    "gban": MelConfig(512, 400, 160, 26, highest=6_500.0, shape="hamming"),
    "dual stream": MelConfig(2_048, 2_048, 512, 224),
    "tera": MelConfig(400, 400, 160, 80, scale="htk", norm="none", padding="reflect"),
    "tucker": MelConfig(512, 400, 160, 128, lowest=20.0),
    "magnitudes": MelConfig(512, 512, 160, 40, power=1.0),
    "whole frames": MelConfig(512, 512, 200, 40, centre=False),
}


def reference_filters(config: MelConfig) -> np.ndarray:
    return audio_utils.mel_filter_bank(
        config.n_fft // 2 + 1,
        config.bands,
        config.lowest,
        config.highest,
        config.rate,
        norm="slaney" if config.norm == "slaney" else None,
        mel_scale=config.scale,
    )


@pytest.mark.filterwarnings("ignore:At least one mel filter has all zero values")
@pytest.mark.parametrize("name", CONFIGS)
def test_mel_power_equals_transformers(name: str) -> None:
    config = CONFIGS[name]
    np.testing.assert_allclose(mel_filters(config), reference_filters(config), atol=1e-7)
    window = audio_utils.window_function(config.window, config.shape)
    expected = audio_utils.spectrogram(
        NOISE.astype(np.float64),
        # transformers puts a short window at the left; librosa and we put it in the middle.
        np.pad(window, (config.n_fft - config.window) // 2),
        config.n_fft,
        config.hop,
        config.n_fft,
        power=config.power,
        center=config.centre,
        pad_mode="constant" if config.padding == "zeros" else "reflect",
        mel_filters=reference_filters(config),
        mel_floor=0.0,
    ).T
    own = mel_power(NOISE, config)
    assert own.dtype == np.float32
    assert len(own) == config.frames(len(NOISE))
    np.testing.assert_allclose(own, expected, rtol=1e-4, atol=1e-6 * expected.max())


@pytest.mark.parametrize("centre", [True, False])
@pytest.mark.parametrize(("n_fft", "window"), [(512, 400), (512, 399), (511, 400), (511, 399)])
def test_frames_lie_where_they_are_said_to(n_fft: int, window: int, centre: bool) -> None:
    config = MelConfig(n_fft, window, 160, bands=4, centre=centre)
    own = spectrum(NOISE, config)
    padded = np.pad(NOISE.astype(np.float64), n_fft)
    shape = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    for frame in (0, 7, len(own) - 1):
        first = n_fft + frame * 160
        if centre:
            first += (n_fft - window) // 2 - n_fft // 2
        piece = padded[first : first + window] * shape
        np.testing.assert_allclose(own[frame], abs(np.fft.rfft(piece, n_fft)) ** 2, atol=1e-4)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("frames", [1, 2, 61])
def test_the_fewest_samples_of_a_number_of_frames(config: MelConfig, frames: int) -> None:
    fewest = config.samples(frames)
    assert config.frames(fewest) == frames
    assert frames == 1 or config.frames(fewest - 1) == frames - 1


def test_one_sample_fills_a_centred_frame_and_no_whole_one() -> None:
    assert mel_power(NOISE[:1], CONFIGS["tera"]).shape == (1, 80)
    with pytest.raises(ValueError, match="511 samples do not fill a frame of 512"):
        mel_power(NOISE[:511], CONFIGS["whole frames"])
    with pytest.raises(ValueError, match="0 samples do not fill"):
        mel_power(NOISE[:0], CONFIGS["gban"])


@pytest.mark.parametrize("reference", [1.0, 0.5, "max"])
@pytest.mark.parametrize("range_db", [None, 80.0, 20.0])
def test_decibels_equal_transformers(reference: float | str, range_db: float | None) -> None:
    power = np.abs(np.random.default_rng(1).standard_normal((30, 8))).astype(np.float32) ** 9
    power[0] = 0.0
    top = float(power.max()) if reference == "max" else reference
    expected = audio_utils.power_to_db(power, top, 1e-10, range_db)
    np.testing.assert_allclose(decibels(power, reference, 1e-10, range_db), expected, atol=1e-4)  # type: ignore[arg-type]


def test_cepstra_are_the_orthonormal_cosine_transform() -> None:
    levels = np.random.default_rng(2).standard_normal((5, 26)).astype(np.float32)
    for k in range(13):
        scale = np.sqrt((1 if k == 0 else 2) / 26)
        slow = scale * sum(levels[:, n] * np.cos(np.pi * k * (2 * n + 1) / 52) for n in range(26))
        np.testing.assert_allclose(cepstra(levels, 13)[:, k], slow, atol=1e-5)
    whole = cepstra(levels, 26)
    np.testing.assert_allclose((whole**2).sum(1), (levels**2).sum(1), rtol=1e-5)
    with pytest.raises(ValueError, match="26 bands have no 27"):
        cepstra(levels, 27)


@pytest.mark.parametrize("width", [3, 9])
def test_deltas_are_slopes_of_fitted_lines(width: int) -> None:
    features = np.random.default_rng(3).standard_normal((20, 2)).astype(np.float32)
    own = deltas(features, width)
    for frame in range(20):
        first = min(max(frame - width // 2, 0), 20 - width)
        slope = np.polyfit(np.arange(width), features[first : first + width], 1)[0]
        np.testing.assert_allclose(own[frame], slope, atol=1e-5)


def test_deltas_refuse_what_they_cannot_fit() -> None:
    with pytest.raises(ValueError, match="over 9 frames need as many, not 8"):
        deltas(np.zeros((8, 2), np.float32))
    with pytest.raises(ValueError, match="odd"):
        deltas(np.zeros((8, 2), np.float32), 4)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"hop": 0}, "hop"),
        ({"window": 600}, "window"),
        ({"highest": 9_000.0}, "Hz"),
        ({"lowest": 8_000.0}, "Hz"),
        ({"power": 0.0}, "power"),
        ({"scale": "bark"}, "scale"),
        ({"norm": "area"}, "norm"),
        ({"shape": "square"}, "shape"),
        ({"padding": "edge"}, "padding"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        MelConfig(**settings)  # type: ignore[arg-type]
