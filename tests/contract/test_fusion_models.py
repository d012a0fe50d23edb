"""What every fusion model must do. Models are found in the registry, none is named below."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from streams import BOTH, random_inputs, rows, without
from torch import Tensor

from emotrace_models import registry
from emotrace_models.attribution import attributed
from emotrace_models.fusion import FusionModel, Inputs, Sequences

NAMES = registry.names("fusion")
CLASSES, BATCH = 4, 5

# Parameters as published, of the model of these settings.
PUBLISHED: Mapping[str, tuple[Mapping[str, Any], int]] = {
    "gated_xlstm": ({"modalities": BOTH, "classes": 4}, 155_511_055),
    "gban": ({"classes": 4}, 1_329_252),
}


def small(name: str) -> FusionModel:
    """A small model whose parameters are not at their initial zeros."""
    torch.manual_seed(7)
    kind = registry.lookup("fusion", name)
    model: FusionModel = kind(kind.small_config(CLASSES))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def contexts(model: FusionModel) -> tuple[Inputs, Tensor]:
    """Contexts of several kinds, and what is in them [batch, entry, stream]: full, the start of a
    dialogue, the first stream missing, the last one missing, the oldest entry alone."""
    full = random_inputs(model, BATCH)
    keep = torch.ones(*next(iter(full.values())).lengths.shape, len(full), dtype=torch.bool)
    keep[1, 1:] = False
    if len(full) > 1:
        keep[2, :, 0] = False
        keep[3, :, -1] = False
    keep[4, :-1] = False
    return without(full, keep), keep


def test_every_model_and_encoder_is_in_the_registry() -> None:
    """Whatever a file of fusion/ or encoders/ registers is in the registry's table, and at its
    place."""
    for kind, package in registry.PACKAGES.items():
        folder = Path(next(iter(import_module(package).__path__)))
        found = {
            (name, file.stem)
            for file in folder.glob("*.py")
            for name in re.findall(rf'^@register\("{kind}", "(\w+)"\)', file.read_text(), re.M)
        }
        assert found == set(registry.MODULES[kind].items())
    assert set(PUBLISHED) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_shapes_and_the_explanation_sums_to_the_logits(name: str) -> None:
    model = small(name)
    inputs, keep = contexts(model)
    with torch.inference_mode():
        plain, output = model(inputs), attributed(model, inputs)
    slots = keep.flatten(1)
    assert plain.logits.shape == (BATCH, CLASSES)
    assert plain.logits.isfinite().all()
    torch.testing.assert_close(output.logits, plain.logits, rtol=0, atol=1e-5)
    explain = output.explain
    assert explain["contributions"].shape == (*slots.shape, CLASSES)
    assert explain["bias"].shape == (CLASSES,)
    if "gates" in explain:
        assert explain["gates"].shape == slots.shape
    total = explain["contributions"].sum(1) + explain["bias"]
    torch.testing.assert_close(total, output.logits, rtol=0, atol=1e-5)
    assert explain["contributions"].abs().amax() > 1e-3
    for tensor in explain.values():
        assert tensor.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_alone_equals_in_a_batch(name: str) -> None:
    model = small(name)
    inputs, _ = contexts(model)
    with torch.inference_mode():
        together = model(inputs).logits
        for i in range(BATCH):
            alone = model(rows(inputs, slice(i, i + 1))).logits[0]
            torch.testing.assert_close(alone, together[i], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_padding_changes_nothing(name: str) -> None:
    """Longer padding, with rubbish in it and in empty slots."""
    model = small(name)
    inputs, _ = contexts(model)
    padded = {}
    for stream, one in inputs.items():
        fixed = model.streams[stream].steps is not None
        values = torch.nn.functional.pad(one.values, (0, 0, 0, 0 if fixed else 4))
        mask = torch.arange(values.shape[2]) < one.lengths[..., None]
        padded[stream] = Sequences(values.masked_fill(~mask[..., None], torch.nan), one.lengths)
    with torch.inference_mode():
        torch.testing.assert_close(model(padded).logits, model(inputs).logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_at_all_gives_finite_logits(name: str) -> None:
    model = small(name)
    inputs, keep = contexts(model)
    with torch.inference_mode():
        logits = model(without(inputs, torch.zeros_like(keep))).logits
    assert logits.isfinite().all()
    torch.testing.assert_close(logits, logits[:1].expand_as(logits), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_every_slot_matters(name: str) -> None:
    """A change of any slot changes the logits: no slot is read in place of another."""
    model = small(name)
    inputs = rows(random_inputs(model, 1), slice(0, 1))
    with torch.inference_mode():
        before = model(inputs).logits
        for stream, one in inputs.items():
            for entry in range(one.lengths.shape[1]):
                values = one.values.clone()
                values[:, entry] = values[:, entry].flip(-1)
                changed = {**inputs, stream: Sequences(values, one.lengths)}
                moved = (model(changed).logits - before).abs().max()
                assert moved > 1e-5, (stream, entry)


@pytest.mark.parametrize("name", NAMES)
def test_no_look_ahead(name: str) -> None:
    """A window never holds what comes later: earlier contexts stay when a dialogue goes on."""
    window = small(name).start_window()
    assert all(entry.features is None for entry in window.context().entries)


@pytest.mark.parametrize("name", NAMES)
def test_save_and_load_give_the_same_model(name: str) -> None:
    model = small(name)
    stored = save({key: tensor.contiguous() for key, tensor in model.state_dict().items()})
    config = json.loads(json.dumps(asdict(model.config)))  # type: ignore[call-overload]
    restored_config = registry.configured("fusion", name, config)
    assert restored_config == model.config
    restored = registry.lookup("fusion", name)(restored_config).eval()
    restored.load_state_dict(load(stored))
    inputs, _ = contexts(model)
    with torch.inference_mode():
        assert torch.equal(restored(inputs).logits, model(inputs).logits)


@pytest.mark.parametrize("name", NAMES)
def test_a_forward_pass_leaves_no_trace(name: str) -> None:
    model = small(name)
    inputs, _ = contexts(model)
    copies = {stream: one.values.clone() for stream, one in inputs.items()}
    with torch.inference_mode():
        first = model(inputs).logits
        model(rows(inputs, torch.arange(BATCH).flip(0)))
        assert torch.equal(model(inputs).logits, first)
    for stream, one in inputs.items():
        assert torch.equal(one.values, copies[stream])


@pytest.mark.parametrize("name", NAMES)
def test_a_gradient_reaches_every_parameter(name: str) -> None:
    """What stands for an absent stream learns where one is absent."""
    model = small(name).train()
    torch.manual_seed(0)
    for inputs in (random_inputs(model, BATCH), contexts(model)[0]):
        logits = model(inputs).logits
        torch.nn.functional.cross_entropy(logits, torch.arange(BATCH) % CLASSES).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.abs().max() > 0, key


@pytest.mark.parametrize("name", NAMES)
def test_it_can_learn(name: str) -> None:
    """A few steps of training tell apart four utterances."""
    model = small(name).train()
    inputs = random_inputs(model, CLASSES, steps=8)
    classes = torch.arange(CLASSES)
    torch.manual_seed(0)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(100):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(inputs).logits, classes).backward()
        optimiser.step()
    with torch.inference_mode():
        assert torch.equal(model.eval()(inputs).logits.argmax(1), classes)


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


def test_a_server_pays_for_the_models_that_it_serves_only() -> None:
    code = (
        "import sys, emotrace_service.app, emotrace_models.predictor; "
        "sys.exit('transformers' in sys.modules or 'PIL' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
