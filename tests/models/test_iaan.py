"""IAAN against its equations, written out a frame at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from streams import BOTH, random_inputs, without
from torch import Tensor, nn

from emotrace_models import registry
from emotrace_models.fusion import Inputs, Sequences
from emotrace_models.fusion.iaan import IAAN, GRUReader, IAANConfig, XLSTMReader
from emotrace_models.types import Modality, UtteranceFeatures

SMALL: dict[str, Any] = {
    "modalities": BOTH[:1],
    "classes": 4,
    "embedding": 6,
    "width": 8,
    "attention": 5,
    "hidden": 7,
    "blocks": 2,
    "heads": 2,
}
POOLED: dict[str, Any] = {"modalities": BOTH, "step_source": "pooled", "steps": 3}
XLSTM: dict[str, Any] = {"cell": "mlstm", "slstm_at": [1], "missing": "mask"}
KINDS = [
    pytest.param({}, id="frames"),
    pytest.param({"missing": "mask"}, id="frames-mask"),
    pytest.param({"modalities": BOTH}, id="frames-of-both"),
    pytest.param({"cell": "mlstm"}, id="frames-mlstm"),
    pytest.param(POOLED, id="pooled"),
    pytest.param(
        {**POOLED, "cell": "mlstm", "slstm_at": [1], "missing": "mask"}, id="pooled-xlstm"
    ),
]


def built(**settings: Any) -> IAAN:
    torch.manual_seed(2)
    model = IAAN(registry.configured("fusion", "iaan", {**SMALL, **settings}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


def outputs_by_hand(reader: nn.Module, frames: list[Tensor]) -> list[Tensor]:
    """o_t of each frame: the GRU's equations, or the stack a step at a time."""
    found = []
    if isinstance(reader, XLSTMReader):
        state = reader.xlstm.start(1)
        for frame in frames:
            y, state = reader.xlstm.step(reader.input_proj(frame)[None], state)
            found.append(y[0])
        return found
    assert isinstance(reader, GRUReader)
    weights = dict(reader.gru.named_parameters())
    h = torch.zeros(reader.gru.hidden_size)
    for frame in frames:
        of_x = (weights["weight_ih_l0"] @ frame + weights["bias_ih_l0"]).chunk(3)
        of_h = (weights["weight_hh_l0"] @ h + weights["bias_hh_l0"]).chunk(3)
        reset, update = (of_x[0] + of_h[0]).sigmoid(), (of_x[1] + of_h[1]).sigmoid()
        h = (1 - update) * (of_x[2] + reset * of_h[2]).tanh() + update * h
        found.append(h)
    return found


def frames_of(model: IAAN, inputs: Inputs, sample: int, entry: int) -> list[Tensor]:
    """What the encoder of an entry reads, from models.md section 2.9; [] for nothing at all."""
    config = model.config
    streams = [inputs[name] for name in model.streams]
    lengths = [int(stream.lengths[sample, entry]) for stream in streams]
    if config.step_source == "pooled":
        piece = config.embedding // config.steps
        count = config.steps
        parts = [
            (s.values[sample, entry, 0] if n else torch.zeros(config.embedding)).view(-1, piece)
            for s, n in zip(streams, lengths, strict=True)
        ]
    else:
        count = max(1, *lengths) if len(lengths) > 1 else max(1, lengths[0])
        parts = []
        for stream, length in zip(streams, lengths, strict=True):
            rows = torch.zeros(count, config.embedding)
            rows[:length] = stream.values[sample, entry, :length]
            parts.append(rows)
    if config.missing == "mask" and not any(lengths):
        return []
    return [torch.cat([part[t] for part in parts]) for t in range(count)]


def by_hand(model: IAAN, inputs: Inputs, sample: int) -> tuple[Tensor, list[Tensor]]:
    """Logits, and the attention of each entry's frames."""
    encoded: dict[str, Tensor] = {}
    weights: dict[str, Tensor] = {}
    for entry, place in ((1, "previous"), (2, "reply"), (0, "current")):
        found = outputs_by_hand(model.readers[place], frames_of(model, inputs, sample, entry))
        attention = model.attentions[place]
        if not found:
            encoded[place], weights[place] = torch.zeros(model.config.width), torch.zeros(0)
            continue
        scores = []
        for o in found:
            inner = attention.key.weight @ o + attention.key.bias
            if place == "current":
                inner = inner + model.previous.weight @ encoded["previous"]
                inner = inner + model.reply.weight @ encoded["reply"]
            scores.append(attention.score.weight[0] @ inner.tanh())
        weights[place] = torch.stack(scores).softmax(0)
        encoded[place] = sum(
            (w * o for w, o in zip(weights[place], found, strict=True)),
            start=torch.zeros(model.config.width),
        )
    places = ("current", "previous", "reply")
    logits = model.head(torch.cat([encoded[place] for place in places]))
    return logits, [weights[place] for place in places]


