"""TERA: s3prl's front end, network and checkpoints; padding; weights on disk."""

from __future__ import annotations

import argparse
import json
import math
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers.audio_utils import mel_filter_bank

from emotrace_models.encoders.base import padded_fronts
from emotrace_models.encoders.tera import Tera, TeraConfig, normalised_log_mel, positions
from emotrace_models.types import SAMPLE_RATE, Utterance

SMALL = TeraConfig(bands=16, layers=2, width=24, heads=3, inner=40, dropout=0.3)


def utterance(samples: Any) -> Utterance:
    return Utterance(0, "a", 0, 0 if samples is None else len(samples), samples)


def noise(seconds: float, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal(round(seconds * SAMPLE_RATE))).astype(np.float32)


def s3prl_states(config: TeraConfig, seed: int = 0) -> dict[str, Any]:
    """What `torch.save` gets in s3prl, with random weights and all keys."""
    generator = torch.Generator().manual_seed(seed)

    def linear(name: str, inputs: int, outputs: int) -> dict[str, Tensor]:
        return {
            f"{name}.weight": torch.randn(outputs, inputs, generator=generator) * inputs**-0.5,
            f"{name}.bias": torch.randn(outputs, generator=generator) * 0.1,
        }

    def norm(name: str) -> dict[str, Tensor]:
        return {
            f"{name}.weight": 1 + 0.1 * torch.randn(config.width, generator=generator),
            f"{name}.bias": 0.1 * torch.randn(config.width, generator=generator),
        }

    state = {
        **linear("input_representations.spec_transform", config.bands, config.width),
        **norm("input_representations.LayerNorm"),
    }
    for number in range(config.layers):
        at = f"encoder.layer.{number}"
        for part in ("query", "key", "value"):
            state |= linear(f"{at}.attention.self.{part}", config.width, config.width)
        state |= linear(f"{at}.attention.output.dense", config.width, config.width)
        state |= norm(f"{at}.attention.output.LayerNorm")
        state |= linear(f"{at}.intermediate.dense", config.width, config.inner)
        state |= linear(f"{at}.output.dense", config.inner, config.width)
        state |= norm(f"{at}.output.LayerNorm")
    features = {"feat_type": "mel", "channel": 0, "log": True, "delta": 0, "cmvn": True}
    return {
        "Transformer": state,
        "SpecHead": linear("output", config.width, config.bands),
        "Config": {
            "transformer": {
                "input_dim": -1,
                "hidden_size": config.width,
                "num_hidden_layers": config.layers,
                "num_attention_heads": config.heads,
                "intermediate_size": config.inner,
                "hidden_act": "gelu",
                "hidden_dropout_prob": 0.3,
                "attention_probs_dropout_prob": 0.3,
                "initializer_range": 0.02,
                "layer_norm_eps": 1e-12,
                "share_layer": False,
                "pre_layer_norm": False,
            },
            "task": {"loss": "L1", "sequence_length": 1500},
            "audio": {
                "target_level": -25,
                "win_ms": 25,
                "hop_ms": 10,
                "n_freq": 201,
                "n_mels": config.bands,
                "n_mfcc": 13,
                "input": features,
                "target": features,
            },
        },
        "Settings": {"Paras": argparse.Namespace(seed=1337)},
        "Step": 1_000_000,
    }


def written(path: Path, states: Mapping[str, Any]) -> Path:
    torch.save(states, path)
    return path


