"""The Dialogical Emotion Decoder as it was published: offline, over whole sequences.

Written from models.md sections 3.1 to 3.4. As in the released code every candidate owns copies of
the sequences of speakers and labels, the latest label of a speaker is found by walking back through
them, and a new turn means decoding the dialogue anew, twice in a row. Membership is looked up in
plain lists; the released code builds a sorted array for each look, which is slower still.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import numpy as np
from numpy.typing import NDArray

PUBLISHED_BEAM = 5
PUBLISHED_PASSES = 2


@dataclass(frozen=True, slots=True)
class Candidate:
    """counts [class]: runs of each label. cost: negative log score."""

    speakers: list[str]
    labels: list[int]
    counts: list[int]
    cost: float


@dataclass(frozen=True, slots=True)
class Redecoded:
    """labels [turn]: of the last pass. cost: of all passes."""

    labels: tuple[int, ...]
    cost: float


def redecode(
    speakers: Sequence[str],
    log_scores: NDArray[np.float64],
    p0: float,
    *,
    alpha: float = 1.0,
    beam: int = PUBLISHED_BEAM,
    passes: int = PUBLISHED_PASSES,
) -> Redecoded:
    """speakers [turn], log_scores [turn, class] of a whole dialogue of at least one turn."""
    classes = log_scores.shape[1]
    alive = [Candidate([], [], [0] * classes, 0.0)]
    for speaker, scores in list(zip(speakers, log_scores.tolist(), strict=True)) * passes:
        candidates = [
            extended(one, speaker, label, scores[label], p0, alpha)
            for one in alive
            for label in range(classes)
        ]
        alive = sorted(candidates, key=lambda one: one.cost)[:beam]
    return Redecoded(tuple(alive[0].labels[-len(speakers) :]), alive[0].cost)


def extended(
    before: Candidate, speaker: str, label: int, score: float, p0: float, alpha: float
) -> Candidate:
    speakers, labels, counts = before.speakers.copy(), before.labels.copy(), before.counts.copy()
    cost = -score
    if label in labels and speaker in speakers:
        last = next(
            y for s, y in zip(reversed(speakers), reversed(labels), strict=True) if s == speaker
        )
        if label == last:
            cost -= log(1 - p0)
        else:
            cost -= log(p0) + log(counts[label]) - log(sum(counts) + alpha)
            counts[label] += 1
    else:
        cost -= log(p0) + log(alpha) - log(sum(counts) + alpha)
        counts[label] += 1
    return Candidate([*speakers, speaker], [*labels, label], counts, before.cost + cost)
