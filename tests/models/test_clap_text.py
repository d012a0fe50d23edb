from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import RobertaConfig, RobertaModel

from emotrace_models.encoders.clap_text import (
    STEPS,
    TOKENIZER,
    ClapText,
    ClapTextConfig,
    byte_tokenizer,
)
from emotrace_models.types import Transcript, Utterance

LONG = "I told you that I would come back, and now that I am here you have nothing to say to me."


def utterance(text: str | None) -> Utterance:
    words = None if text is None else Transcript(text, "client")
    return Utterance(0, "a", 0, 1, None, words)


def encoder(**settings: object) -> ClapText:
    torch.manual_seed(0)
    config, assets = ClapText.small()
    return ClapText(replace(config, **settings), assets).eval()


def features(made: ClapText, *texts: str) -> list[np.ndarray]:
    found = [f for f, _ in made.encode([(None, utterance(text)) for text in texts])]
    assert all(f is not None for f in found)
    return found


def test_vectors_are_of_unit_length_and_differ() -> None:
    a, b = features(encoder(), "No.", LONG)
    assert a.shape == b.shape == (1, 16)
    assert np.linalg.norm(a) == pytest.approx(1, abs=1e-5)
    assert np.abs(a - b).max() > 1e-3


@pytest.mark.parametrize("step_source", ["pooled", "tokens", "projected"])
def test_alone_is_as_in_a_batch(step_source: str) -> None:
    made = encoder(step_source=step_source)
    texts = ("No.", LONG, "a b")
    for together, text in zip(features(made, *texts), texts, strict=True):
        np.testing.assert_allclose(features(made, text)[0], together, atol=1e-5)


@pytest.mark.parametrize("text", ["a", "fourteen bytes", LONG])
def test_tokens_are_the_adaptive_average_of_robertas_hidden_states(text: str) -> None:
    """Fewer than 16 tokens repeat, more are averaged: torch's adaptive_avg_pool1d, text by text."""
    made = encoder(step_source="tokens", tokens=30)
    [tokens] = features(made, text)
    assert tokens.shape == (STEPS, 16)
    ids = byte_tokenizer().encode(text).ids
    ids = ids if len(ids) <= 30 else [*ids[:29], 2]
    roberta = RobertaModel(
        RobertaConfig(
            vocab_size=made.config.vocabulary,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=34,
            type_vocab_size=1,
            layer_norm_eps=1e-5,
        )
    ).eval()
    own = made.tower.text_model.state_dict()
    roberta.load_state_dict({k: v for k, v in own.items() if not k.endswith("_ids")})
    with torch.no_grad():
        hidden = roberta(input_ids=torch.tensor([ids])).last_hidden_state
    expected = F.adaptive_avg_pool1d(hidden.transpose(1, 2), STEPS)[0].T
    np.testing.assert_allclose(tokens, expected, atol=1e-5)


def test_projected_tokens_went_through_the_projection() -> None:
    tokens, projected = encoder(step_source="tokens"), encoder(step_source="projected")
    projected.load_state_dict(tokens.state_dict())
    [a], [b] = features(tokens, LONG), features(projected, LONG)
    with torch.no_grad():
        np.testing.assert_allclose(tokens.tower.text_projection(torch.from_numpy(a)), b, atol=1e-5)


def test_a_text_is_cut_to_its_tokens_and_keeps_its_end_mark() -> None:
    ids = encoder(tokens=10).front(utterance(LONG))
    assert ids is not None
    assert list(ids) == [*byte_tokenizer().encode(LONG).ids[:9], 2]


def test_what_has_no_words_gives_none() -> None:
    made = encoder()
    for text in (None, "", "  \n"):
        assert made.encode([(None, utterance(text))]) == [(None, None)]


def test_a_lone_surrogate_is_read() -> None:
    assert np.isfinite(features(encoder(), "ab\ud800")[0]).all()


def test_the_default_is_robertas_size_with_robertas_epsilon() -> None:
    config = ClapTextConfig()
    with torch.device("meta"):
        network = ClapText(config, {TOKENIZER: byte_tokenizer().to_str().encode()})
    # roberta-base with its pooler has 124,645,632 parameters; 768 -> 512 -> 512 follows.
    expected = 124_645_632 + 768 * 512 + 512 + 512 * 512 + 512
    assert sum(p.numel() for p in network.parameters()) == expected
    norms = [m for m in network.modules() if isinstance(m, torch.nn.LayerNorm)]
    assert len(norms) == 25
    assert {norm.eps for norm in norms} == {1e-5}


def test_a_bad_tokenizer_is_named() -> None:
    config, assets = ClapText.small()
    with pytest.raises(ValueError, match=TOKENIZER):
        ClapText(config)
    with pytest.raises(ValueError, match="no tokenizer"):
        ClapText(config, {TOKENIZER: b"{}"})
    with pytest.raises(ValueError, match="vocabulary"):
        ClapText(replace(config, vocabulary=100), assets)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"heads": 5}, "heads"),
        ({"tokens": 2}, "tokens"),
        ({"positions": 77}, "positions"),
        ({"norm_eps": 0.0}, "norm_eps"),
        ({"layers": 0}, "layers"),
        ({"step_source": "frames"}, "step_source"),
    ],
)
def test_a_bad_config_names_the_setting(settings: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        ClapTextConfig(**settings)