def s3prl_forward(state: Mapping[str, Tensor], config: TeraConfig, fronts: Tensor) -> Tensor:
    """s3prl's TransformerModel on one item [frame, band], from its own tensor names."""

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(name: str, x: Tensor) -> Tensor:
        mean = x.mean(-1, keepdim=True)
        spread = (x - mean).pow(2).mean(-1, keepdim=True)
        x = (x - mean) / torch.sqrt(spread + config.epsilon)
        return state[f"{name}.weight"] * x + state[f"{name}.bias"]

    table = np.array(
        [
            [place / 10_000 ** (2 * (i // 2) / config.width) for i in range(config.width)]
            for place in range(len(fronts))
        ]
    )
    table[:, 0::2], table[:, 1::2] = np.sin(table[:, 0::2]), np.cos(table[:, 1::2])
    x = linear("input_representations.spec_transform", fronts)
    x = norm("input_representations.LayerNorm", x + torch.tensor(table, dtype=torch.float32))
    size = config.width // config.heads
    for number in range(config.layers):
        at = f"encoder.layer.{number}"
        heads = []
        for head in range(config.heads):
            own = slice(head * size, (head + 1) * size)
            q, k, v = (
                linear(f"{at}.attention.self.{part}", x)[:, own]
                for part in ("query", "key", "value")
            )
            heads.append((q @ k.T / math.sqrt(size)).softmax(-1) @ v)
        read = linear(f"{at}.attention.output.dense", torch.cat(heads, -1))
        x = norm(f"{at}.attention.output.LayerNorm", read + x)
        inner = linear(f"{at}.intermediate.dense", x)
        inner = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
        x = norm(f"{at}.output.LayerNorm", linear(f"{at}.output.dense", inner) + x)
    return x


def test_an_s3prl_checkpoint_gives_the_features_of_s3prls_network(tmp_path: Path) -> None:
    states = s3prl_states(SMALL)
    encoder = Tera.from_pretrained(written(tmp_path / "states.ckpt", states))
    fronts = torch.randn(37, SMALL.bands)
    with torch.inference_mode():
        found, steps = encoder(fronts[None], torch.tensor([37]))
    torch.testing.assert_close(
        found[0], s3prl_forward(states["Transformer"], SMALL, fronts), atol=1e-5, rtol=1e-5
    )
    assert steps.tolist() == [37]
    assert encoder.config == SMALL


def test_names_of_the_oldest_and_of_newer_checkpoints(tmp_path: Path) -> None:
    states = s3prl_states(SMALL)
    known = Tera.from_pretrained(written(tmp_path / "known.ckpt", states)).state_dict()
    old = {
        name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): tensor
        for name, tensor in states["Transformer"].items()
    }
    newer = {**states, "Upstream_Config": states["Config"], "Config": {"runner": {}}}
    for name, changed in (("old.ckpt", {**states, "Transformer": old}), ("newer.ckpt", newer)):
        found = Tera.from_pretrained(written(tmp_path / name, changed)).state_dict()
        assert found.keys() == known.keys()
        assert all(torch.equal(found[n], known[n]) for n in known)


def test_the_published_size() -> None:
    with torch.device("meta"):
        encoder = Tera(TeraConfig())
    layer = 4 * (768 * 768 + 768) + 2 * 768 * 3_072 + 3_072 + 768 + 4 * 768
    assert sum(p.numel() for p in encoder.parameters()) == 3 * layer + 80 * 768 + 768 + 2 * 768


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"Transformer": None}, "no `Transformer`"),
        ({"Config": {}}, "neither Config nor Upstream_Config"),
        ({"Config.transformer.pre_layer_norm": True}, "pre_layer_norm"),
        ({"Config.transformer.hidden_act": "relu"}, "hidden_act"),
        ({"Config.transformer.num_hidden_layers": 3}, "holds no TERA of this form"),
        ({"Config.audio.n_mels": 40}, "n_mels"),
        ({"Config.audio.input.feat_type": "mfcc"}, "feat_type"),
        ({"Config.audio": {"kaldi": {"feat_type": "fbank"}}}, "other features"),
        ({"Transformer.encoder.LayerNorm.0.weight": torch.ones(24)}, "belongs to no TERA"),
        ({"Optimizer": pickle.Pickler}, "holds objects"),
    ],
)
def test_a_checkpoint_of_another_form_is_refused_by_name(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    states = s3prl_states(SMALL)
    [(path, value)] = change.items()
    first, _, rest = path.partition(".")
    place = states
    if first == "Config":
        *parents, last = path.split(".")
        for parent in parents:
            place = place[parent]
    elif rest:
        place, last = states[first], rest
    else:
        last = first
    if value is None:
        del place[last]
    else:
        place[last] = value
    file = written(tmp_path / "states.ckpt", states)
    with pytest.raises(ValueError, match=said) as error:
        Tera.from_pretrained(file)
    assert str(file) in str(error.value)


def test_a_file_that_is_no_checkpoint_and_a_path_that_is_nothing(tmp_path: Path) -> None:
    broken = tmp_path / "broken.ckpt"
    broken.write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(ValueError, match=r"broken\.ckpt"):
        Tera.from_pretrained(broken)
    with pytest.raises(ValueError, match=r"no TERA weights at .*absent"):
        Tera.from_pretrained(tmp_path / "absent")
    with pytest.raises(ValueError, match=r"config\.json is missing"):
        Tera.from_pretrained(tmp_path)


def test_a_saved_folder_gives_the_same_features_and_settings_can_differ(tmp_path: Path) -> None:
    encoder = Tera(SMALL).eval()
    encoder.save_pretrained(tmp_path)
    again = Tera.from_pretrained(tmp_path, pool=4, frames=50)
    assert (again.config.pool, again.config.frames) == (4, 50)
    [(before, _)] = encoder.encode([(None, utterance(noise(0.49)))])
    [(after, _)] = again.encode([(None, utterance(noise(0.49)))])
    assert before is not None
    assert after is not None
    assert before.shape == (50, 24)
    pooled = [before[i : i + 4].mean(axis=0) for i in range(0, 50, 4)]  # the last of two frames
    np.testing.assert_allclose(after, pooled, atol=1e-5)
    (tmp_path / "config.json").write_text(json.dumps({"colour": 1}))
    with pytest.raises(ValueError, match="colour"):
        Tera.from_pretrained(tmp_path)


def test_the_front_end_is_s3prls() -> None:
    """Scaled to -25 dB, torch.stft as torchaudio calls it, HTK triangles of height 1, log, CMVN."""
    samples = noise(1.234) * np.linspace(0.1, 1, round(1.234 * SAMPLE_RATE), dtype=np.float32)
    wave = torch.tensor(samples)
    wave = wave * 10 ** (-25 / 20) / (wave.pow(2).mean().sqrt() + 1e-10)
    bins = torch.stft(
        wave, 400, 160, 400, torch.hann_window(400), pad_mode="reflect", return_complex=True
    )
    filters = mel_filter_bank(201, 80, 0.0, 8_000.0, SAMPLE_RATE, norm=None, mel_scale="htk")
    log_mel = (bins.abs().square().T @ torch.tensor(filters, dtype=torch.float32) + 1e-10).log()
    expected = (log_mel - log_mel.mean(0)) / (log_mel.std(0) + 1e-10)
    found = normalised_log_mel(samples, TeraConfig())
    assert found.shape == (1 + len(samples) // 160, 80)
    np.testing.assert_allclose(found, expected.numpy(), atol=2e-3)
    np.testing.assert_allclose(
        normalised_log_mel(samples * 20, TeraConfig()), found, atol=1e-3
    )  # as loud as it may be


def test_silence_one_sample_and_more_than_the_limit() -> None:
    assert not normalised_log_mel(np.zeros(16_000, np.float32), TeraConfig()).any()
    assert np.isfinite(normalised_log_mel(np.ones(1, np.float32), TeraConfig())).all()
    assert normalised_log_mel(noise(16.0), TeraConfig()).shape == (1_500, 80)
    encoder = Tera(SMALL).eval()
    assert encoder.front(utterance(None)) is None
    assert encoder.front(utterance(np.zeros(0, np.float32))) is None


@pytest.mark.parametrize("pool", [1, 4])
def test_padding_and_companions_change_nothing(pool: int) -> None:
    torch.manual_seed(0)
    encoder = Tera(TeraConfig(bands=16, layers=2, width=24, heads=3, inner=40, pool=pool)).eval()
    fronts = [np.random.default_rng(n).standard_normal((n, 16)).astype(np.float32) for n in (5, 22)]
    batch, lengths = padded_fronts(fronts)
    batch[0, 5:] = math.nan
    with torch.inference_mode():
        together, steps = encoder(batch, lengths)
        assert steps.tolist() == [-(-5 // pool), -(-22 // pool)]
        for row, front in enumerate(fronts):
            alone, [count] = encoder(torch.tensor(front)[None], torch.tensor([len(front)]))
            torch.testing.assert_close(together[row, :count], alone[0], atol=1e-5, rtol=1e-5)
            assert not together[row, count:].any()


def test_every_parameter_gets_a_gradient_and_dropout_is_for_training() -> None:
    torch.manual_seed(0)
    encoder = Tera(SMALL)
    fronts, lengths = torch.randn(2, 9, 16), torch.tensor([9, 6])
    features, _ = encoder.train()(fronts, lengths)
    weights = torch.randn(features.shape)
    torch.autograd.backward((features * weights).sum())
    assert all(p.grad is not None and p.grad.any() for p in encoder.parameters())
    assert not torch.equal(encoder(fronts, lengths)[0], features)
    still = encoder.eval()(fronts, lengths)[0]
    assert torch.equal(encoder(fronts, lengths)[0], still)


def test_positions_are_sines_and_cosines_in_turn() -> None:
    table = positions(3, 4)
    expected = [[math.sin(p), math.cos(p), math.sin(p / 100), math.cos(p / 100)] for p in range(3)]
    torch.testing.assert_close(table, torch.tensor(expected))


@pytest.mark.parametrize(
    ("setting", "value"),
    [("heads", 5), ("pool", 0), ("dropout", 1.0), ("epsilon", 0.0), ("frames", 0)],
)
def test_a_bad_setting_is_named(setting: str, value: float) -> None:
    with pytest.raises(ValueError, match=setting):
        TeraConfig(**{setting: value})  # type: ignore[arg-type]
