"""What an estimate carries beside its label: affect, quality of its sound, reasons and times."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Probability = Annotated[float, Field(ge=0, le=1)]
ModalityName = Literal["acoustic", "lexical", "facial"]


class Part(BaseModel):
    """A value that events carry."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Quality(Part):
    """What the microphone delivered for one utterance."""

    snr_db: float | None = Field(description="voice over background; None: not measurable")
    bandwidth_hz: int = Field(description="above it there is next to nothing")
    clipped: Probability = Field(description="share of samples at full scale")
    level_db: float = Field(description="of the voice, relative to full scale")


class Affect(Part):
    """Valence and arousal from -1 to 1, read off the posterior by a fixed table.

    They are derived from the labels (docs/affect.md), not measured by a model of their own.
    """

    derived_from: Literal["labels"] = "labels"
    valence: float = Field(ge=-1, le=1)
    arousal: float = Field(ge=-1, le=1)


class Contribution(Part):
    """What one slot of the context did: which modality of which utterance of which speaker.

    Summed over all slots, `logits` plus the explanation's `bias` are the logits of the estimate.
    """

    offset: int = Field(
        description="0 the utterance itself, 1 the one before, 2 the one before that"
    )
    role: Literal["self", "interlocutor"]
    modality: ModalityName
    stream: str | None = Field(
        default=None, description="which one, where a bundle hears one modality in several ways"
    )
    utterance: int | None = Field(description="None: there was none; the slot is empty")
    speaker: str | None
    gate: float | None = Field(description="None: the model has no gates")
    logits: dict[str, float]


class Explanation(Part):
    method: Literal["additive", "shapley"] = Field(
        default="additive",
        description="additive: the model is this sum; shapley: its change as each slot joins",
    )
    contributions: tuple[Contribution, ...]
    bias: dict[str, float]
    logits: dict[str, float]


class DecoderResult(Part):
    """The label in the light of the dialogue, and what decided it (costs are negative logs)."""

    label: str
    posterior: dict[str, Probability]
    emission: float
    shift: float
    assignment: float
    runner_up: str | None
    gap: float | None = Field(description="cost of the best path with the runner-up, less the best")


class Timings(Part):
    """Milliseconds. lag: from the arrival of the audio that ended the utterance to this event.

    foreseen: the estimate was made while the server waited for more speech, so that of the other
    times only the lag was felt.
    """

    endpointing_ms: float
    queue_ms: float
    transcription_ms: float
    encoding_ms: float
    fusion_ms: float
    decoding_ms: float
    lag_ms: float
    foreseen: bool = False
