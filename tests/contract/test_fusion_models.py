"""What every fusion model must do. Models are found in the registry, none is named below."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

import emotrace_models.fusion  # noqa: F401  (fills the registry)
from emotrace_models import registry
from emotrace_models.fusion import FusionModel
from emotrace_models.types import Modality

NAMES = registry.names("fusion")
BOTH = (Modality.ACOUSTIC, Modality.LEXICAL)
EMBEDDING, CLASSES, BATCH = 32, 4, 5

# Parameters as published, of the model of these settings.
PUBLISHED: Mapping[str, tuple[Mapping[str, Any], int]] = {
    "gated_xlstm": ({"modalities": BOTH, "classes": 4}, 155_511_055),
}


def small(name: str, modalities: tuple[Modality, ...] = BOTH) -> FusionModel:
    """A small model whose parameters are not at their initial zeros."""
    torch.manual_seed(7)
    kind = registry.lookup("fusion", name)
    model: FusionModel = kind(kind.small_config(modalities, CLASSES, EMBEDDING))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def inputs(modalities: int = 2) -> tuple[Tensor, Tensor]:
    """Contexts of several kinds: full, the start of a dialogue, each modality alone, one slot."""
    generator = torch.Generator().manual_seed(3)
    slots = 3 * 2 * modalities
    vectors = torch.nn.functional.normalize(
        torch.randn(BATCH, slots, EMBEDDING, generator=generator), dim=-1
    )
    valid = torch.ones(BATCH, slots, dtype=torch.bool)
    valid[1, modalities:] = False  # the first utterance of a dialogue
    valid[2, 0::modalities] = False  # no sound
    if modalities > 1:
        valid[3, 1::modalities] = False  # no words
    valid[4, :-1] = False
    return vectors.masked_fill(~valid.unsqueeze(-1), 0.0), valid


def test_every_fusion_model_is_found() -> None:
    assert len(NAMES) == 1
    assert set(PUBLISHED) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("modalities", [BOTH[:1], BOTH[1:], BOTH, tuple(Modality)])
def test_shapes_and_the_explanation_sums_to_the_logits(
    name: str, modalities: tuple[Modality, ...]
) -> None:
    model = small(name, modalities)
    vectors, valid = inputs(len(modalities))
    with torch.inference_mode():
        output = model(vectors, valid)
    explain = output.explain
    assert model.modalities == modalities
    assert output.logits.shape == (BATCH, CLASSES)
    assert output.logits.isfinite().all()
    assert explain["contributions"].shape == (BATCH, valid.shape[1], CLASSES)
    assert explain["gates"].shape == (BATCH, 3, 2 * len(modalities))
    assert explain["bias"].shape == (CLASSES,)
    assert torch.equal(explain["slot_valid"], valid)
    total = explain["contributions"].sum(1) + explain["bias"]
    torch.testing.assert_close(total, output.logits, rtol=0, atol=1e-5)
    assert explain["contributions"].abs().amax() > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_alone_equals_in_a_batch(name: str) -> None:
    model = small(name)
    vectors, valid = inputs()
    with torch.inference_mode():
        together = model(vectors, valid)
        for i in range(BATCH):
            alone = model(vectors[i : i + 1], valid[i : i + 1])
            for key in ("gates", "contributions"):
                expected = together.explain[key][i]
                torch.testing.assert_close(alone.explain[key][0], expected, rtol=1e-6, atol=1e-6)
            torch.testing.assert_close(alone.logits[0], together.logits[i], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_what_lies_in_an_empty_slot_is_not_read(name: str) -> None:
    model = small(name)
    vectors, valid = inputs()
    with torch.inference_mode():
        expected = model(vectors, valid).logits
        rubbish = vectors.masked_fill(~valid.unsqueeze(-1), torch.nan)
        assert torch.equal(model(rubbish, valid).logits, expected)


@pytest.mark.parametrize("name", NAMES)
def test_every_slot_matters(name: str) -> None:
    """A change of any slot changes the logits: no slot is read in place of another."""
    model = small(name)
    vectors, valid = inputs()
    vectors, valid = vectors[:1], valid[:1]
    with torch.inference_mode():
        before = model(vectors, valid).logits
        for slot in range(valid.shape[1]):
            changed = vectors.clone()
            changed[:, slot] = -changed[:, slot]
            assert (model(changed, valid).logits - before).abs().max() > 1e-5, slot


@pytest.mark.parametrize("name", NAMES)
def test_save_and_load_give_the_same_model(name: str) -> None:
    model = small(name)
    stored = save({key: tensor.contiguous() for key, tensor in model.state_dict().items()})
    config = json.loads(json.dumps(asdict(model.config)))  # type: ignore[call-overload]
    restored_config = registry.configured("fusion", name, config)
    assert restored_config == model.config
    restored = registry.lookup("fusion", name)(restored_config).eval()
    restored.load_state_dict(load(stored))
    vectors, valid = inputs()
    with torch.inference_mode():
        assert torch.equal(restored(vectors, valid).logits, model(vectors, valid).logits)


@pytest.mark.parametrize("name", NAMES)
def test_a_forward_pass_leaves_no_trace(name: str) -> None:
    model = small(name)
    vectors, valid = inputs()
    copy = vectors.clone()
    with torch.inference_mode():
        first = model(vectors, valid).logits
        model(vectors.flip(0), valid.flip(0))
        assert torch.equal(model(vectors, valid).logits, first)
    assert torch.equal(vectors, copy)


@pytest.mark.parametrize("name", NAMES)
def test_a_gradient_reaches_every_parameter(name: str) -> None:
    model = small(name).train()
    vectors, valid = inputs()
    loss = torch.nn.functional.cross_entropy(
        model(vectors, valid).logits, torch.arange(5) % CLASSES
    )
    loss.backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.abs().max() > 0, key


@pytest.mark.parametrize("name", NAMES)
def test_it_can_learn(name: str) -> None:
    """A few steps of training tell apart classes that differ in one slot."""
    model = small(name)
    vectors, valid = inputs()
    vectors, valid = vectors[:1].repeat(CLASSES, 1, 1), valid[:1].repeat(CLASSES, 1)
    vectors[:, 0] = torch.eye(CLASSES, EMBEDDING)
    classes = torch.arange(CLASSES)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(60):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(vectors, valid).logits, classes).backward()
        optimiser.step()
    with torch.inference_mode():
        assert torch.equal(model(vectors, valid).logits.argmax(1), classes)


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_setting_is_refused(name: str) -> None:
    with pytest.raises(registry.BadConfig, match="no setting nonsense"):
        registry.configured("fusion", name, {"nonsense": 1})


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_parameters_are_as_many_as_published(name: str) -> None:
    settings, expected = PUBLISHED[name]
    with torch.device("meta"):
        model = registry.lookup("fusion", name)(registry.configured("fusion", name, settings))
    assert sum(parameter.numel() for parameter in model.parameters()) == expected
