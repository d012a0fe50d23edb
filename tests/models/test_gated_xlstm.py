"""GatedxLSTM against its equations, a slot at a time, and each option (models.md section 2)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from streams import from_slots
from torch import Tensor, nn

from emotrace_models import registry
from emotrace_models.context import ContextWindow
from emotrace_models.fusion import GatedxLSTM, GatedxLSTMConfig, Sequences
from emotrace_models.layers import XLSTMStack
from emotrace_models.types import Modality, Role, UtteranceFeatures

BOTH = (Modality.ACOUSTIC, Modality.LEXICAL)
EMBEDDING, CLASSES, BATCH = 32, 4, 3
SMALL: dict[str, Any] = {
    "modalities": BOTH,
    "classes": CLASSES,
    "embedding": EMBEDDING,
    "steps": 4,
    "width": 16,
    "blocks": 2,
    "heads": 2,
}


def built(**settings: Any) -> GatedxLSTM:
    torch.manual_seed(11)
    model = GatedxLSTM(GatedxLSTMConfig(**{**SMALL, **settings}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def encoders_of(model: GatedxLSTM) -> list[tuple[nn.Linear, XLSTMStack]]:
    """Each encoder by itself, from the model's state dict, whose names are theirs."""
    config, state = model.config, model.state_dict()
    encoders = []
    for number in range(config.encoders):
        proj = nn.Linear(config.step_width, config.width)
        stack = XLSTMStack(
            config.width, config.blocks, config.heads, config.slstm_at, config.kernel
        )
        for name, part in (("input_proj", proj), ("xlstm", stack)):
            prefix = f"encoders.{number}.{name}."
            own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            part.load_state_dict(own)
        encoders.append((proj, stack.eval()))
    return encoders


def contexts(slots: int = 12) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(12)
    vectors = torch.nn.functional.normalize(
        torch.randn(BATCH, slots, EMBEDDING, generator=generator), dim=-1
    )
    return vectors, torch.ones(BATCH, slots, dtype=torch.bool)


def encoder_of(share: str, role: int, modality: int, slot: int, modalities: int) -> int:
    """Which encoder reads a slot, by what the slot means."""
    return {"none": slot, "role_modality": role * modalities + modality, "modality": modality}[
        share
    ]


