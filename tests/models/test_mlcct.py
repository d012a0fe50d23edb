"""MLCCT: shapes of the paper, maps, masks, absent streams, both modes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from streams import random_inputs, rows, without
from torch import Tensor

from emotrace_models.fusion.base import Inputs, Sequences
from emotrace_models.fusion.mlcct import MLCCT, MLCCTConfig
from emotrace_models.layers.cross_modal import Attention, FeatureAttention
from emotrace_models.layers.masking import masked_softmax
from emotrace_models.types import Modality

SMALL = MLCCT.small_config(3)
VARIANTS: dict[str, dict[str, Any]] = {
    "corr_res": {},
    "corr": {"circulant": "corr"},
    "literal": {"circulant": "literal"},
    "gather": {"form": "gather"},
    "sequence": {"mode": "sequence"},
    "sequence_corr": {"mode": "sequence", "circulant": "corr"},
    "sequence_literal": {"mode": "sequence", "circulant": "literal"},
    "acoustic": {"modalities": ("acoustic",)},
    "lexical": {"modalities": ("lexical",)},
}


def model(variant: str = "corr_res", **settings: Any) -> MLCCT:
    torch.manual_seed(5)
    made = MLCCT(replace(SMALL, **{**VARIANTS[variant], **settings}))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made.eval()


def inputs(made: MLCCT, batch: int = 4, steps: int = 9) -> Inputs:
    return random_inputs(made, batch, steps=steps)


@pytest.mark.parametrize("variant", VARIANTS)
def test_alone_equals_in_a_batch_and_nothing_is_read_beyond_the_lengths(variant: str) -> None:
    made = model(variant)
    given = inputs(made)
    dirty = {}
    for name, stream in given.items():
        values = torch.nn.functional.pad(stream.values, (0, 0, 0, 5))
        real = torch.arange(values.shape[2]) < stream.lengths[..., None]
        dirty[name] = Sequences(values.masked_fill(~real[..., None], math.nan), stream.lengths)
    with torch.inference_mode():
        together, padded = made(given).logits, made(dirty).logits
        torch.testing.assert_close(padded, together, atol=1e-5, rtol=1e-5)
        for i in range(4):
            alone = made(rows(given, slice(i, i + 1))).logits[0]
            torch.testing.assert_close(alone, together[i], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_absent_streams_give_finite_logits_and_gradients(variant: str) -> None:
    made = model(variant).train()
    keep = torch.ones(4, 1, len(made.streams), dtype=torch.bool)
    keep[1, 0, 0] = keep[2, 0, -1] = False
    keep[3] = False
    output = made(without(inputs(made), keep))
    assert output.logits.isfinite().all()
    assert all(tensor.isfinite().all() for tensor in output.explain.values())
    torch.autograd.backward(output.logits.square().sum())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in made.parameters())


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_gets_a_gradient(variant: str) -> None:
    made = model(variant).train()
    given = inputs(made)
    torch.autograd.backward((made(given).logits * torch.randn(4, 3)).sum())
    unmoved = [n for n, p in made.named_parameters() if p.grad is None or not p.grad.any()]
    if len(made.streams) == 1:  # of one token, attention is all there is: no score moves it
        unmoved = [n for n in unmoved if ".query." not in n and ".key." not in n]
    assert unmoved == []


@pytest.mark.parametrize("mode", ["vector", "sequence"])
def test_what_is_absent_is_read_by_nobody(mode: str) -> None:
    """Without words, the words' parameters behind the BiLSTM and the words' columns do not matter,
    and the acoustic stream reads nothing across."""
    made = model(mode=mode)
    keep = torch.ones(4, 1, 2, dtype=torch.bool)
    keep[..., 1] = False
    given = without(inputs(made), keep)
    with torch.inference_mode():
        before = made(given)
        made.low["lexical"].project.weight.mul_(-3.0)
        made.classifier.weight[:, SMALL.width :] += 1.0
        for block in made.cross["acoustic"]:
            block.attention.value.weight.mul_(2.0)
            block.attention.out.bias.add_(7.0)
        torch.testing.assert_close(made(given).logits, before.logits)
    assert not before.explain["cross_attn_a"].any()
    assert not before.explain["self_attn"][..., 1].any()


@pytest.mark.parametrize("mode", ["vector", "sequence"])
def test_both_streams_matter(mode: str) -> None:
    made = model(mode=mode)
    given = dict(inputs(made))
    with torch.inference_mode():
        before = made(given).logits
        for name, stream in given.items():
            other = {**given, name: Sequences(stream.values.flip(-1), stream.lengths)}
            assert (made(other).logits - before).abs().amax(1).min() > 1e-4


def test_explain_in_vector_mode() -> None:
    made = model(cross_blocks=3, self_blocks=1)
    explain = made(inputs(made)).explain
    head = SMALL.width // 2
    for name in ("cross_attn_a", "cross_attn_s"):
        assert explain[name].shape == (4, 3, 2, head, head)
        torch.testing.assert_close(explain[name].sum(-1), torch.ones(4, 3, 2, head))
    assert explain["self_attn"].shape == (4, 1, 2, 2, 2)
    torch.testing.assert_close(explain["self_attn"].sum(-1), torch.ones(4, 1, 2, 2))


def test_explain_in_sequence_mode_shows_pooled_steps_by_words() -> None:
    made = model("sequence")
    given = inputs(made, steps=9)
    explain = made(given).explain
    steps = -(-given["acoustic"].lengths[:, 0] // 2)
    words = given["lexical"].lengths[:, 0]
    a, s = explain["cross_attn_a"], explain["cross_attn_s"]
    assert a.shape == (4, 2, 2, int(steps.max()), int(words.max()))
    assert s.shape == (4, 2, 2, int(words.max()), int(steps.max()))
    for item in range(4):
        real = a[item, :, :, : steps[item]]
        torch.testing.assert_close(real.sum(-1), torch.ones(real.shape[:-1]))
        assert not real[..., words[item] :].any()
        assert not a[item, :, :, steps[item] :].any()
        assert not s[item, :, :, :, steps[item] :].any()
    assert explain["self_attn"].shape == (4, 2, 2, 2, 2)


@pytest.mark.parametrize("mode", ["vector", "sequence"])
def test_fft_and_gather_are_one_model(mode: str) -> None:
    fft, gather = model(mode=mode), model(mode=mode, form="gather")
    gather.load_state_dict(fft.state_dict())
    given = inputs(fft)
    torch.testing.assert_close(gather(given).logits, fft(given).logits, atol=1e-5, rtol=1e-5)


def test_audio_is_cut_then_pooled() -> None:
    """Means of `audio_pool` steps, the last of what is left, of the first `audio_steps`."""
    made = model(audio_pool=4, audio_steps=10)
    values = torch.randn(1, 1, 13, 16)
    words = Sequences(torch.randn(1, 1, 3, 12), torch.tensor([[3]]))
    pooled = torch.stack([values[0, 0, i : min(i + 4, 10)].mean(0) for i in (0, 4, 8)])
    plain = model(audio_pool=1)
    plain.load_state_dict(made.state_dict())
    found = made({"acoustic": Sequences(values, torch.tensor([[13]])), "lexical": words})
    few = Sequences(pooled[None, None], torch.tensor([[3]]))
    expected = plain({"acoustic": few, "lexical": words})
    torch.testing.assert_close(found.logits, expected.logits, atol=1e-6, rtol=1e-6)


def test_feature_attention_is_equation_10_head_by_head() -> None:
    """softmax over rows of Q K^T / sqrt(d_h), of [d_h, 1] columns, times V, then W_O."""
    torch.manual_seed(0)
    layer = FeatureAttention(8, 2)
    x, source = torch.randn(1, 8), torch.randn(1, 8)
    read, maps = layer(x, source)
    q, k, v = layer.query(x)[0], layer.key(source)[0], layer.value(source)[0]
    parts = []
    for head in range(2):
        own = slice(4 * head, 4 * head + 4)
        weights = (q[own, None] @ k[own, None].T / 2.0).softmax(-1)
        torch.testing.assert_close(maps[0, head], weights)
        parts.append(weights @ v[own])
    torch.testing.assert_close(read[0], layer.out(torch.cat(parts)))


def test_attention_equals_pytorchs() -> None:
    torch.manual_seed(0)
    layer = Attention(8, 2)
    reference = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    with torch.no_grad():
        parts = (layer.query, layer.key, layer.value)
        reference.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        reference.in_proj_bias.zero_()
        reference.out_proj.load_state_dict(layer.out.state_dict())
    x, source = torch.randn(3, 4, 8), torch.randn(3, 6, 8)
    mask = torch.arange(6) < torch.tensor([6, 1, 4])[:, None]
    expected, maps = reference(
        x, source, source, key_padding_mask=~mask, average_attn_weights=False
    )
    found, weights = layer(x, source, mask)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(weights, maps)


def test_a_softmax_over_nothing_is_zero_and_has_a_gradient() -> None:
    scores = torch.randn(2, 3, requires_grad=True)
    mask = torch.tensor([[True, True, False], [False, False, False]])
    weights = masked_softmax(scores, mask)
    torch.testing.assert_close(weights.sum(1), torch.tensor([1.0, 0.0]))
    torch.autograd.backward(weights.square().sum())
    assert scores.grad is not None
    assert scores.grad.isfinite().all()


def test_12_7_corr_has_one_vectors_information_and_corr_res_two() -> None:
    """What models.md warns of: in `corr` the second stream follows from the first."""

    def streams(variant: str) -> tuple[Tensor, Tensor]:
        made = model(variant)
        torch.manual_seed(1)
        p, q = torch.randn(5, SMALL.width), torch.randn(5, SMALL.width)
        return made.interaction(p, q, p, q)

    back = (-torch.arange(SMALL.width)) % SMALL.width
    a, s = streams("corr")
    torch.testing.assert_close(s, a[:, back])
    a, s = streams("corr_res")
    assert (s - a[:, back]).abs().max() > 0.1


def test_parameters_of_the_default_sizes() -> None:
    def lstm(inputs: int) -> int:
        return 2 * 4 * 128 * (inputs + 1 + 128)

    d = 256
    attention = 3 * d * d + d * d + d
    block = attention + 2 * 2 * d + 4 * d * d + 4 * d + 4 * d * d + d
    low = lstm(768) + lstm(1_024) + 2 * d * d
    heads = 2 * d + 2 * d * 4 + 4
    with torch.device("meta"):
        vector = MLCCT(MLCCTConfig(classes=4))
        sequence = MLCCT(MLCCTConfig(classes=4, mode="sequence"))
        corr = MLCCT(MLCCTConfig(classes=4, circulant="corr"))

    def count(made: MLCCT) -> int:
        return sum(p.numel() for p in made.parameters())

    assert count(vector) == low + 4 * d + 6 * block + heads
    assert count(corr) == count(vector) - 4 * d
    assert count(sequence) == count(vector) + 4 * 2 * d + 2 * 2 * d  # norms of sources, final norms


def test_dropout_is_for_training_only() -> None:
    made = model()
    given = inputs(made)
    assert torch.equal(made(given).logits, made(given).logits)
    made.train()
    assert not torch.equal(made(given).logits, made(given).logits)


def test_a_config_comes_back_from_json() -> None:
    config = MLCCTConfig(classes=4, modalities=("acoustic",))  # type: ignore[arg-type]
    assert config.modalities == (Modality.ACOUSTIC,)
    assert tuple(MLCCT(replace(config, acoustic=4, width=8, hidden=2)).streams) == ("acoustic",)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("classes", 0),
        ("cross_heads", 3),
        ("self_heads", 3),
        ("circulant", "convolution"),
        ("form", "matrix"),
        ("mode", "tokens"),
        ("dropout", 1.0),
        ("modalities", ()),
        ("modalities", ("facial",)),
        ("modalities", ("acoustic", "acoustic")),
        ("audio_pool", 0),
    ],
)
def test_a_bad_setting_is_named(setting: str, value: Any) -> None:
    with pytest.raises(ValueError, match=setting):
        replace(SMALL, **{setting: value})
