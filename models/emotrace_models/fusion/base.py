"""What every fusion model does: the vectors of a context in, raw logits and their reasons out."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from emotrace_models.types import Modality


@dataclass(frozen=True, slots=True, eq=False)
class FusionOutput:
    """logits [batch, class], raw; explain: the interpretable tensors named in models.md."""

    logits: Tensor
    explain: dict[str, Tensor]


class FusionModel(nn.Module):
    """Registered by name and built from a frozen config, `config_type`. Never applies softmax."""

    config_type: ClassVar[type[Any]]
    modalities: tuple[Modality, ...]

    @classmethod
    @abstractmethod
    def small_config(cls, modalities: tuple[Modality, ...], classes: int, embedding: int) -> Any:
        """A config of the smallest useful size: for the contract tests and toy bundles."""

    @abstractmethod
    def forward(self, vectors: Tensor, valid: Tensor) -> FusionOutput:
        """vectors [batch, slot, embedding], zero where empty; valid [batch, slot] bool."""
