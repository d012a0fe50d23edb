"""What a session needs of the models, wherever they run: the backend's interface and its values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from emotrace_models.predictor import DialogueState, Outcome, Sensed
from emotrace_models.speech_gate import Appraisal
from emotrace_models.types import FloatArray, Transcript, Utterance
from emotrace_models.voice_activity import VoiceState


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Seconds. queue: until the batch began; the others are of the whole batch."""

    queue: float = 0.0
    encoding: float = 0.0
    fusion: float = 0.0
    decoding: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """What was heard and seen of an utterance, or read, and how long it took."""

    sensed: Sensed
    times: StageTimes


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
    """What a session needs of the models, wherever they run.

    Every coroutine raises EngineError; one for an interim estimate also where its result would
    come too late to be of use.
    """

    def transcribes(self, language: str | None) -> bool:
        """Whether `transcribe` has words of this language to give (BCP 47; None: any)."""

    def start(self, bundle: str) -> DialogueState:
        """A dialogue in which nobody has spoken, for the bundle of that key."""

    def start_voice(self) -> VoiceState:
        """A channel on which nothing was heard."""

    async def detect(self, blocks: Sequence[FloatArray], states: Sequence[VoiceState]) -> Detected:
        """blocks: each [channel, 512], in order."""

    async def appraise(self, utterance: Utterance, *, interim: bool = False) -> Appraisal:
        """Whether it is speech at all, and what is to be said of its sound."""

    async def sense(self, state: DialogueState, utterance: Utterance) -> Heard:
        """What is heard and seen of an utterance, before its words are known."""

    async def read(self, state: DialogueState, utterance: Utterance) -> Heard:
        """What its words say; for a bundle that is asked before the sound has been sensed."""

    async def transcribe(self, utterance: Utterance, language: str | None) -> Transcript | None:
        """None: no words were heard."""

    async def predict(
        self,
        state: DialogueState,
        utterance: Utterance,
        sensed: Sensed | None = None,
        *,
        interim: bool = False,
    ) -> Predicted:
        """sensed: what `sense` found of it."""

    async def shadow(self, state: DialogueState, utterance: Utterance) -> Predicted:
        """As `predict`, for an estimate that nobody waits for, when nothing else is to be done."""

    async def prepare(self, state: DialogueState, speaker: str) -> DialogueState:
        """The same dialogue, with less left to do once `speaker` has spoken."""

    def pressure(self, now: float) -> float:
        """Seconds that the oldest urgent work has waited. now: of time.monotonic."""

    def used_s(self) -> float:
        """Processor seconds that other processes of this machine have used for it."""

    def watch(self, now: float) -> None:
        """Called about once a second: give up what hangs."""

    async def close(self) -> None:
        """Finish what runs, refuse what waits."""
