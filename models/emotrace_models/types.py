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
    text: str
    source: Literal["client", "server"]
    language: str | None = None
    confidence: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Utterance:
    """One stretch of one speaker's speech between endpoints.

    samples: [sample] float32 in [-1, 1] at 16 kHz, or None for a turn that has no audio.
    start_sample, end_sample: its place in the session, at 16 kHz.
    """

    index: int
    speaker: str
    start_sample: int
    end_sample: int
    samples: FloatArray | None
    transcript: Transcript | None = None


@dataclass(frozen=True, slots=True, eq=False)
class UtteranceFeatures:
    """An utterance as the fusion model sees it: a vector [width] for each modality it has."""

    index: int
    speaker: str
    vectors: Mapping[Modality, FloatArray]


@dataclass(frozen=True, slots=True)
class Slot:
    """The name of one input of the fusion model and what stands in it.

    offset: 0 the current utterance, 1 the one before it, 2 the one before that.
    features: None where the slot is empty.
    """

    offset: int
    role: Role
    modality: Modality
    features: UtteranceFeatures | None

    @property
    def vector(self) -> FloatArray | None:
        return None if self.features is None else self.features.vectors.get(self.modality)


@dataclass(frozen=True, slots=True)
class Context:
    """The last utterances given to the model, as pairs (self, interlocutor), newest first."""

    pairs: tuple[tuple[UtteranceFeatures | None, UtteranceFeatures | None], ...]

    def slots(self, modalities: tuple[Modality, ...]) -> tuple[Slot, ...]:
        """Slots in the order of models.md section 2.2: s = (2 * offset + role) * M + modality."""
        return tuple(
            Slot(offset, role, modality, features)
            for offset, pair in enumerate(self.pairs)
            for role, features in zip((Role.SELF, Role.INTERLOCUTOR), pair, strict=True)
            for modality in modalities
        )


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """Why: contributions [slot, class] of `slots`; their sum and `bias` [class] are the logits."""

    slots: tuple[Slot, ...]
    gates: FloatArray  # [slot]
    contributions: FloatArray  # [slot, class]
    bias: FloatArray  # [class]


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
