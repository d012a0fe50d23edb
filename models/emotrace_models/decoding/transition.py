"""What the decoder's prior costs: emotional shift and emotion assignment (models.md 3.1, 3.2).

Yeh, Lin and Lee, "A dialogical emotion decoder for speech emotion recognition in spoken dialog",
ICASSP 2020. A speaker's label shifts with probability p0 (a Bernoulli); the label that a shift
leads to follows a distance-dependent Chinese restaurant process with concentration alpha over the
runs of labels so far, which all speakers share. All costs are negative natural logs.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from math import inf, log, log1p
from typing import NamedTuple


class Step(NamedTuple):
    """The cost of one turn's label, split by reason. emission + shift + assignment = the cost.

    emission: minus the classifier's log-score. shift: Bernoulli(p0). assignment: the process over
    runs; 0 where the speaker stays with the same label.
    """

    emission: float
    shift: float
    assignment: float


class Transition:
    """Shift and assignment costs for one pair (p0, alpha).

    counts [class]: runs of each label so far, over all speakers. last: the speaker's latest label,
    or None for a speaker who has not spoken.
    """

    def __init__(self, p0: float, alpha: float) -> None:
        """Raises ValueError unless 0 < p0 < 1 and 0 < alpha < infinity."""
        if not 0.0 < p0 < 1.0:
            raise ValueError(f"p0 is a probability between 0 and 1, both excluded, not {p0}")
        if not 0.0 < alpha < inf:
            raise ValueError(f"alpha is a positive number, not {alpha}")
        self._alpha = alpha
        self._log_alpha = log(alpha)
        self._stay = -log1p(-p0)
        self._shift = -log(p0)

    def costs(self, counts: Sequence[int], last: int | None) -> list[float]:
        """Shift plus assignment cost of every label, [class]."""
        arrive = self._shift + log(sum(counts) + self._alpha)
        new = arrive - self._log_alpha
        if last is None:
            return [new] * len(counts)
        costs = [arrive - log(n) if n else new for n in counts]
        costs[last] = self._stay
        return costs

    def split(self, counts: Sequence[int], last: int | None, label: int) -> tuple[float, float]:
        """(shift, assignment) cost of one label; their sum is `costs(...)[label]`."""
        if last == label:
            return self._stay, 0.0
        # Trap: the weight is alpha also for a known label if the speaker is new, so a speaker's
        # first turn is decided by the emission alone.
        runs = counts[label] if last is not None else 0
        log_weight = log(runs) if runs else self._log_alpha
        return self._shift, log(sum(counts) + self._alpha) - log_weight


def estimate_p0(dialogues: Iterable[Iterable[tuple[str | None, Hashable]]]) -> float:
    """The shift probability of reference dialogues, each a sequence of (speaker, label).

    (label changes between consecutive turns of the same speaker + 1) / (number of such pairs).
    Estimate it on the kind of sequence that will be decoded: in the original all turns count, also
    those whose label is outside the class set. Turns of an unknown speaker (None) are left out.
    Raises ValueError where the dialogues are too few to give a probability below 1.
    """
    changes = pairs = 0
    for dialogue in dialogues:
        last: dict[str, Hashable] = {}
        for speaker, label in dialogue:
            if speaker is None:
                continue
            if speaker in last:
                pairs += 1
                changes += last[speaker] != label
            last[speaker] = label
    if changes + 1 >= pairs:
        raise ValueError(
            f"{pairs} pairs of turns with {changes} label changes give no p0 below 1: "
            "use more dialogues, or choose p0 by hand"
        )
    return (changes + 1) / pairs
