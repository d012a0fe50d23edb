"""What every encoder does: one utterance in, one vector out, the speaker's state as a value."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import nn

from emotrace_models.types import FloatArray, Modality, Utterance

# A frozen value that only its encoder understands; None where nothing is kept of a speaker.
SpeakerState = Any


class Encoder(nn.Module):
    """Maps an utterance to a vector [width] of one modality.

    Subclasses are registered by name and built as `cls(config, assets)`: a frozen config of
    `config_type`, and the files that `assets` names (a tokenizer, say) as bytes by file name.
    """

    modality: ClassVar[Modality]
    config_type: ClassVar[type[Any]]
    assets: ClassVar[tuple[str, ...]] = ()
    width: int

    def __init__(self, config: Any, assets: Mapping[str, bytes] | None = None) -> None:
        super().__init__()

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
