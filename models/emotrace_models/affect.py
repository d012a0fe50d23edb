"""Valence and arousal, read off a posterior over labels by a fixed table (docs/affect.md).

Nothing here is learned or measured: it is the posterior in other words. Russell and Mehrabian,
1977, "Evidence for a three-factor theory of emotions", Journal of Research in Personality 11,
273-294: mean ratings of 151 English terms for feelings on pleasure, arousal and dominance, each
from -1 to 1. Emotrace takes pleasure as valence, and leaves dominance out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Affect:
    """A point of the circumplex. valence: unpleasant -1 to pleasant 1. arousal: sleepy to awake."""

    valence: float
    arousal: float


# The term whose published means a label has. `neutral` is no term of theirs: it is the middle of
# both scales. `other` and `unknown` are not feelings, so they have no place.
POINTS: dict[str, Affect] = {
    "neutral": Affect(0.0, 0.0),
    "calm": Affect(0.68, -0.46),  # relaxed
    "happiness": Affect(0.81, 0.51),  # happy
    "excitement": Affect(0.62, 0.75),  # excited
    "sadness": Affect(-0.63, -0.27),  # sad
    "anger": Affect(-0.51, 0.59),  # angry
    "frustration": Affect(-0.64, 0.52),  # frustrated
    "fear": Affect(-0.64, 0.60),  # fearful
    "disgust": Affect(-0.60, 0.35),  # disgusted
    "surprise": Affect(0.40, 0.67),  # surprised
    "boredom": Affect(-0.65, -0.62),  # bored
}


def read_affect(posterior: Mapping[str, float]) -> Affect | None:
    """The expectation of the points under a posterior by label, which sums to 1.

    None where a label has no point: part of the probability would be left out.
    """
    if not posterior.keys() <= POINTS.keys():
        return None
    return Affect(
        math.fsum(share * POINTS[label].valence for label, share in posterior.items()),
        math.fsum(share * POINTS[label].arousal for label, share in posterior.items()),
    )
