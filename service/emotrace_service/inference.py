"""What a session needs of the models, wherever they run: the backend's interface and its values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from emotrace_models.predictor import DialogueState, Outcome
from emotrace_models.types import FloatArray, Transcript, Utterance
from emotrace_models.voice_activity import VoiceState


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Seconds. queue: until the batch began; the others are of the whole batch."""

    queue: float
    encoding: float
    fusion: float
    decoding: float


@dataclass(frozen=True, slots=True, eq=False)
class Predicted:
    """The dialogue after the utterance, what was found, and how long it took."""

    state: DialogueState
    outcome: Outcome
    times: StageTimes


@dataclass(frozen=True, slots=True, eq=False)
class Detected:
    """probabilities[block][channel], and the detector's state of each channel after them."""

    probabilities: tuple[FloatArray, ...]
    states: tuple[VoiceState, ...]


class InferenceBackend(Protocol):
    """What a session needs of the models, wherever they run."""

    def transcribes(self, language: str | None) -> bool:
        """Whether `transcribe` has words of this language to give (BCP 47; None: any)."""

    def start(self, bundle: str) -> DialogueState:
        """A dialogue in which nobody has spoken, for the bundle of that key."""

    def start_voice(self) -> VoiceState:
        """A channel on which nothing was heard."""

    async def detect(self, blocks: Sequence[FloatArray], states: Sequence[VoiceState]) -> Detected:
        """blocks: each [channel, 512], in order. Raises EngineError."""

    async def transcribe(self, utterance: Utterance, language: str | None) -> Transcript | None:
        """None: no words were heard. Raises EngineError."""

    async def predict(
        self, state: DialogueState, utterance: Utterance, *, interim: bool = False
    ) -> Predicted:
        """Raises EngineError; an interim one also where it would come too late to be of use."""
