"""GBAN against its equations, read slowly, and the invariants of models.md 12.6 and 12.9."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from slow_gban import slow_bilstm, slow_gate, slow_logits, slow_speech, slow_text
from streams import random_inputs, rows
from torch import Tensor
from torch.nn import functional as F

from emotrace_models.fusion import Inputs, Sequences
from emotrace_models.fusion.gban import GBAN, GBANConfig
from emotrace_models.layers.group_gate import padded_outer

FORMS: dict[str, dict[str, Any]] = {
    "ggf": {},
    "ggf additive": {"score": "additive"},
    "ggf scaled": {"score": "scaled_dot"},
    "ggf position": {"last": "position"},
    "ggf causal": {"bidirectional": False},
    "ggf published padding": {"mask_padding": False, "padded_frames": 40, "padded_words": 12},
    "concat1": {"fusion": "concat1"},
    "concat1 last": {"fusion": "concat1", "fusion_inputs": "last"},
    "concat2": {"fusion": "concat2"},
    "tfl": {"fusion": "tfl"},
    "gmu": {"fusion": "gmu"},
    "gmu last": {"fusion": "gmu", "fusion_inputs": "last"},
    "att_lstm": {"fusion": "att_lstm"},
    "h_s": {"fusion": "single", "single": "h_s"},
    "h_t": {"fusion": "single", "single": "h_t"},
    "a_s": {"fusion": "single", "single": "a_s"},
    "a_t": {"fusion": "single", "single": "a_t"},
}
ALIGNED = [name for name, settings in FORMS.items() if GBANConfig(4, **settings).aligned]


def small(settings: dict[str, Any], seed: int = 7) -> GBAN:
    torch.manual_seed(seed)
    base = {"acoustic": 6, "lexical": 5, "filters": (4, 5), "text_filters": 3, "hidden": 4}
    model = GBAN(GBANConfig(3, width=8, **{**base, **settings}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def speech_and_words(batch: int = 4, frames: int = 36, words: int = 9) -> Inputs:
    """Items of different lengths; the first is as long as can be."""
    generator = torch.Generator().manual_seed(1)

    def stream(width: int, lengths: list[int]) -> Sequences:
        counts = torch.tensor(lengths)[:, None]
        values = torch.randn(batch, 1, lengths[0], width, generator=generator)
        real = torch.arange(lengths[0]) < counts[..., None]
        return Sequences(values.masked_fill(~real[..., None], 0.0), counts)

    return {
        "acoustic": stream(6, [frames, frames - 7, 17, 13][:batch]),
        "lexical": stream(5, [words, 2, words - 1, 4][:batch]),
    }


def item(inputs: Inputs, i: int) -> dict[str, Tensor]:
    return {n: s.values[i, 0, : int(s.lengths[i, 0])] for n, s in inputs.items()}


@pytest.mark.parametrize("form", [name for name in FORMS if name != "ggf published padding"])
def test_logits_are_those_of_the_equations(form: str) -> None:
    model, inputs = small(FORMS[form]), speech_and_words()
    with torch.inference_mode():
        logits = model(inputs).logits
        for i in range(len(logits)):
            expected = slow_logits(model, item(inputs, i))
            torch.testing.assert_close(logits[i], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_12_6_padded_equals_unpadded(form: str) -> None:
    model, inputs = small(FORMS[form]), speech_and_words()
    longer = {}
    for name, stream in inputs.items():
        values = F.pad(stream.values, (0, 0, 0, 30))
        mask = torch.arange(values.shape[2]) < stream.lengths[..., None]
        longer[name] = Sequences(values.masked_fill(~mask[..., None], torch.nan), stream.lengths)
    with torch.inference_mode():
        together = model(inputs).logits
        torch.testing.assert_close(model(longer).logits, together, rtol=1e-5, atol=1e-6)
        for i in range(len(together)):
            alone = {
                n: Sequences(values[None, None], torch.tensor([[len(values)]]))
                for n, values in item(inputs, i).items()
            }
            torch.testing.assert_close(model(alone).logits[0], together[i], rtol=1e-5, atol=1e-6)


def test_12_6_k_is_44_for_750_frames() -> None:
    reader = GBAN(GBANConfig(4)).readers["acoustic"]
    steps = [tuple(x.shape) for x in _layers(reader, torch.zeros(1, 750, 52))]
    assert [shape[-1] for shape in steps] == [373, 185, 91, 44]
    assert reader.convolutions.stride == 16
    assert reader.convolutions.reach == 61
    counts = reader.convolutions(torch.zeros(4, 750, 52), torch.tensor([750, 61, 76, 77]))[1]
    assert counts.tolist() == [44, 1, 1, 2]


def _layers(reader: Any, x: Tensor) -> list[Tensor]:
    found = []
    x = x.transpose(1, 2)
    for conv in reader.convolutions.convolutions:
        x = F.max_pool1d(F.relu(conv(x)), 2)
        found.append(x)
    return found


def test_a_step_is_of_61_frames_and_of_no_other() -> None:
    torch.manual_seed(0)
    reader = GBAN(GBANConfig(4)).readers["acoustic"]
    x = torch.randn(1, 200, 52, requires_grad=True)
    steps, _ = reader.convolutions(x, torch.tensor([200]))
    steps[0, 5].abs().sum().backward()
    assert x.grad is not None
    touched = x.grad[0].abs().sum(1).nonzero()[:, 0]
    assert touched.min() >= 80
    assert touched.max() <= 140
    assert touched.max() - touched.min() > 40


@pytest.mark.parametrize("form", ALIGNED)
def test_12_6_attention_rows_sum_to_1_over_valid_steps(form: str) -> None:
    model, inputs = small(FORMS[form]), speech_and_words()
    with torch.inference_mode():
        explain = model(inputs).explain
    speech, words = inputs["acoustic"].lengths[:, 0], inputs["lexical"].lengths[:, 0]
    if not model.config.mask_padding:
        speech, words = torch.full((4,), 40), torch.full((4,), 12)
    k, length = ((speech - 3) // 2 - 3) // 2, words // 2
    for i in range(4):
        alpha, beta = explain["align_s2t"][i], explain["align_t2s"][i]
        torch.testing.assert_close(alpha[: length[i]].sum(1), torch.ones(int(length[i])))
        torch.testing.assert_close(beta[: k[i]].sum(1), torch.ones(int(k[i])))
        assert not alpha[length[i] :].any()
        assert not alpha[:, k[i] :].any()
        assert not beta[k[i] :].any()
        assert not beta[:, length[i] :].any()


def test_12_6_tanh_dot_weights_are_within_a_ratio_of_e_squared() -> None:
    loud = speech_and_words()
    loud = {n: Sequences(50 * s.values, s.lengths) for n, s in loud.items()}
    model = small({"score": "tanh_dot"})
    with torch.no_grad():
        for parameter in model.readers.parameters():
            parameter.mul_(5)
        alpha = model(loud).explain["align_s2t"][0]
    ratio = float((alpha.amax(1) / alpha.amin(1)).max())
    assert 3 < ratio <= math.e**2 + 1e-4


def test_12_6_gates_lie_between_0_and_1() -> None:
    model, inputs = small({}), speech_and_words()
    with torch.inference_mode():
        explain = model(inputs).explain
        x, readers = item(inputs, 2), model.readers
        _, h_s = slow_bilstm(
            readers["acoustic"].lstm.lstm, slow_speech(readers["acoustic"], x["acoustic"]), "final"
        )
        _, h_t = slow_bilstm(
            readers["lexical"].lstm.lstm, slow_text(readers["lexical"], x["lexical"]), "final"
        )
        _, z_q = slow_gate(model.gates["last"], h_s, h_t)
    for name in ("z_p", "z_q"):
        assert explain[name].shape == (4, 8)
        assert (explain[name] > 0).all()
        assert (explain[name] < 1).all()
    torch.testing.assert_close(explain["z_q"][2], z_q)
    weights = explain["modality_weights"]
    torch.testing.assert_close(weights[:, 0, 0], explain["z_p"].mean(1))
    torch.testing.assert_close(weights[:, 1, 0], explain["z_q"].mean(1))
    torch.testing.assert_close(weights.sum(-1), torch.ones(4, 2))


def test_12_6_parameter_count() -> None:
    def count(module: torch.nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    model = GBAN(GBANConfig(4))
    assert count(model.readers["acoustic"]) == 178_784
    assert count(model.readers["lexical"]) == 871_296
    assert count(model.gates) == 262_144
    assert count(model.head) == 17_028
    assert count(model) == 1_329_252


def test_12_9_tfl_pads_by_1() -> None:
    first, second = torch.randn(2, 3), torch.randn(2, 4)
    table = padded_outer(first, second).view(2, 4, 5)
    torch.testing.assert_close(table[:, :3, 4], first)
    torch.testing.assert_close(table[:, 3, :4], second)
    torch.testing.assert_close(table[:, 3, 4], torch.ones(2))
    torch.testing.assert_close(table[:, :3, :4], torch.einsum("bi,bj->bij", first, second))
    released = padded_outer(first, second, 0.0).view(2, 4, 5)
    assert not released[:, 3].any()
    assert not released[:, :, 4].any()
    assert GBANConfig(4).tfl_pad == 1
    with torch.device("meta"):
        assert GBAN(GBANConfig(4, fusion="tfl")).head[0].in_features == 66_049


def test_published_padding_is_zeros_that_count() -> None:
    """Speech padded at the end and text at the front, both as data."""
    published = small(FORMS["ggf published padding"])
    masked = small({})
    masked.load_state_dict(published.state_dict())
    inputs = speech_and_words()
    for i in range(4):
        x = item(inputs, i)
        speech = F.pad(x["acoustic"], (0, 0, 0, 40 - len(x["acoustic"])))
        text = F.pad(x["lexical"], (0, 0, 12 - len(x["lexical"]), 0))
        padded = {
            "acoustic": Sequences(speech[None, None], torch.tensor([[40]])),
            "lexical": Sequences(text[None, None], torch.tensor([[12]])),
        }
        with torch.inference_mode():
            expected = masked(padded).logits[0]
            torch.testing.assert_close(published(inputs).logits[i], expected, atol=1e-6, rtol=1e-5)
            assert not torch.allclose(masked(inputs).logits[i], expected, atol=1e-3)


def test_published_padding_cuts_what_is_longer() -> None:
    model = small({"mask_padding": False, "padded_frames": 30, "padded_words": 6})
    inputs = speech_and_words()
    cut = {
        n: Sequences(s.values[:, :, :size], s.lengths.clamp_max(size))
        for (n, s), size in zip(inputs.items(), (30, 6), strict=True)
    }
    with torch.inference_mode():
        torch.testing.assert_close(model(inputs).logits, model(cut).logits)


@pytest.mark.parametrize("form", FORMS)
def test_any_stream_may_be_absent(form: str) -> None:
    model, inputs = small(FORMS[form]), speech_and_words()
    for gone in model.streams:
        less = dict(inputs)
        less[gone] = Sequences(
            torch.full_like(inputs[gone].values, torch.nan), 0 * inputs[gone].lengths
        )
        with torch.inference_mode():
            output = model(less)
        assert output.logits.isfinite().all()
        for name in ("align_s2t", "align_t2s"):
            assert not output.explain.get(name, torch.zeros(1)).any()
        if "salient_frames" in output.explain:
            assert (output.explain["salient_frames"] == -1).all()


def test_words_still_count_where_there_is_no_sound() -> None:
    """Of an absent stream there is one step of zeros: the other is then averaged."""
    model, inputs = small({"fusion": "single", "single": "a_t"}), speech_and_words()
    silent = dict(inputs)
    silent["acoustic"] = Sequences(inputs["acoustic"].values, 0 * inputs["acoustic"].lengths)
    x = item(inputs, 0)
    with torch.inference_mode():
        reader = model.readers["lexical"]
        steps, _ = slow_bilstm(reader.lstm.lstm, slow_text(reader, x["lexical"]), "final")
        expected = model.head(torch.stack(steps).mean(0))
        torch.testing.assert_close(model(silent).logits[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_every_parameter_gets_a_gradient(form: str) -> None:
    model, inputs = small(FORMS[form]).train(), speech_and_words()
    torch.manual_seed(0)
    model(inputs).logits.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


def test_dropout_is_for_training_only() -> None:
    model, inputs = small({"dropout": 0.0}), speech_and_words()
    with torch.no_grad():
        torch.testing.assert_close(model(inputs).logits, model(inputs).logits)
        model.train()
        assert not torch.allclose(model(inputs).logits, model(inputs).logits)
    plain = small({"dropout": 0.0, "fusion_dropout": 0.0}).train()
    with torch.no_grad():
        torch.testing.assert_close(plain(inputs).logits, plain(inputs).logits)


def test_standardisation_is_of_real_frames_only() -> None:
    model, inputs = small({}), speech_and_words()
    mean, spread = torch.randn(6), torch.rand(6) + 0.5
    model.standardise["acoustic"].fit(mean, spread)
    raw = small({"standardise": False})
    assert not raw.standardise
    raw.load_state_dict(model.state_dict(), strict=False)
    speech = inputs["acoustic"]
    done = ((speech.values - mean) / spread).masked_fill(~speech.mask()[..., None], 0.0)
    with torch.inference_mode():
        torch.testing.assert_close(
            model(inputs).logits,
            raw({**inputs, "acoustic": Sequences(done, speech.lengths)}).logits,
        )


def test_salient_frames_are_those_of_the_heaviest_step() -> None:
    torch.manual_seed(0)
    model = GBAN(GBANConfig(2, lexical=5, hidden=4, width=4)).eval()
    inputs = random_inputs(model, 3, steps=200)
    with torch.inference_mode():
        explain = model(inputs).explain
    for i, (alpha, frames) in enumerate(
        zip(explain["align_s2t"], explain["salient_frames"], strict=True)
    ):
        count = max(1, int(inputs["lexical"].lengths[i, 0]) // 2)
        best = alpha[:count].argmax(1)
        torch.testing.assert_close(frames[:count, 0], 16 * best)
        torch.testing.assert_close(frames[:count, 1], 16 * best + 60)
        assert (frames[count:] == -1).all()
        frame_count = max(61, int(inputs["acoustic"].lengths[i, 0]))
        assert frames.max() < frame_count


def test_additive_scores_do_not_depend_on_the_pieces() -> None:
    model = small({"score": "additive"})
    inputs = speech_and_words(words=90)
    with torch.inference_mode():
        expected = slow_logits(model, item(inputs, 0))
        torch.testing.assert_close(model(inputs).logits[0], expected, rtol=1e-4, atol=1e-5)


def test_a_single_last_state_reads_its_own_stream_alone() -> None:
    assert list(small(FORMS["h_s"]).streams) == ["acoustic"]
    assert list(small(FORMS["h_t"]).streams) == ["lexical"]
    assert list(small(FORMS["a_s"]).streams) == ["acoustic", "lexical"]
    assert not small(FORMS["h_t"]).standardise
    inputs = speech_and_words()
    with torch.inference_mode():
        output = small(FORMS["h_t"])({"lexical": inputs["lexical"]})
        first = small(FORMS["h_t"])(rows(inputs, slice(0, 1)))
    torch.testing.assert_close(output.logits[:1], first.logits)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"classes": 0}, "classes"),
        ({"hidden": 0}, "hidden"),
        ({"filters": ()}, "filters"),
        ({"text_kernels": [2, 0]}, "text_kernels"),
        ({"dropout": 1.0}, "dropout"),
        ({"fusion_dropout": -0.1}, "fusion_dropout"),
        ({"score": "dot"}, "score"),
        ({"last": "first"}, "last"),
        ({"fusion": "sum"}, "fusion"),
        ({"single": "h"}, "single"),
        ({"fusion_inputs": "both"}, "fusion_inputs"),
        ({"padded_frames": 0}, "padded_frames"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        GBANConfig(**{"classes": 4, **settings})
