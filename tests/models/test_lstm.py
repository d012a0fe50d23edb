"""The LSTM baseline against torch's cell unrolled by hand, with and without context."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from streams import BOTH, random_inputs, without
from torch import Tensor

from emotrace_models import registry
from emotrace_models.context import ContextWindow, UtteranceWindow
from emotrace_models.fusion import Inputs
from emotrace_models.fusion.lstm import DialogueLSTM, DialogueLSTMConfig

SMALL: dict[str, Any] = {"modalities": BOTH, "classes": 4, "embedding": 12, "steps": 3, "width": 8}


def built(**settings: Any) -> DialogueLSTM:
    torch.manual_seed(2)
    return DialogueLSTM(DialogueLSTMConfig(**{**SMALL, **settings})).eval()


def by_hand(model: DialogueLSTM, inputs: Inputs, sample: int) -> Tensor:
    """The equations of the LSTM, a step and a layer at a time."""
    entries = 6 if model.config.context else 1
    vectors = [
        inputs[name].values[sample, entry, 0] for entry in range(entries) for name in model.streams
    ]
    weights = dict(model.lstm.named_parameters())
    layers = model.config.layers
    h = [torch.zeros(8) for _ in range(layers)]
    c = [torch.zeros(8) for _ in range(layers)]
    for step in range(3):
        x = torch.cat([vector[4 * step : 4 * step + 4] for vector in vectors])
        for layer in range(layers):
            before = weights[f"weight_ih_l{layer}"] @ x + weights[f"bias_ih_l{layer}"]
            before = (
                before + weights[f"weight_hh_l{layer}"] @ h[layer] + weights[f"bias_hh_l{layer}"]
            )
            i, f, g, o = before.chunk(4)
            c[layer] = f.sigmoid() * c[layer] + i.sigmoid() * g.tanh()
            h[layer] = o.sigmoid() * c[layer].tanh()
            x = h[layer]
    return model.classifier.weight @ x + model.classifier.bias


@pytest.mark.parametrize("context", [True, False])
@pytest.mark.parametrize("layers", [1, 2])
def test_equals_the_equations(context: bool, layers: int) -> None:
    model = built(context=context, layers=layers)
    inputs = random_inputs(model, 3)
    keep = torch.rand(*inputs["acoustic"].lengths.shape, 2) < 0.6
    with torch.inference_mode():
        for given in (inputs, without(inputs, keep)):
            output = model(given)
            for sample in range(3):
                expected = by_hand(model, given, sample)
                torch.testing.assert_close(output.logits[sample], expected, rtol=1e-5, atol=1e-5)
        assert torch.equal(output.explain["slot_valid"], keep.flatten(1))


def test_the_window_follows_the_setting() -> None:
    assert built(context=True).start_window() == ContextWindow.empty()
    assert built(context=False).start_window() == UtteranceWindow()


@pytest.mark.parametrize(("context", "features"), [(False, 64), (True, 384)])
def test_sizes_are_those_of_the_paper(context: bool, features: int) -> None:
    """Slices of 32, of two vectors or of twelve, read by two layers of 512."""
    with torch.device("meta"):
        model = DialogueLSTM(DialogueLSTMConfig(BOTH, 4, context=context))
    assert model.config.step_width == features
    layers = [4 * 512 * (width + 512 + 2) for width in (features, 512)]
    expected = sum(layers) + 512 * 4 + 4
    assert sum(p.numel() for p in model.parameters()) == expected


def test_dropout_works_in_training_only() -> None:
    model = built(dropout=0.5)
    inputs = random_inputs(model, 3)
    with torch.inference_mode():
        assert torch.equal(model(inputs).logits, model(inputs).logits)
        model.train()
        assert not torch.equal(model(inputs).logits, model(inputs).logits)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"modalities": []}, "modalities"),
        ({"modalities": ["lexical", "lexical"]}, "each once"),
        ({"layers": 0}, "layers must be at least 1"),
        ({"width": 0}, "width must be at least 1"),
        ({"steps": 5}, "steps 5 does not divide embedding 12"),
        ({"dropout": -0.1}, "dropout"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(registry.BadConfig, match=message):
        registry.configured("fusion", "lstm", {**SMALL, **settings})
