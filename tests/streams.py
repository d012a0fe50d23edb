"""Inputs of fusion models for tests: random ones by a model's streams, or from slots."""

from __future__ import annotations

import torch
from torch import Tensor

from emotrace_models.fusion import FusionModel, Inputs, Sequences
from emotrace_models.types import Modality

BOTH = (Modality.ACOUSTIC, Modality.LEXICAL)


def from_slots(
    vectors: Tensor, valid: Tensor, modalities: tuple[Modality, ...] = BOTH
) -> dict[str, Sequences]:
    """vectors [batch, slot, width] and valid [batch, slot], in the order of the slots."""
    count = len(modalities)
    return {
        modality.value: Sequences(
            vectors[:, number::count, None], valid[:, number::count].to(torch.int64)
        )
        for number, modality in enumerate(modalities)
    }


def random_inputs(model: FusionModel, batch: int, seed: int = 3, steps: int = 90) -> Inputs:
    """Full contexts; sequences of any length have from 1 to `steps` steps."""
    generator = torch.Generator().manual_seed(seed)
    entries = len(model.start_window().context().entries)
    inputs = {}
    for name, spec in model.streams.items():
        shape = (batch, entries)
        if spec.steps is None:
            lengths = torch.randint(1, steps + 1, shape, generator=generator)
            lengths[0] = steps
        else:
            lengths = torch.full(shape, spec.steps)
        values = torch.randn(*shape, int(lengths.max()), spec.width, generator=generator)
        values = values / spec.width**0.5 if spec.steps == 1 else values
        real = torch.arange(values.shape[2]) < lengths[..., None]
        inputs[name] = Sequences(values.masked_fill(~real[..., None], 0.0), lengths)
    return inputs


def without(inputs: Inputs, keep: Tensor) -> Inputs:
    """Only the slots of `keep` [batch, entry, stream]; the others are empty."""
    hidden = {}
    for number, (name, stream) in enumerate(inputs.items()):
        seen = keep[..., number]
        hidden[name] = Sequences(
            stream.values.masked_fill(~seen[..., None, None], 0.0), stream.lengths * seen
        )
    return hidden


def rows(inputs: Inputs, chosen: slice | Tensor) -> Inputs:
    return {n: Sequences(s.values[chosen], s.lengths[chosen]) for n, s in inputs.items()}
