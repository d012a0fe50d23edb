"""HuBERT and wav2vec 2.0: transformers' own results, utterances alone, exact round trips."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from transformers import (
    BertConfig,
    HubertForSequenceClassification,
    HubertModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForSequenceClassification,
    Wav2Vec2Model,
)
from transformers import HubertConfig as HuggingFaceHubertConfig

from emotrace_models import registry
from emotrace_models.encoders.hubert import Hubert, HubertConfig
from emotrace_models.types import FloatArray, Utterance

SMALL, _ = Hubert.small()
LENGTHS = (4_000, 1, 1_234, 4_000, 399, 9_001)
TINY = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_dim": (8,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "classifier_proj_size": 8,
}
CONFIGS = {
    "hubert": HuggingFaceHubertConfig,
    "wav2vec2": Wav2Vec2Config,
}
NETWORKS = {
    ("hubert", False): HubertModel,
    ("hubert", True): HubertForSequenceClassification,
    ("wav2vec2", False): Wav2Vec2Model,
    ("wav2vec2", True): Wav2Vec2ForSequenceClassification,
}


def samples(length: int) -> FloatArray:
    noise = np.random.default_rng(length).standard_normal(length)
    return (0.05 * noise + 0.02).astype(np.float32)


def utterance(values: FloatArray | None) -> Utterance:
    return Utterance(0, "a", 0, 0 if values is None else len(values), values)


def encoder(**settings: Any) -> Hubert:
    torch.manual_seed(0)
    network = Hubert(replace(SMALL, **settings)).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network


def saved(folder: Path, family: str, classifier: bool = False, **settings: Any) -> Any:
    """A tiny random model of the real format, and its feature extractor, in `folder`."""
    torch.manual_seed(1)
    model = NETWORKS[family, classifier](CONFIGS[family](**{**TINY, **settings})).eval()
    if hasattr(model, "layer_weights"):
        model.layer_weights.data = torch.tensor([0.3, -1.0, 2.0])
    model.save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return model


def heard(model: Any, values: FloatArray, **options: Any) -> Any:
    """What transformers itself makes of one utterance."""
    batch = Wav2Vec2FeatureExtractor()(values, sampling_rate=16_000, return_tensors="pt")
    with torch.inference_mode():
        return model(batch.input_values, **options)


LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}


@pytest.mark.parametrize("settings", [{}, LARGE], ids=["base", "large"])
@pytest.mark.parametrize("family", CONFIGS)
def test_a_pretrained_folder_gives_transformers_own_hidden_states(
    tmp_path: Path, family: str, settings: dict[str, Any]
) -> None:
    model = saved(tmp_path, family, **settings)
    network = Hubert.from_pretrained(tmp_path)
    assert network.config.family == family
    assert network.config.shortest == 400
    for length in (400, 5_000, 16_123):
        values = samples(length)
        ((features, _),) = network.encode([(None, utterance(values))])
        expected = heard(model, values).last_hidden_state[0].numpy()
        assert features is not None
        assert features.shape == expected.shape == (network.config.steps(length), 16)
        np.testing.assert_allclose(features, expected, rtol=1e-5, atol=5e-5)
    # One step every 320 samples, of 400 (models.md section 4.4).
    assert [network.config.steps(n) for n in (399, 400, 719, 720, 16_000)] == [0, 1, 1, 2, 49]


@pytest.mark.parametrize("family", CONFIGS)
def test_a_keyword_classifier_gives_its_weighted_layers(tmp_path: Path, family: str) -> None:
    model = saved(tmp_path, family, classifier=True, use_weighted_layer_sum=True, num_labels=12)
    network = Hubert.from_pretrained(str(tmp_path))
    assert network.config.features == "weighted"
    values = samples(6_000)
    ((features, _),) = network.encode([(None, utterance(values))])
    # Its own head, on what the encoder gives, is the classifier.
    with torch.inference_mode():
        pooled = model.projector(torch.tensor(features)).mean(0)
        logits = model.classifier(pooled)
    torch.testing.assert_close(logits, heard(model, values).logits[0], rtol=1e-5, atol=1e-5)


def test_settings_stand_before_those_of_the_folder(tmp_path: Path) -> None:
    saved(tmp_path, "hubert")
    network = Hubert.from_pretrained(tmp_path, features="weighted", layer_drop=0.0)
    assert network.config == replace(
        Hubert.from_pretrained(tmp_path).config, features="weighted", layer_drop=0.0
    )
    assert network.layer_weights.count_nonzero() == 0  # nothing learnt yet: a plain mean
    extractor = Wav2Vec2FeatureExtractor(do_normalize=False)
    extractor.save_pretrained(tmp_path)
    assert not Hubert.from_pretrained(tmp_path).config.normalise


@pytest.mark.parametrize("features", ["last", "weighted"])
def test_alone_is_as_in_a_batch(features: str) -> None:
    network = encoder(features=features)
    items = [(None, utterance(samples(length))) for length in LENGTHS]
    items.insert(3, (None, utterance(None)))
    items.append((None, utterance(np.zeros(0, np.float32))))
    together = network.encode(items)
    for item, (found, state) in zip(items, together, strict=True):
        ((alone, _),) = network.encode([item])
        assert state is None
        if item[1].samples is None or not len(item[1].samples):
            assert found is alone is None
            continue
        assert found is not None
        assert alone is not None
        assert found.shape == (network.config.steps(max(len(item[1].samples), 66)), 16)
        np.testing.assert_allclose(found, alone, rtol=0, atol=1e-5)


def test_padding_would_change_the_result_and_is_not_read() -> None:
    """Group normalisation runs over time: silence after the speech would be part of it."""
    network = encoder()
    waveform = torch.tensor(samples(4_000))[None]
    padded = torch.nn.functional.pad(waveform, (0, 4_000))
    with torch.inference_mode():
        features, steps = network(waveform, torch.tensor([4_000]))
        same, _ = network(padded, torch.tensor([4_000]))
        naive = network.network(padded).last_hidden_state[:, : int(steps)]
    assert torch.equal(same, features)
    assert (naive - features).abs().max() > 1e-2


def test_the_level_and_the_offset_of_a_recording_do_not_matter() -> None:
    network = encoder()
    front = network.front(utterance(samples(3_000) * 7 + 0.1))
    assert front is not None
    assert front.dtype == np.float32
    assert abs(front.mean()) < 1e-6
    assert front.var() == pytest.approx(1.0, abs=1e-4)
    ((first, _),) = network.encode([(None, utterance(samples(3_000)))])
    ((second, _),) = network.encode([(None, utterance(samples(3_000) * 7 + 0.1))])
    assert first is not None
    assert second is not None
    np.testing.assert_allclose(first, second, rtol=0, atol=1e-3)


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_a_constant_signal_gives_numbers(level: float) -> None:
    ((features, _),) = encoder().encode([(None, utterance(np.full(2_000, level, np.float32)))])
    assert features is not None
    assert np.isfinite(features).all()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"features": "weighted"},
        {"family": "wav2vec2", "stable": True, "convolution_norm": "layer"},
        {"position_norm": True, "feature_norm": False, "convolution_bias": True},
    ],
)
def test_a_bundle_keeps_it_to_the_bit(settings: dict[str, Any]) -> None:
    network = encoder(**settings)
    stored = save({key: tensor.contiguous() for key, tensor in network.state_dict().items()})
    config = registry.configured(
        "encoder", "hubert", json.loads(json.dumps(asdict(network.config)))
    )
    assert config == network.config
    restored = Hubert(config).eval()
    restored.load_state_dict(load(stored))
    items = [(None, utterance(samples(3_000)))]
    assert np.array_equal(restored.encode(items)[0][0], network.encode(items)[0][0])  # type: ignore[arg-type]


def test_the_base_model_has_its_published_size() -> None:
    with torch.device("meta"):
        network = Hubert(HubertConfig())
    # 94.4 million; transformers counts 768 more, of the mask that this encoder does without.
    assert sum(p.numel() for p in network.parameters()) == 94_371_712 - 768


def test_a_gradient_reaches_every_parameter() -> None:
    network = encoder(features="weighted").train()
    waveforms = torch.tensor(np.stack([samples(3_000), samples(3_000) * 0]))
    features, _ = network(waveforms, torch.tensor([3_000, 2_000]))
    (features * torch.randn_like(features)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("features", ["last", "weighted"])
def test_training_drops_layers_without_losing_count(features: str) -> None:
    network = encoder(features=features, layer_drop=0.9).train()
    torch.manual_seed(0)
    waveform = torch.tensor(samples(3_000))[None]
    one, two = (network(waveform, torch.tensor([3_000]))[0] for _ in range(2))
    assert one.shape == two.shape == (1, network.config.steps(3_000), 16)
    assert not torch.equal(one, two)


def test_what_is_not_there_is_said_with_the_cure(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no HuBERT or wav2vec2 at .*name a folder with config"):
        Hubert.from_pretrained(tmp_path)
    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is a bert, not HuBERT or wav2vec2"):
        Hubert.from_pretrained(tmp_path)
    HuggingFaceHubertConfig(**TINY).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"no safetensors weights at .*model\.safetensors"):
        Hubert.from_pretrained(tmp_path)


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, "hubert")
    for settings, message in (
        ({"num_hidden_layers": 3}, "lacks 16 weights of its config, first encoder.layers.2"),
        ({"intermediate_size": 32}, "lacks 6 weights of its config, first encoder.layers.0"),
        ({"hidden_act": "relu"}, "an activation other than gelu"),
    ):
        HuggingFaceHubertConfig(**{**TINY, **settings}).save_pretrained(tmp_path)
        with pytest.raises(ValueError, match=message):
            Hubert.from_pretrained(tmp_path)
    Wav2Vec2Config(**TINY, add_adapter=True).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="has adapters"):
        Hubert.from_pretrained(tmp_path)


def test_another_sampling_rate_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, "hubert")
    Wav2Vec2FeatureExtractor(sampling_rate=8_000).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="hears 8000 Hz"):
        Hubert.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"family": "data2vec"}, "family must be one of hubert, wav2vec2"),
        ({"kernels": [10]}, "one each a convolution"),
        ({"heads": 5}, "heads 5 does not divide width 768"),
        ({"layer_drop": 1.0}, "layer_drop must be from 0 to under 1"),
        ({"family": "wav2vec2", "position_norm": True}, "wav2vec2 has feature_norm"),
    ],
)
def test_a_bad_setting_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(registry.BadConfig, match=message):
        registry.configured("encoder", "hubert", settings)
