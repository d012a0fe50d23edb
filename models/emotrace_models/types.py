"""The values that flow through a dialogue model. No torch, no clock, no socket.

Path: Utterance -> UtteranceFeatures -> Context -> Prediction. Times are samples at 16 kHz.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000  # Hz, of all audio inside

FloatArray = NDArray[np.float32]

K = TypeVar("K")
V = TypeVar("V")


class Modality(StrEnum):
    ACOUSTIC = "acoustic"
    LEXICAL = "lexical"
    FACIAL = "facial"


class Role(StrEnum):
    """Whose utterance a context slot holds, relative to the utterance at that offset."""

    SELF = "self"
    INTERLOCUTOR = "interlocutor"


@dataclass(frozen=True, slots=True)
class Transcript:
    """Words, and what their source knows of how sure they are; None where it does not say.

    log_probability: mean of a token. no_speech: probability that nothing was said. compression:
    how many times smaller the text becomes. capped: the source stopped at its limit of tokens.
    """

    text: str
    source: Literal["client", "server"]
    language: str | None = None
    confidence: float | None = None
    log_probability: float | None = None
    no_speech: float | None = None
    compression: float | None = None
    capped: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture of a speaker.

    sample: when it was taken, on the session's clock at 16 kHz.
    image: an encoded picture (JPEG, PNG), or its pixels [height, width, 3] uint8, red first.
    """

    sample: int
    image: bytes | NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Utterance:
    """One stretch of one speaker's speech between endpoints.

    samples: [sample] float32 in [-1, 1] at 16 kHz, or None for a turn that has no audio.
    start_sample, end_sample: its place in the session, at 16 kHz.
    frames: pictures of the speaker meanwhile, in order of time.
    voice: [frame] the voice detector's probabilities, of the frames of 32 ms that hold `samples`;
        None where no detector listened.
    """

    index: int
    speaker: str
    start_sample: int
    end_sample: int
    samples: FloatArray | None
    transcript: Transcript | None = None
    frames: tuple[Frame, ...] = ()
    voice: FloatArray | None = None


@dataclass(frozen=True, slots=True, eq=False)
class UtteranceFeatures:
    """An utterance as the fusion model sees it: what its encoders made of it, by stream.

    A stream is what one encoder gives, a vector [width] or a sequence [step, width] of at least one
    step; most bear the name of their modality. A stream that the utterance does not have is absent.
    """

    index: int
    speaker: str
    streams: Mapping[str, FloatArray]


@dataclass(frozen=True, slots=True)
class Slot:
    """The name of one input of the fusion model and what stands in it.

    offset: 0 the current utterance, 1 the one before it, 2 the one before that.
    features: None where the slot is empty.
    """

    offset: int
    role: Role
    modality: Modality
    stream: str
    features: UtteranceFeatures | None

    @property
    def values(self) -> FloatArray | None:
        """[width] or [step, width]; None where the slot is empty."""
        return None if self.features is None else self.features.streams.get(self.stream)


@dataclass(frozen=True, slots=True)
class Entry:
    """One place of a context: an utterance, and what it is to the current one."""

    offset: int
    role: Role
    features: UtteranceFeatures | None


@dataclass(frozen=True, slots=True)
class Context:
    """The utterances given to the model; the current one comes first."""

    entries: tuple[Entry, ...]

    def slots(self, streams: Mapping[str, Modality]) -> tuple[Slot, ...]:
        """Slots in the order of models.md section 2.2: s = entry * (number of streams) + stream."""
        return tuple(
            Slot(entry.offset, entry.role, modality, stream, entry.features)
            for entry in self.entries
            for stream, modality in streams.items()
        )


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """Why: contributions [slot, class] of `slots`; their sum and `bias` [class] are the logits.

    gates: [slot], None where the model has none.
    method: `additive`, the model is itself a sum of these terms; `shapley`, the contributions are
    Shapley values (emotrace_models.attribution).
    """

    slots: tuple[Slot, ...]
    gates: FloatArray | None
    contributions: FloatArray  # [slot, class]
    bias: FloatArray  # [class]
    method: Literal["additive", "shapley"]


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """One utterance's estimate, before the decoder.

    logits: [class] raw. posterior: [class] float64, calibrated, sums to 1.
    confidence: the largest posterior. abstained: confidence is under the bundle's threshold.
    used, missing: modalities of the bundle that the current utterance had and had not.
    """

    logits: FloatArray
    posterior: NDArray[np.float64]
    confidence: float
    abstained: bool
    used: tuple[Modality, ...]
    missing: tuple[Modality, ...]
    explanation: Explanation


def frozen_mapping(items: Mapping[K, V]) -> Mapping[K, V]:
    """A read-only copy, for values that are shared between sessions and threads."""
    return MappingProxyType(dict(items))
