"""What is known of an utterance when it is judged: its sound, the words to rely on, a guess."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from emotrace_models.predictor import DialogueState
from emotrace_models.signal_quality import SignalQuality
from emotrace_models.speech_gate import Appraisal
from emotrace_models.transcript_gates import Gates
from emotrace_models.types import Transcript
from emotrace_service.inference import Heard, Predicted
from emotrace_service.opening import Plan

GATES = Gates()


@dataclass(frozen=True, slots=True, eq=False)
class Guess:
    """An estimate made ahead, and of which dialogue and words."""

    dialogue: DialogueState
    words: Transcript | None
    predicted: Predicted


@dataclass(frozen=True, slots=True, eq=False)
class Spoken:
    """What is known of an utterance's sound when it is judged. guess: the estimate that was made
    before its end was sure, if it holds."""

    quality: SignalQuality | None
    doubts: Sequence[str]
    heard: Heard
    guess: Guess | None
    endpointing_ms: int
    transcription_s: float


def reliable(
    plan: Plan, heard: Appraisal, words: Transcript | None
) -> tuple[Transcript | None, bool]:
    """The words that an estimate may rest on, and whether there were some that it may not."""
    if words is None or not plan.words or not words.text.strip():
        return None, False
    quality = heard.quality
    if quality is not None and GATES.refuse(
        words, quality.seconds, heard.speech_s, quality.character.voiced_s
    ):
        return None, True
    return replace(words, language=words.language or plan.language), False
