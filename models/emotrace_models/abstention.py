"""When an estimate is withheld: the one rule that joins confidence and doubts about the sound.

A bundle states a confidence under which it abstains, fitted on sound as its training data has it.
Where the sound is worse, confidence says less, so more of it is asked for.
"""

from __future__ import annotations

from collections.abc import Collection

GRAVE = frozenset({"clipping", "noise", "short", "music", "low_level"})
STRICTER = 1 / 3  # of the way from the bundle's threshold to certainty


def abstains(confidence: float, abstain_below: float, doubts: Collection[str]) -> bool:
    """Whether a label of this confidence is withheld.

    abstain_below: the bundle's threshold. doubts: names of DoubtCode; one of GRAVE is enough, more
    do not add up. Text that was not used, a language that is not read and a face that was not seen
    count for nothing here: the calibration of the modalities that are left knows that.
    """
    grave = not GRAVE.isdisjoint(doubts)
    return confidence < abstain_below + grave * STRICTER * (1.0 - abstain_below)
