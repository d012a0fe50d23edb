"""A fusion model under a smaller label set: the columns of its logits that the set asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import torch
from torch import Tensor

from emotrace_models.context import Window
from emotrace_models.fusion.base import FusionModel, FusionOutput, Inputs, Known

CLASSWISE = ("contributions", "bias")  # of what explains the logits, what ends in [class]


class Projection(FusionModel):
    """Choosing columns and normalising again is the posterior given that one of them is true, so
    contributions and bias still sum to the logits.

    columns: of `model`'s classes, in the order of the smaller set.
    """

    columns: Tensor

    def __init__(self, model: FusionModel, columns: Sequence[int]) -> None:
        super().__init__()
        self.model = model
        self.streams = model.streams
        self.additive = model.additive
        self.slot_readers = model.slot_readers
        self.register_buffer("columns", torch.tensor(columns), persistent=False)

    @classmethod
    def small_config(cls, classes: int) -> NoReturn:
        """Raises TypeError: a projection is made of a model, not of a config."""
        raise TypeError("a projection has no config of its own")

    def start_window(self) -> Window:
        return self.model.start_window()

    def in_bf16(self) -> Projection:
        return Projection(self.model.in_bf16(), self.columns.tolist()).eval()

    def forward(self, inputs: Inputs, known: Known | None = None) -> FusionOutput:
        output: FusionOutput = self.model(inputs) if known is None else self.model(inputs, known)
        chosen = {k: output.explain[k] for k in CLASSWISE if k in output.explain}
        explain = {k: v[..., self.columns] for k, v in chosen.items()}
        return FusionOutput(output.logits[:, self.columns], {**output.explain, **explain})
