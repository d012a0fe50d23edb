"""What every encoder does: one utterance in, one vector out, the speaker's state as a value."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from torch import nn

from emotrace_models.types import FloatArray, Modality, Utterance

# A frozen value that only its encoder understands; None where nothing is kept of a speaker.
SpeakerState = Any


class Encoder(nn.Module):
    """Maps an utterance to a vector [width] of one modality.

    Subclasses are registered by name and built from a frozen config, `config_type`.
    """

    modality: ClassVar[Modality]
    config_type: ClassVar[type[Any]]
    width: int

    @abstractmethod
    def start(self) -> SpeakerState:
        """The state of a speaker who has not been heard."""

    @abstractmethod
    def encode(
        self, items: Sequence[tuple[SpeakerState, Utterance]]
    ) -> list[tuple[FloatArray | None, SpeakerState]]:
        """Vectors [width] float32 and next states, item by item; None where the modality is absent.

        Pure: the result for an item depends neither on its companions nor on earlier calls.
        """
