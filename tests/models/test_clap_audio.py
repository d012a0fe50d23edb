from __future__ import annotations

from dataclasses import replace

import laion_reference as laion
import numpy as np
import pytest
import torch

from emotrace_models.encoders.clap_audio import (
    CLIP,
    FRAMES,
    SILENCE,
    ClapAudio,
    ClapAudioConfig,
    log_mel,
    quantised,
    repeated,
    upsampled,
)
from emotrace_models.types import Utterance


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(int(seconds * 16_000)) * 0.1).astype(np.float32)


def utterance(samples: np.ndarray | None) -> Utterance:
    return Utterance(0, "a", 0, 1, samples)


def encoder(**settings: object) -> ClapAudio:
    torch.manual_seed(0)
    config, assets = ClapAudio.small()
    made = ClapAudio(replace(config, **settings), assets).eval()
    # As the library starts them, attention is all but uniform and vectors of all sounds agree.
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return made


def features(made: ClapAudio, *sounds: np.ndarray) -> list[np.ndarray]:
    found = [f for f, _ in made.encode([(None, utterance(sound)) for sound in sounds])]
    assert all(f is not None for f in found)
    return found


@pytest.mark.parametrize("seconds", [0.4, 3.0, 9.99, 12.5])
def test_the_front_end_is_laion_s(seconds: float) -> None:
    """50 Hz to 14 kHz, whole repeats and then zeros, the middle of what is too long. The library's
    own extractor starts at 0 Hz and crops at random unless told.

    Above 8 kHz nothing is left but the rounding of single precision: hence hundredths of a dB."""
    wave = quantised(upsampled(noise(seconds)))
    if len(wave) > CLIP:
        first = (len(wave) - CLIP) // 2
        expected = wave[first : first + CLIP]
    else:
        times = CLIP // len(wave)
        expected = np.concatenate([wave] * times + [np.zeros(CLIP - times * len(wave), np.float32)])
    front = encoder().front(utterance(noise(seconds)))
    assert front is not None
    assert front.shape == (FRAMES, 64)
    np.testing.assert_allclose(front, laion.log_mel(torch.from_numpy(expected)), atol=0.02)


def test_sound_is_read_as_16_bit_integers_towards_zero() -> None:
    sound = np.array([0.5, -0.5, 1.5, -1.5, 1e-5], np.float32)
    levels = np.array([16_383, -16_383, 32_767, -32_767, 0])
    np.testing.assert_array_equal(quantised(sound), (levels / 32_767).astype(np.float32))


def test_a_clip_of_half_the_length_is_read_twice() -> None:
    sound = quantised(upsampled(noise(5.0)))
    np.testing.assert_array_equal(repeated(sound), np.concatenate([sound, sound]))


def test_vectors_are_of_unit_length_and_differ() -> None:
    a, b = features(encoder(), noise(1.0, 1), np.sin(np.arange(24_000) / 9).astype(np.float32))
    assert a.shape == b.shape == (1, 16)
    assert np.linalg.norm(a) == pytest.approx(1, abs=1e-5)
    assert np.abs(a - b).max() > 0.05


@pytest.mark.parametrize("step_source", ["pooled", "tokens", "projected"])
def test_alone_is_as_in_a_batch(step_source: str) -> None:
    made = encoder(step_source=step_source)
    sounds = [noise(seconds, i) for i, seconds in enumerate((0.3, 4.0, 11.0))]
    for together, sound in zip(features(made, *sounds), sounds, strict=True):
        np.testing.assert_allclose(features(made, sound)[0], together, atol=1e-5)


def test_the_mean_of_all_tokens_is_what_is_pooled() -> None:
    made = encoder(step_source="tokens")
    sound = noise(10.0)
    [tokens] = features(made, sound)
    assert tokens.shape == (16, 64)
    mel = torch.from_numpy(log_mel(quantised(upsampled(sound))))
    with torch.no_grad():
        pooled = made.tower.audio_model(input_features=mel[None, None]).pooler_output[0]
    np.testing.assert_allclose(tokens.mean(0), pooled, atol=1e-5)


def test_tokens_stand_in_time() -> None:
    """A change of the last second moves the last token far more than the first."""
    made = encoder(step_source="tokens")
    sound = noise(10.0)
    changed = sound.copy()
    changed[9 * 16_000 :] = 0.0
    a, b = features(made, sound, changed)
    moved = np.abs(a - b).mean(1)
    assert moved[-1] > 3 * moved[7]


def test_projected_tokens_went_through_the_projection() -> None:
    tokens, projected = encoder(step_source="tokens"), encoder(step_source="projected")
    projected.load_state_dict(tokens.state_dict())
    [a], [b] = features(tokens, noise(10.0)), features(projected, noise(10.0))
    with torch.no_grad():
        np.testing.assert_allclose(tokens.tower.audio_projection(torch.from_numpy(a)), b, atol=1e-5)
    assert (tokens.width, projected.width) == (64, 16)


def test_tokens_only_cover_what_was_heard() -> None:
    """Zeros follow the sound, not its repeats, and give no steps."""
    made = encoder(step_source="tokens")
    assert [len(f) for f in features(made, noise(0.2), noise(5.0), noise(9.9), noise(20.0))] == [
        1,
        9,
        16,
        16,
    ]
    front = made.front(utterance(noise(5.0)))
    assert front is not None
    whole = log_mel(np.pad(quantised(upsampled(noise(5.0))), (0, CLIP // 2)))
    np.testing.assert_array_equal(front, whole[: len(front)])
    assert whole[len(front) :].max() <= SILENCE


def test_a_random_crop_depends_on_seed_and_sound_alone() -> None:
    long = noise(14.0)
    fronts = [encoder(crop="random", seed=seed).front(utterance(long)) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(fronts[0], fronts[1])
    assert not np.array_equal(fronts[0], fronts[2])
    other = encoder(crop="random", seed=1)
    other.front(utterance(noise(12.0, 5)))
    np.testing.assert_array_equal(other.front(utterance(long)), fronts[0])


def test_silence_gives_finite_vectors_and_nothing_gives_none() -> None:
    [vector] = features(encoder(), np.zeros(8_000, np.float32))
    assert np.isfinite(vector).all()
    made = encoder()
    assert made.encode([(None, utterance(None)), (None, utterance(noise(0.0)))]) == [
        (None, None),
        (None, None),
    ]


def test_the_default_is_htsat_tiny() -> None:
    with torch.device("meta"):
        network = ClapAudio(ClapAudioConfig())
    state = laion.random_state(laion.REAL, device="meta")
    heads = ("logmel", "spectrogram", "tscam", ".head.", "attn_mask", "running", "num_batches")
    expected = sum(
        value.numel()
        for key, value in state.items()
        if key.startswith(("audio_branch.", "audio_projection."))
        and not any(part in key for part in (*heads, "relative_position_index"))
    )
    assert sum(p.numel() for p in network.parameters()) == expected


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"depths": (2, 2)}, "depths"),
        ({"heads": (5, 8, 16, 32)}, "heads"),
        ({"patch_width": 0}, "patch_width"),
        ({"step_source": "frames"}, "step_source"),
        ({"crop": "start"}, "crop"),
    ],
)
def test_a_bad_config_names_the_setting(settings: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        ClapAudioConfig(**settings)
