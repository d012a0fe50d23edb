"""The base xLSTM against its cell a step at a time, with and without context."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from streams import BOTH, random_inputs, without

from emotrace_models import registry
from emotrace_models.context import ContextWindow, UtteranceWindow
from emotrace_models.fusion.base_xlstm import BasexLSTM, BasexLSTMConfig

SMALL: dict[str, Any] = {
    "modalities": BOTH,
    "classes": 4,
    "embedding": 12,
    "steps": 3,
    "width": 16,
    "blocks": 2,
    "heads": 2,
}


def built(**settings: Any) -> BasexLSTM:
    torch.manual_seed(2)
    model = BasexLSTM(BasexLSTMConfig(**{**SMALL, **settings}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


@pytest.mark.parametrize("context", [True, False])
@pytest.mark.parametrize("slstm_at", [(), (1,)])
def test_equals_a_step_at_a_time(context: bool, slstm_at: tuple[int, ...]) -> None:
    """A slice of every slot's vector at each step, in the order of the slots; the last step."""
    model = built(context=context, slstm_at=slstm_at)
    inputs = random_inputs(model, 3)
    entries = 6 if context else 1
    keep = torch.rand(3, entries, 2) < 0.6
    with torch.inference_mode():
        for given in (inputs, without(inputs, keep)):
            state = model.xlstm.start(3)
            for step in range(3):
                slices = [
                    given[name].values[:, entry, 0, 4 * step : 4 * step + 4]
                    for entry in range(entries)
                    for name in ("acoustic", "lexical")
                ]
                y, state = model.xlstm.step(model.input_proj(torch.cat(slices, dim=-1)), state)
            expected = model.classifier(y)
            output = model(given)
            torch.testing.assert_close(output.logits, expected, rtol=1e-4, atol=1e-4)
        assert torch.equal(output.explain["slot_valid"], keep.flatten(1))


@pytest.mark.parametrize(
    ("context", "features", "parameters"), [(True, 384, 13_139_012), (False, 64, 12_975_172)]
)
def test_sizes_are_those_of_the_paper(context: bool, features: int, parameters: int) -> None:
    """A stack of eight blocks, 512 wide: as GatedxLSTM's, but one."""
    with torch.device("meta"):
        model = BasexLSTM(BasexLSTMConfig(BOTH, 4, context=context))
    assert model.config.step_width == features
    assert sum(p.numel() for p in model.parameters()) == parameters
    stack = 12_956_736 - 33 * 512  # without the input projection
    assert parameters == stack + (features + 1) * 512 + 4 * 513


def test_the_window_follows_the_setting() -> None:
    assert built(context=True).start_window() == ContextWindow.empty()
    assert built(context=False).start_window() == UtteranceWindow()


def test_plain_values_make_a_config() -> None:
    plain = {"modalities": ["acoustic"], "classes": 4, "slstm_at": [1]}
    config = registry.configured("fusion", "base_xlstm", plain)
    assert config == BasexLSTMConfig(BOTH[:1], 4, slstm_at=(1,))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": 0}, "classes must be at least 1"),
        ({"blocks": 0}, "blocks must be at least 1"),
        ({"heads": 0}, "heads must be at least 1"),
        ({"steps": 5}, "steps 5 does not divide embedding 12"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(registry.BadConfig, match=message):
        registry.configured("fusion", "base_xlstm", {**SMALL, **settings})
