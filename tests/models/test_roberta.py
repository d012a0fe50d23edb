"""RoBERTa as an encoder: tokens without marks, padding, Hugging Face folders."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import BertConfig, RobertaForMaskedLM, RobertaTokenizerFast

from emotrace_models.encoders.base import padded_fronts
from emotrace_models.encoders.roberta import Roberta, RobertaConfig
from emotrace_models.encoders.subwords import TOKENIZER
from emotrace_models.types import Transcript, Utterance


def small(seed: int = 0) -> Roberta:
    torch.manual_seed(seed)
    config, assets = Roberta.small()
    config = replace(config, vocabulary=config.vocabulary + 1)  # room for <mask>
    return Roberta(config, assets).eval()


def said(text: str | None) -> Utterance:
    transcript = None if text is None else Transcript(text, "client")
    return Utterance(0, "a", 0, 0, None, transcript)


def hub_folder(path: Path, encoder: Roberta) -> Path:
    """As the hub has it: a masked language model with its tokenizer."""
    model = RobertaForMaskedLM(encoder.config.network())
    model.save_pretrained(path)
    tokenizer = Tokenizer.from_str(encoder.asset_files[TOKENIZER].decode())
    RobertaTokenizerFast(tokenizer_object=tokenizer).save_pretrained(path)
    return path


def test_a_vector_a_token_without_the_marks() -> None:
    encoder = small()
    front = encoder.front(said("ab c"))
    assert front is not None
    assert (front[0], front[-1], len(front)) == (0, 2, 6)
    with torch.inference_mode():
        features, steps = encoder(*padded_fronts([front]))
        whole = encoder.network(
            input_ids=torch.tensor(front)[None], attention_mask=torch.ones(1, 6)
        ).last_hidden_state
    assert steps.tolist() == [4]
    torch.testing.assert_close(features, whole[:, 1:-1])


def test_padding_and_companions_change_nothing() -> None:
    encoder = small()
    texts = ["no", "quite a long text", "y"]
    together = encoder.encode([(None, said(text)) for text in texts])
    for text, (features, _) in zip(texts, together, strict=True):
        [(alone, _)] = encoder.encode([(None, said(text))])
        assert features is not None
        assert alone is not None
        assert alone.shape == (len(text), 16)
        np.testing.assert_allclose(features, alone, atol=1e-5)
    fronts, lengths = padded_fronts([np.array([0, 5, 6, 2]), np.array([0, 7, 2])])
    fronts[1, 3] = 9  # nothing is read there
    with torch.inference_mode():
        features, _ = encoder(fronts, lengths)
        assert not features[1, 1:].any()
        alone, _ = encoder(fronts[1:, :3], lengths[1:])
    torch.testing.assert_close(features[1, :1], alone[0], atol=1e-5, rtol=1e-5)


def test_nothing_to_read_too_much_to_read_and_surrogates() -> None:
    encoder = small()
    assert encoder.front(said(None)) is None
    assert encoder.front(said(" \n")) is None
    front = encoder.front(said("x" * 100))
    assert front is not None
    assert len(front) == 20 + 2
    assert front[-1] == 2  # the end mark stays
    assert encoder.front(said("\ud800")) is not None


def test_the_published_size() -> None:
    _, assets = Roberta.small()
    with torch.device("meta"):
        encoder = Roberta(RobertaConfig(), assets)
    # 355.4 M, the pooler of 1,049,600 left out.
    assert sum(p.numel() for p in encoder.parameters()) == 355_359_744 - 1_049_600


def test_a_folder_of_the_hub_gives_its_own_features(tmp_path: Path) -> None:
    first = small()
    folder = hub_folder(tmp_path, first)
    assert Roberta.from_pretrained(folder).config == first.config
    encoder = Roberta.from_pretrained(folder, tokens=7)
    assert encoder.config == replace(first.config, tokens=7)
    expected = RobertaForMaskedLM.from_pretrained(folder).eval().roberta
    ids = encoder.front(said("well well"))
    assert ids is not None
    assert len(ids) == 7 + 2
    with torch.inference_mode():
        features, _ = encoder(*padded_fronts([ids]))
        whole = expected(input_ids=torch.tensor(ids)[None]).last_hidden_state
    torch.testing.assert_close(features, whole[:, 1:-1], atol=1e-6, rtol=1e-6)
    again = Roberta(encoder.config, encoder.asset_files).eval()
    again.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(again(*padded_fronts([ids]))[0], features)


def test_another_architecture_and_missing_weights_are_refused(tmp_path: Path) -> None:
    BertConfig(vocab_size=9, hidden_size=8, num_attention_heads=2).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is a bert, not a RoBERTa"):
        Roberta.from_pretrained(tmp_path)
    folder = hub_folder(tmp_path / "good", small())
    network = small().config.network()
    network.num_hidden_layers = 3
    network.save_pretrained(folder)
    with pytest.raises(ValueError, match=r"lacks .* weights of its config"):
        Roberta.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(OSError, match="safetensors"):
        Roberta.from_pretrained(folder)


def test_a_bad_tokenizer_is_named() -> None:
    config, assets = Roberta.small()
    with pytest.raises(ValueError, match="needs the asset"):
        Roberta(config)
    with pytest.raises(ValueError, match="no tokenizer"):
        Roberta(config, {TOKENIZER: b"{}"})
    with pytest.raises(ValueError, match="more than the vocabulary"):
        Roberta(replace(config, vocabulary=9), assets)
    bare = Tokenizer(models.WordLevel({"a": 0}, unk_token="a")).to_str().encode()
    with pytest.raises(ValueError, match="around a text"):
        Roberta(config, {TOKENIZER: bare})


def test_tuning_reaches_every_parameter() -> None:
    encoder = small().train()
    fronts, lengths = padded_fronts([np.array([0, 5, 6, 2]), np.array([0, 7, 2])])
    features, _ = encoder(fronts, lengths)
    torch.autograd.backward((features * torch.randn(features.shape)).sum())
    # A key's bias shifts all scores of a query alike, which changes no weight.
    unmoved = {n for n, p in encoder.named_parameters() if p.grad is None or not p.grad.any()}
    assert all(name.endswith("key.bias") for name in unmoved)


@pytest.mark.parametrize(
    ("setting", "value"), [("heads", 5), ("positions", 20), ("dropout", 1.0), ("tokens", 0)]
)
def test_a_bad_setting_is_named(setting: str, value: float) -> None:
    config, _ = Roberta.small()
    with pytest.raises(ValueError, match=setting):
        replace(config, **{setting: value})  # type: ignore[arg-type]