@pytest.mark.parametrize("settings", KINDS)
def test_equals_the_equations_a_frame_at_a_time(settings: dict[str, Any]) -> None:
    model = built(**settings)
    full = random_inputs(model, 4, steps=9)
    keep = torch.rand(4, 3, len(full), generator=torch.Generator().manual_seed(1)) < 0.5
    keep[0] = False
    with torch.inference_mode():
        for inputs in (full, without(full, keep)):
            output = model(inputs)
            for sample in range(4):
                logits, weights = by_hand(model, inputs, sample)
                torch.testing.assert_close(output.logits[sample], logits, rtol=1e-4, atol=1e-4)
                for entry, expected in enumerate(weights):
                    found = output.explain["attention"][sample, entry]
                    torch.testing.assert_close(
                        found[: len(expected)], expected, rtol=1e-4, atol=1e-5
                    )
                    assert not found[len(expected) :].any()
        assert torch.equal(output.explain["slot_valid"], keep.flatten(1))


def test_attention_sums_to_one_over_real_frames() -> None:
    model = built(missing="mask")
    inputs = random_inputs(model, 4, steps=9)
    lengths = inputs["acoustic"].lengths.clone()
    lengths[1, 2] = 0
    with torch.inference_mode():
        given = {"acoustic": Sequences(inputs["acoustic"].values, lengths)}
        weights = model(given).explain["attention"]
    sums = weights.sum(-1)
    assert sums[1, 2] == 0
    torch.testing.assert_close(sums[lengths > 0], torch.ones(11))


def test_each_speakers_previous_utterance_has_its_own_encoder() -> None:
    """Exchanging the speaker's and the interlocutor's utterances changes the result."""
    model = built()
    inputs = random_inputs(model, 2, steps=5)
    swapped = {
        name: Sequences(s.values[:, [0, 2, 1]], s.lengths[:, [0, 2, 1]])
        for name, s in inputs.items()
    }
    with torch.inference_mode():
        assert (model(inputs).logits - model(swapped).logits).abs().max() > 1e-3


@pytest.mark.parametrize("settings", [{}, POOLED], ids=["frames", "pooled"])
def test_what_comes_in_is_standardised_by_what_was_fitted(settings: dict[str, Any]) -> None:
    """Only what is there: an absent utterance stays one of zeros."""
    plain = IAAN(IAANConfig(**{**SMALL, **settings})).eval()
    model = IAAN(IAANConfig(**{**SMALL, **settings, "standardise": True})).eval()
    model.load_state_dict(plain.state_dict(), strict=False)
    inputs = random_inputs(model, 3)
    keep = torch.ones(3, 3, len(inputs), dtype=torch.bool)
    keep[1, 2] = False
    moved = {}
    for name, stream in inputs.items():
        mean, spread = torch.randn(6), torch.rand(6) + 0.5
        model.standardise[name].fit(mean, spread)
        moved[name] = Sequences((stream.values - mean) / spread, stream.lengths)
    with torch.inference_mode():
        found = model(without(inputs, keep)).logits
        torch.testing.assert_close(found, plain(without(moved, keep)).logits)
        assert not torch.allclose(found, plain(without(inputs, keep)).logits)


def test_the_context_is_the_triple() -> None:
    window = built().start_window()
    for index, speaker in enumerate("ABAAB" + "A" * 8):
        vector = np.full((1, 6), index, np.float32)
        window = window.push(UtteranceFeatures(index, speaker, {"acoustic": vector}))
    entries = window.context().entries
    # The last B spoke eight turns before: just within reach.
    assert [e.features.index for e in entries if e.features] == [12, 11, 4]
    further = window.push(UtteranceFeatures(13, "A", {"acoustic": vector})).context().entries
    assert further[2].features is None


def test_sizes_are_those_of_the_paper() -> None:
    """Three GRUs of 512 over 45 features, attention 16, a head of 1536, 64 and C."""
    with torch.device("meta"):
        model = IAAN(IAANConfig((Modality.ACOUSTIC,), 4, embedding=45))
    gru = 3 * 512 * (45 + 512 + 2)
    attention = 512 * 16 + 16 + 16
    head = 1536 * 64 + 64 + 2 * 64 + 64 * 4 + 4
    expected = 3 * (gru + attention) + 2 * 512 * 16 + head
    assert sum(p.numel() for p in model.parameters()) == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"modalities": []}, "modalities"),
        ({"attention": 0}, "attention must be at least 1"),
        ({"cell": "lstm"}, "cell must be one of gru, mlstm"),
        ({"step_source": "tokens"}, "step_source must be one of frames, pooled"),
        ({"missing": "guess"}, "missing must be one of zeros, mask"),
        ({"step_source": "pooled", "steps": 5}, "steps 5 does not divide embedding 6"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(registry.BadConfig, match=message):
        registry.configured("fusion", "iaan", {**SMALL, **settings})