@pytest.mark.parametrize("share", ["none", "role_modality", "modality"])
@pytest.mark.parametrize("modalities", [BOTH[:1], BOTH, tuple(Modality)])
def test_forward_equals_the_equations_a_slot_at_a_time(
    share: str, modalities: tuple[Modality, ...]
) -> None:
    count = len(modalities)
    model = built(share=share, modalities=modalities)
    encoders = encoders_of(model)
    vectors, valid = contexts(6 * count)
    with torch.inference_mode():
        output = model(from_slots(vectors, valid, modalities))
        for sample in range(BATCH):
            gate = model.gate(vectors[sample, 0]).sigmoid()
            pieces, slot = [], 0
            for _ in range(3):
                for role in range(2):
                    for modality in range(count):
                        proj, stack = encoders[encoder_of(share, role, modality, slot, count)]
                        steps = vectors[sample, slot].view(1, 4, EMBEDDING // 4)
                        hidden = stack(proj(steps))[0, -1]
                        pieces.append(hidden if slot == 0 else gate[slot - 1] * hidden)
                        slot += 1
            expected = model.classifier(torch.cat(pieces))
            torch.testing.assert_close(output.logits[sample], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("share", "encoders", "parameters"),
    [("none", 12, 155_511_055), ("role_modality", 4, 51_857_167), ("modality", 2, 25_943_695)],
)
def test_12_1_parameter_counts(share: str, encoders: int, parameters: int) -> None:
    """Twelve stacks as published, and what sharing leaves: stacks of 12,956,736 and 30,223."""
    with torch.device("meta"):
        model = GatedxLSTM(GatedxLSTMConfig(BOTH, 4, share=share))  # type: ignore[arg-type]
    assert len(model.encoders) == encoders
    assert sum(p.numel() for p in model.encoders.parameters()) == encoders * 12_956_736
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert parameters == encoders * 12_956_736 + 30_223


def token_contexts(lengths: Tensor, longest: int) -> dict[str, Sequences]:
    """Sequences of both modalities; what lies beyond the lengths [batch, 6] is NaN."""
    generator = torch.Generator().manual_seed(13)
    values = torch.randn(2, *lengths.shape, longest, 5, generator=generator)
    beyond = torch.arange(longest) >= lengths[..., None]
    values = values.masked_fill(beyond[..., None], torch.nan)
    return {m.value: Sequences(values[n], lengths) for n, m in enumerate(BOTH)}


@pytest.mark.parametrize("slstm_at", [(), (0,), (1,)])
@pytest.mark.parametrize("missing", ["zeros", "mask"])
def test_token_steps_end_at_their_own_length(missing: str, slstm_at: tuple[int, ...]) -> None:
    """Sequences of real steps, some shorter than `steps`, one slot empty (models.md, 2.1)."""
    model = built(
        step_source="tokens", embedding=5, steps=6, share="none", missing=missing, slstm_at=slstm_at
    )
    lengths = torch.tensor([[6, 2, 1, 6, 0, 3], [4, 6, 6, 6, 5, 0]])
    inputs = token_contexts(lengths, 6)
    longer = token_contexts(lengths, 9)
    with torch.inference_mode():
        output = model(inputs)
        for sample in range(2):
            sound = inputs["acoustic"].values[sample, 0, : lengths[sample, 0]]
            gate = torch.cat([torch.ones(1), model.gate(sound.mean(0)).sigmoid()])
            pieces = []
            for slot, (proj, stack) in enumerate(encoders_of(model)):
                entry, modality = divmod(slot, 2)
                length = int(lengths[sample, entry])
                steps = inputs[BOTH[modality].value].values[sample, entry, :length]
                if length == 0:
                    steps = torch.zeros(6, 5)
                hidden = stack(proj(steps)[None])[0, -1]
                empty = length == 0 and missing == "mask"
                pieces.append(0.0 * hidden if empty else gate[slot] * hidden)
            expected = model.classifier(torch.cat(pieces))
            torch.testing.assert_close(output.logits[sample], expected, rtol=1e-5, atol=1e-5)
        first = {n: Sequences(s.values[..., :6, :], s.lengths) for n, s in longer.items()}
        torch.testing.assert_close(model(longer).logits, model(first).logits, rtol=1e-5, atol=1e-5)
    assert {s.steps for s in model.streams.values()} == {6}
    assert model.streams["lexical"].width == 5


def test_gates_come_from_the_current_sound_alone() -> None:
    model = built()
    vectors, valid = contexts()
    with torch.inference_mode():
        gates = model(from_slots(vectors, valid)).explain["gates"]
        other = vectors.clone()
        other[:, 1:] = torch.randn(BATCH, 11, EMBEDDING)
        assert torch.equal(model(from_slots(other, valid)).explain["gates"], gates)
        other = vectors.clone()
        other[:, 0] = torch.randn(BATCH, EMBEDDING)
        moved = model(from_slots(other, valid)).explain["gates"]
    assert (gates[:, 0] == 1).all()
    assert ((gates[:, 1:] > 0) & (gates[:, 1:] < 1)).all()
    assert (moved[:, 0] == 1).all()
    assert (moved[:, 1:] != gates[:, 1:]).all()


@pytest.mark.parametrize("missing", ["zeros", "mask"])
def test_without_the_current_sound_gates_are_those_of_a_zero_vector(missing: str) -> None:
    model = built(missing=missing)
    vectors, valid = contexts()
    valid[:, 0] = False
    with torch.inference_mode():
        gates = model(from_slots(vectors, valid)).explain["gates"]
    torch.testing.assert_close(gates[:, 1:], model.gate.bias.sigmoid().expand(BATCH, 11))
    assert (gates[:, 0] == (0.0 if missing == "mask" else 1.0)).all()


def test_12_2_batch_mean_of_gates_equals_the_sample_at_batch_one() -> None:
    sample, mean = built(), built(gate_reduce="batch")
    vectors, valid = contexts()
    with torch.inference_mode():
        one = from_slots(vectors[:1], valid[:1])
        torch.testing.assert_close(sample(one).logits, mean(one).logits, rtol=0, atol=0)
        own = sample(from_slots(vectors, valid)).explain["gates"]
        averaged = mean(from_slots(vectors, valid)).explain["gates"]
    torch.testing.assert_close(averaged, own.mean(0, keepdim=True).expand_as(own))
    assert (own.std(0).flatten()[1:] > 0).all()


@pytest.mark.parametrize("slot", range(1, 12))
def test_a_slot_changes_its_own_contribution_only(slot: int) -> None:
    model = built(share="modality")
    vectors, valid = contexts()
    other = vectors.clone()
    other[:, slot] = torch.randn(BATCH, EMBEDDING)
    with torch.inference_mode():
        before = model(from_slots(vectors, valid)).explain["contributions"]
        after = model(from_slots(other, valid)).explain["contributions"]
    difference = (after - before).abs().amax((0, 2))
    assert difference[slot] > 1e-4
    difference[slot] = 0.0
    assert difference.max() <= 1e-6


def test_masked_slots_contribute_exactly_nothing() -> None:
    model = built(missing="mask")
    vectors, valid = contexts()
    valid[:, [0, 3, 8, 9, 10, 11]] = False
    with torch.inference_mode():
        explain = model(from_slots(vectors, valid)).explain
    assert (explain["contributions"][~valid] == 0).all()
    assert (explain["gates"][~valid] == 0).all()
    assert (explain["contributions"][valid].abs().amax(-1) > 0).all()


def test_zero_filled_slots_contribute_what_a_zero_vector_does() -> None:
    """The paper's behaviour: the biases of the stack speak for a slot that holds nothing."""
    model = built(missing="zeros")
    vectors, valid = contexts()
    valid[:, 6:] = False
    with torch.inference_mode():
        explain = model(from_slots(vectors, valid)).explain
        zeros = vectors.masked_fill(~valid.unsqueeze(-1), 0.0)
        expected = model(from_slots(zeros, torch.ones_like(valid))).explain
    torch.testing.assert_close(explain["contributions"], expected["contributions"])
    assert (explain["contributions"][:, 6:].abs().amax(-1) > 0).all()
    assert torch.equal(explain["slot_valid"], valid)


@pytest.mark.parametrize("missing", ["zeros", "mask"])
def test_options_agree_where_nothing_is_missing(missing: str) -> None:
    vectors, valid = contexts()
    with torch.inference_mode():
        expected = built(missing="zeros")(from_slots(vectors, valid)).logits
        assert torch.equal(built(missing=missing)(from_slots(vectors, valid)).logits, expected)


def test_dropout_works_in_training_only() -> None:
    model = built(dropout=0.5)
    inputs = from_slots(*contexts())
    with torch.inference_mode():
        assert torch.equal(model(inputs).logits, model(inputs).logits)
        model.train()
        assert not torch.equal(model(inputs).logits, model(inputs).logits)


def test_12_2_online_equals_offline() -> None:
    """models.md section 2.10: the online predictor equals the offline one, from the first turn."""
    model = built(share="role_modality", missing="mask")
    generator = np.random.default_rng(4)
    window = ContextWindow.empty()
    rows, online = [], []
    for index, speaker in enumerate("ABBACAAB"):
        found = BOTH if index % 3 else BOTH[1:]
        vectors = {m.value: generator.standard_normal(EMBEDDING, dtype=np.float32) for m in found}
        window = window.push(UtteranceFeatures(index, speaker, vectors))
        slots = window.context().slots(model.stream_modalities)
        values = np.stack(
            [np.zeros(EMBEDDING, np.float32) if s.values is None else s.values for s in slots]
        )
        valid = torch.tensor([s.values is not None for s in slots])
        rows.append((torch.from_numpy(values), valid))
        assert [s.role for s in slots[:4]] == [Role.SELF] * 2 + [Role.INTERLOCUTOR] * 2
        with torch.inference_mode():
            online.append(model(from_slots(rows[-1][0][None], valid[None])).logits[0])
    with torch.inference_mode():
        everything = (torch.stack(column) for column in zip(*rows, strict=True))
        offline = model(from_slots(*everything)).logits
    torch.testing.assert_close(torch.stack(online), offline, rtol=1e-6, atol=1e-6)


def test_plain_values_make_a_config() -> None:
    config = registry.configured(
        "fusion",
        "gated_xlstm",
        {"modalities": ["acoustic", "lexical"], "classes": 4, "slstm_at": [1]},
    )
    assert config == GatedxLSTMConfig(BOTH, 4, slstm_at=(1,))
    assert config.modalities == BOTH
    assert hash(config) == hash(GatedxLSTMConfig(BOTH, 4, slstm_at=(1,)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"modalities": []}, "modalities"),
        ({"modalities": ["acoustic", "acoustic"]}, "each once"),
        ({"modalities": ["smell"]}, "smell"),
        ({"classes": 0}, "classes must be at least 1"),
        ({"blocks": 0}, "blocks must be at least 1"),
        ({"steps": 5}, "steps 5 does not divide embedding 32"),
        ({"dropout": 1.0}, "dropout"),
        ({"share": "all"}, "share must be one of none, role_modality, modality"),
        ({"gate_reduce": "sum"}, "gate_reduce must be one of"),
        ({"missing": "guess"}, "missing must be one of zeros, mask"),
        ({"step_source": "words"}, "step_source must be one of pooled, tokens"),
        ({"slstm_at": [2]}, "slstm_at"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(registry.BadConfig, match=message):
        registry.configured("fusion", "gated_xlstm", {**SMALL, **settings})
