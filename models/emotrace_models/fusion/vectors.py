"""Fusion models of a vector a stream: what comes before and after, the same for all of them.

Sequences are averaged over their real steps, standardised and brought to one width; then comes the
fusion that is compared, then a linear layer or the two-layer head of GBAN (models.md section 8).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from emotrace_models.fusion.base import FusionModel, FusionOutput, Inputs, StreamSpec
from emotrace_models.layers.standardise import Standardise
from emotrace_models.types import Modality

Head = Literal["linear", "two_layer"]

# The streams by name, in the order in which they are fused.
STREAMS: Mapping[str, Modality] = {
    "acoustic": Modality.ACOUSTIC,
    "spectrogram": Modality.ACOUSTIC,
    "lexical": Modality.LEXICAL,
    "facial": Modality.FACIAL,
}


@dataclass(frozen=True, slots=True)
class VectorFusionConfig:
    """Raises ValueError, which names the setting.

    streams: width by name, of two or three of acoustic, spectrogram, lexical, facial.
    width: of a stream's vector as it is fused, by Linear - ReLU; 0, the stream's own.
    head: on what the fusion gives. hidden: of the two-layer head. dropout: of the head.
    standardise: each feature by the training data's mean and deviation.
    """

    classes: int
    streams: dict[str, int]
    width: int = 32
    head: Head = "two_layer"
    hidden: int = 128
    dropout: float = 0.5
    standardise: bool = True

    def __post_init__(self) -> None:
        if not 2 <= len(self.streams) <= 3 or not self.streams.keys() <= STREAMS.keys():
            raise ValueError(
                f"streams must be two or three of {', '.join(STREAMS)}, not {list(self.streams)}"
            )
        if min(self.streams.values()) < 1:
            raise ValueError(f"streams must each have a width of at least 1: {self.streams}")
        for name, least in {"classes": 1, "width": 0, "hidden": 1}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be from 0 to under 1, not {self.dropout}")
        if self.head not in get_args(Head):
            raise ValueError(f"head must be one of {', '.join(get_args(Head))}")

    @property
    def widths(self) -> dict[str, int]:
        """Of the vectors that are fused, in the order of `STREAMS`."""
        return {name: self.width or self.streams[name] for name in STREAMS if name in self.streams}


class VectorFusion(FusionModel):
    """A stream that is absent is the zero vector, whatever it is brought to; explain is empty."""

    config_type: ClassVar[type[VectorFusionConfig]] = VectorFusionConfig

    def __init__(self, config: VectorFusionConfig, fused: int) -> None:
        """fused: width of what `fuse` gives."""
        super().__init__()
        self.streams = {
            name: StreamSpec(STREAMS[name], config.streams[name]) for name in config.widths
        }
        kept = config.streams if config.standardise else {}
        self.standardise = nn.ModuleDict({name: Standardise(width) for name, width in kept.items()})
        self.readers = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Linear(config.streams[name], width), nn.ReLU())
                for name, width in config.widths.items()
                if config.width
            }
        )
        if config.head == "linear":
            self.head = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(fused, config.classes))
        else:
            self.head = nn.Sequential(
                nn.Linear(fused, config.hidden),
                nn.ReLU(),
                nn.Dropout(config.dropout),
                nn.Linear(config.hidden, config.classes),
            )

    @abstractmethod
    def fuse(self, vectors: list[Tensor]) -> Tensor:
        """Vectors [batch, width] in the order of `streams` -> [batch, fused]."""

    def forward(self, inputs: Inputs) -> FusionOutput:
        return FusionOutput(
            self.head(self.fuse([self._vector(n, inputs) for n in self.streams])), {}
        )

    def _vector(self, name: str, inputs: Inputs) -> Tensor:
        values, lengths = inputs[name].current()
        vector = values.sum(1) / lengths.clamp_min(1)[:, None]
        if name in self.standardise:
            vector = self.standardise[name](vector)
        if name in self.readers:
            vector = self.readers[name](vector)
        return torch.where(lengths[:, None] > 0, vector, torch.zeros_like(vector))
