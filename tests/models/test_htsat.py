"""The lean forward pass of CLAP's audio tower gives what transformers' gives."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from emotrace_models.encoders.clap_audio import ClapAudio, ClapAudioConfig
from emotrace_models.encoders.htsat import Htsat, readable

FULL = ClapAudioConfig()
SMALL = ClapAudio.small()[0]
DEEP = replace(SMALL, depths=(2, 2, 3, 2), heads=(2, 2, 4, 4), window=4)


def encoder(config: ClapAudioConfig) -> ClapAudio:
    torch.manual_seed(0)
    made = ClapAudio(config).eval()
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if config is not FULL or "relative_position_bias" in name:  # they begin at zero
                parameter.add_(torch.randn_like(parameter) * 0.2)
        norm = made.tower.audio_model.audio_encoder.batch_norm
        norm.running_mean.fill_(-40.0)
        norm.running_var.fill_(400.0)
    return made


def spectra(items: int) -> torch.Tensor:
    return torch.randn(items, 1, 1001, 64, generator=torch.Generator().manual_seed(1)) * 20 - 40


@pytest.mark.parametrize("config", [SMALL, DEEP, FULL], ids=["small", "deep", "full"])
@torch.inference_mode()
def test_maps_and_means_are_those_of_transformers(config: ClapAudioConfig) -> None:
    model = encoder(config).tower.audio_model
    sound = spectra(2)
    theirs = model(input_features=sound)
    last, mean = Htsat(model)(sound)
    assert float(theirs.last_hidden_state.std()) > 0.1
    torch.testing.assert_close(last, theirs.last_hidden_state, rtol=0, atol=1e-5)
    torch.testing.assert_close(mean, theirs.pooler_output, rtol=0, atol=1e-5)


def test_the_encoder_reads_alike_with_and_without_gradients() -> None:
    made = encoder(DEEP)
    fronts, lengths = spectra(2)[:, 0], torch.tensor([1001, 700])
    with_gradients = made(fronts, lengths)[0]
    assert with_gradients.requires_grad
    with torch.inference_mode():
        torch.testing.assert_close(made(fronts, lengths)[0], with_gradients, rtol=0, atol=1e-5)


def changed(made: ClapAudio) -> dict[str, torch.Tensor]:
    other = {name: parameter * 1.5 for name, parameter in made.named_parameters()}
    return {**made.state_dict(), **other}


@torch.inference_mode()
def test_new_weights_are_read() -> None:
    """What the lean pass prepares of the weights is prepared again."""
    made, sound = encoder(SMALL), spectra(1)[:, 0]
    before = made(sound, torch.tensor([1001]))[0]
    made.load_state_dict(changed(made))
    after = made(sound, torch.tensor([1001]))[0]
    fresh = ClapAudio(SMALL).eval()
    fresh.load_state_dict(made.state_dict())
    assert (after - before).abs().max() > 1e-3
    torch.testing.assert_close(after, fresh(sound, torch.tensor([1001]))[0], rtol=0, atol=0)


@torch.inference_mode()
def test_windows_that_do_not_fill_the_maps_are_left_to_transformers() -> None:
    config = replace(SMALL, window=3)
    made = ClapAudio(config).eval()
    assert readable(SMALL.network())
    assert not readable(config.network())
    model: Any = made.tower.audio_model
    theirs = model(input_features=spectra(1)).pooler_output
    vectors = torch.nn.functional.normalize(made.tower.audio_projection(theirs), dim=-1)
    found = made(spectra(1)[:, 0], torch.tensor([1001]))[0][:, 0]
    torch.testing.assert_close(found, vectors, rtol=0, atol=1e-6)
    assert made.in_bf16() is made
