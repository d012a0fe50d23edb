"""Shapley values of slots, against their definition: the mean over all orders of joining."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import Any

import pytest
import torch
from streams import random_inputs, without
from torch import Tensor

from emotrace_models.attribution import EXACT, attributed
from emotrace_models.context import ContextWindow, UtteranceWindow, Window
from emotrace_models.fusion import FusionModel, FusionOutput, GatedxLSTM, Inputs, StreamSpec
from emotrace_models.types import Modality

WIDTH, CLASSES, BATCH = 3, 4, 2


@dataclass(frozen=True)
class ProductConfig:
    streams: int


class Product(FusionModel):
    """Slots multiply each other, so that none has a share of its own."""

    config_type = ProductConfig
    window: Window = UtteranceWindow()

    def __init__(self, config: ProductConfig) -> None:
        super().__init__()
        self.streams = {
            f"s{n}": StreamSpec(Modality.ACOUSTIC, WIDTH) for n in range(config.streams)
        }
        torch.manual_seed(0)
        self.heads = torch.nn.ModuleList(
            torch.nn.Linear(WIDTH, CLASSES) for _ in range(config.streams)
        )

    @classmethod
    def small_config(cls, classes: int) -> Any:
        return ProductConfig(2)

    def start_window(self) -> Window:  # type: ignore[override]
        return self.window

    def forward(self, inputs: Inputs) -> FusionOutput:
        logits = torch.ones(len(next(iter(inputs.values())).lengths), CLASSES)
        for head, stream in zip(self.heads, inputs.values(), strict=True):
            for entry in range(stream.lengths.shape[1]):
                there = (stream.lengths[:, entry] > 0)[:, None]
                logits = logits * torch.where(there, head(stream.values[:, entry, 0]), 1.5)
        return FusionOutput(logits, {})


def by_definition(model: FusionModel, inputs: Inputs) -> Tensor:
    """[batch, slot, class]: what a slot adds when it joins, over all orders of all slots."""
    entries, streams = next(iter(inputs.values())).lengths.shape[1], len(inputs)
    slots = entries * streams
    values = torch.zeros(BATCH, slots, CLASSES)
    orders = list(permutations(range(slots)))
    for order in orders:
        keep = torch.zeros(BATCH, slots, dtype=torch.bool)
        before = model(without(inputs, keep.view(BATCH, entries, streams))).logits
        for slot in order:
            keep[:, slot] = True
            after = model(without(inputs, keep.view(BATCH, entries, streams))).logits
            values[:, slot] += after - before
            before = after
    return values / len(orders)


@pytest.mark.parametrize("streams", [1, 2, 3])
def test_they_are_the_mean_over_all_orders(streams: int) -> None:
    model = Product(ProductConfig(streams)).eval()
    inputs = random_inputs(model, BATCH, steps=1)
    with torch.inference_mode():
        found = attributed(model, inputs)
        torch.testing.assert_close(found.explain["contributions"], by_definition(model, inputs))
        torch.testing.assert_close(found.logits, model(inputs).logits)


def test_many_slots_are_sampled_and_still_sum_to_the_logits() -> None:
    model = Product(ProductConfig(2)).eval()
    model.window = ContextWindow.empty()
    inputs = random_inputs(model, BATCH, steps=1)
    assert EXACT < 12
    with torch.inference_mode():
        found = attributed(model, inputs)
        # The sets reach further than the logits: float sums of them differ more.
        torch.testing.assert_close(found.logits, model(inputs).logits, rtol=1e-5, atol=5e-5)
    assert found.explain["contributions"].shape == (BATCH, 12, CLASSES)
    assert (found.explain["contributions"] != 0).all()


def test_an_empty_slot_has_none_and_companions_do_not_matter() -> None:
    model = Product(ProductConfig(3)).eval()
    keep = torch.tensor([[[True, False, True]], [[True, True, True]]])
    inputs = without(random_inputs(model, BATCH, steps=1), keep)
    with torch.inference_mode():
        both = attributed(model, inputs).explain["contributions"]
    assert (both[0, 1] == 0).all()
    assert (both[0, [0, 2]] != 0).all()
    assert (both[1] != 0).all()


def test_an_additive_model_explains_itself() -> None:
    model = GatedxLSTM(GatedxLSTM.small_config(CLASSES)).eval()
    inputs = random_inputs(model, BATCH)
    with torch.inference_mode():
        own, found = model(inputs), attributed(model, inputs)
    assert torch.equal(found.explain["contributions"], own.explain["contributions"])
    assert torch.equal(found.explain["gates"], own.explain["gates"])
