"""The beam: the hypotheses about a dialogue that are still alive, as one immutable value.

It holds all that the next turn needs and no more, so it never grows with the dialogue: for each of
B hypotheses a cost, K run counters, one label a speaker and the last `horizon` labels. Labels are
bytes: appending to 128 of them is one copy of 128 bytes, faster than following links, and nothing
old is kept alive by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import exp, isfinite
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emotrace_models.decoding.transition import Step

MAX_CLASSES = 256  # a label is one byte


class Hypothesis(NamedTuple):
    """One labelling of the dialogue so far.

    cost: negative log score of all turns. counts [class]: runs of each label. last [speaker]: each
    speaker's latest label, in the order of Beam.speakers. tail: labels of the last turns, oldest
    first, at most `horizon`. step: the split of the latest turn's cost.
    """

    cost: float
    counts: tuple[int, ...]
    last: bytes
    tail: bytes
    step: Step


@dataclass(frozen=True, slots=True)
class Beam:
    """Hypotheses by rising cost, after `turns` turns. speakers: those known, as they appeared."""

    turns: int
    speakers: tuple[str, ...]
    hypotheses: tuple[Hypothesis, ...]

    @property
    def best(self) -> Hypothesis:
        return self.hypotheses[0]

    @property
    def first_turn(self) -> int:
        """The oldest turn whose label is kept; older ones are frozen."""
        return self.turns - len(self.best.tail)

    def posterior(self, turn: int) -> NDArray[np.float64]:
        """Probabilities [class] of a kept turn's label: weights exp(-cost) over the beam, sum 1.

        Raises LookupError where the turn is not kept.
        """
        place = turn - self.first_turn
        if not 0 <= place < len(self.best.tail):
            raise LookupError(
                f"turn {turn} is not kept; turns {self.first_turn} to {self.turns - 1} are"
            )
        mass = [0.0] * len(self.best.counts)
        lowest = self.best.cost
        for hypothesis in self.hypotheses:
            mass[hypothesis.tail[place]] += exp(lowest - hypothesis.cost)
        probabilities = np.array(mass)
        return np.asarray(probabilities / probabilities.sum())

    def state(self) -> dict[str, Any]:
        """The beam as plain JSON values; `from_state` gives back an equal beam."""
        return {
            "turns": self.turns,
            "speakers": list(self.speakers),
            "hypotheses": [
                [h.cost, list(h.counts), h.last.hex(), h.tail.hex(), list(h.step)]
                for h in self.hypotheses
            ],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Beam:
        """Raises ValueError where `state` is not what `state()` gives."""
        try:
            beam = cls(
                int(state["turns"]),
                tuple(str(speaker) for speaker in state["speakers"]),
                tuple(
                    Hypothesis(
                        float(cost),
                        tuple(int(n) for n in counts),
                        bytes.fromhex(last),
                        bytes.fromhex(tail),
                        Step(*(float(part) for part in step)),
                    )
                    for cost, counts, last, tail, step in state["hypotheses"]
                ),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not the state of a beam: {error}") from error
        if not beam._sound():
            raise ValueError("not the state of a beam: its parts contradict each other")
        return beam

    def _sound(self) -> bool:
        if not self.hypotheses:
            return False
        classes, kept = len(self.best.counts), len(self.best.tail)
        costs = [h.cost for h in self.hypotheses]
        return (
            kept <= self.turns
            and 1 <= classes <= MAX_CLASSES
            and costs == sorted(costs)
            and all(isfinite(cost) for cost in costs)
            and len(set(self.speakers)) == len(self.speakers)
            and all(
                len(h.counts) == classes
                and min(h.counts) >= 0
                and len(h.tail) == kept
                and len(h.last) == len(self.speakers)
                and all(label < classes for label in h.tail + h.last)
                for h in self.hypotheses
            )
        )


@dataclass(frozen=True, slots=True)
class Settled:
    """A label that is given out for good (fixed lag, models.md 3.7)."""

    turn: int
    label: int


@dataclass(frozen=True, slots=True)
class Revision:
    """An earlier turn's label changed. posterior [class]: of that turn, over the newer beam."""

    turn: int
    old: int
    new: int
    posterior: NDArray[np.float64] = field(compare=False)


def revisions(before: Beam, after: Beam) -> tuple[Revision, ...]:
    """Labels of the best path that `after` reads differently from `before`, oldest turn first.

    Only turns that both beams keep can be revised. Raises ValueError if `after` is the older one.
    """
    if after.turns < before.turns:
        raise ValueError(f"a beam of {after.turns} turns does not follow one of {before.turns}")
    first = max(before.first_turn, after.first_turn)
    kept = before.turns - first
    if kept <= 0:
        return ()
    old = before.best.tail[-kept:]
    new = after.best.tail[first - after.first_turn :][:kept]
    if old == new:
        return ()
    return tuple(
        Revision(turn, a, b, after.posterior(turn))
        for turn, (a, b) in enumerate(zip(old, new, strict=True), start=first)
        if a != b
    )
