"""GatedxLSTM's baselines: the vectors of all slots, sliced into steps and read as one sequence.

models.md section 2.9. What reads the sequence is the model; before and after it they are alike.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from emotrace_models.context import OFFSETS, ContextWindow, UtteranceWindow, Window
from emotrace_models.fusion.base import FusionModel, FusionOutput, Inputs, StreamSpec, slots_of
from emotrace_models.types import Modality

ENTRIES = 2 * OFFSETS  # utterances of a ContextWindow


@dataclass(frozen=True, slots=True)
class SlicedConfig:
    """Raises ValueError, which names the setting.

    embedding: width of the vectors that come in, cut into `steps` equal pieces.
    width: of what reads them. dropout: on its last step.
    context: the twelve slots of GatedxLSTM, side by side at each step; else the current utterance
        alone.
    """

    modalities: tuple[Modality, ...]
    classes: int
    embedding: int = 512
    steps: int = 16
    width: int = 512
    context: bool = True
    dropout: float = 0.3

    def __post_init__(self) -> None:
        # A bundle stores a config as JSON, which knows neither tuples nor enumerations.
        object.__setattr__(self, "modalities", tuple(Modality(m) for m in self.modalities))
        if not self.modalities or len(set(self.modalities)) < len(self.modalities):
            raise ValueError(f"modalities must be there, each once: {list(self.modalities)}")
        for name in ("classes", "embedding", "steps", "width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.embedding % self.steps:
            raise ValueError(f"steps {self.steps} does not divide embedding {self.embedding}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be from 0 to under 1, not {self.dropout}")

    @property
    def step_width(self) -> int:
        """Of a step: a piece of every slot's vector."""
        slots = len(self.modalities) * (ENTRIES if self.context else 1)
        return slots * self.embedding // self.steps


class SlicedModel(FusionModel):
    """An empty slot is a zero vector. explain: slot_valid [batch, slot]."""

    def __init__(self, config: SlicedConfig) -> None:
        super().__init__()
        self.sliced = config
        self.streams = {
            modality.value: StreamSpec(modality, config.embedding, steps=1)
            for modality in config.modalities
        }
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.width, config.classes)

    def start_window(self) -> Window:
        return ContextWindow.empty() if self.sliced.context else UtteranceWindow()

    @abstractmethod
    def read(self, x: Tensor) -> Tensor:
        """[batch, step, step width] -> the state after the last step [batch, width]."""

    def forward(self, inputs: Inputs) -> FusionOutput:
        values, lengths = slots_of({name: inputs[name] for name in self.streams})
        pieces = torch.unflatten(values[:, :, 0], -1, (self.sliced.steps, -1))
        x = pieces.transpose(1, 2).flatten(2)  # [batch, step, slot * piece]
        logits: Tensor = self.classifier(self.dropout(self.read(x)))
        return FusionOutput(logits, {"slot_valid": lengths > 0})
