"""The Dialogical Emotion Decoder, one turn at a time (models.md section 3).

`advance` is a pure function of an immutable beam, so an estimate that shall not count is a beam
that nobody keeps. After turn t the beam is that of the offline single-pass decoder on turns 1..t.
A turn costs O(B * (K + S + horizon)), whatever the length of the dialogue (B hypotheses, K classes,
S speakers).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

import numpy as np
from numpy.typing import ArrayLike, NDArray

from emotrace_models.decoding.beam import MAX_CLASSES, Beam, Hypothesis, Settled
from emotrace_models.decoding.transition import Step, Transition


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """Settings of the decoder; ValueError or TypeError where they make no sense.

    p0: shift probability (transition.estimate_p0). alpha: concentration of the process over runs.
    beam: hypotheses kept. lag: turns after which a label is given out by `settle`; None: as late as
    the horizon allows. commit: a label given out is never contradicted later (needs a lag).
    recombine: merge hypotheses that no later turn can tell apart, which is exact and frees places
    in the beam; off reproduces the published decoder. horizon: labels kept for revision, in turns.
    temperature: divides the log-scores, so that under 1 what is heard weighs more against the
    prior (models.md 3.1: the scale of the scores matters; 1 is the published decoder).
    """

    p0: float
    alpha: float = 1.0
    beam: int = 10
    lag: int | None = 2
    commit: bool = False
    recombine: bool = True
    horizon: int = 128
    temperature: float = 1.0

    def __post_init__(self) -> None:
        Transition(self.p0, self.alpha)  # checks both
        if not 0.0 < self.temperature < float("inf"):
            raise ValueError(f"a temperature is a positive number, not {self.temperature}")
        for name, value in (("beam", self.beam), ("horizon", self.horizon)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} is an integer of at least 1, not {value}")
        if self.lag is not None and not 0 <= self.lag < self.horizon:
            raise ValueError(
                f"lag {self.lag} is not between 0 and the horizon of {self.horizon} turns"
            )
        if self.commit and self.lag is None:
            raise ValueError("commit needs a lag: the number of turns after which labels are final")


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """The newest turn in the light of the dialogue so far.

    label: on the best path. posterior [class]: over the beam. emission, shift, assignment: the
    costs of this turn on the best path. runner_up: the label of the cheapest path that gives this
    turn another one, and gap, the difference of the two paths' costs; None where all agree.
    """

    label: int
    posterior: NDArray[np.float64]
    emission: float
    shift: float
    assignment: float
    runner_up: int | None
    gap: float | None


class EmotionDecoder:
    """Decoder of one label set. Holds settings only; what is known of a dialogue is in its Beam."""

    def __init__(self, classes: int, config: DecoderConfig) -> None:
        """classes: how many labels there are, 1 to 256. Raises ValueError."""
        if not 1 <= classes <= MAX_CLASSES:
            raise ValueError(f"the decoder takes 1 to {MAX_CLASSES} classes, not {classes}")
        self.classes = classes
        self.config = config
        self._transition = Transition(config.p0, config.alpha)
        self._labels = [bytes((label,)) for label in range(classes)]

    def start(self) -> Beam:
        """The beam of a dialogue in which nobody has spoken: one empty hypothesis."""
        nothing = Hypothesis(0.0, (0,) * self.classes, b"", b"", Step(0.0, 0.0, 0.0))
        return Beam(0, (), (nothing,))

    def advance(self, beam: Beam, speaker: str | None, log_scores: ArrayLike) -> Beam:
        """One more turn: log_scores [class] of its speaker -> the next beam; `beam` stays as it is.

        log_scores may be log-probabilities or raw logits (the ranking is the same; only the
        emission cost is then off by a constant). speaker None: not known, so taken for somebody
        never heard before and never again. Raises ValueError for a wrong shape, NaN or infinity.
        """
        scores = self._checked(beam, log_scores)
        place = beam.speakers.index(speaker) if speaker in beam.speakers else None
        prior = self._transition.costs
        costs: list[float] = []
        for h in beam.hypotheses:
            base = h.cost
            terms = prior(h.counts, None if place is None else h.last[place])
            costs += [base - score + term for score, term in zip(scores, terms, strict=True)]
        speakers = beam.speakers
        if place is None and speaker is not None:
            speakers = (*speakers, speaker)
        introduces = len(speakers) > len(beam.speakers)
        survivors = self._survivors(beam, scores, costs, place, introduces)
        if self.config.commit and self.config.lag is not None:
            survivors = _agreeing(survivors, self.config.lag)
        return Beam(beam.turns + 1, speakers, tuple(survivors))

    def decide(self, beam: Beam) -> Decision:
        """The newest turn's label with its reasons. Raises LookupError where there is no turn."""
        posterior = beam.posterior(beam.turns - 1)
        best = beam.best
        label = best.tail[-1]
        other = next((h for h in beam.hypotheses if h.tail[-1] != label), None)
        return Decision(
            label=label,
            posterior=posterior,
            emission=best.step.emission,
            shift=best.step.shift,
            assignment=best.step.assignment,
            runner_up=None if other is None else other.tail[-1],
            gap=None if other is None else other.cost - best.cost,
        )

    def labels(self, beam: Beam) -> tuple[int, ...]:
        """Labels of the best path from turn `beam.first_turn` to the newest."""
        return tuple(beam.best.tail)

    def settle(self, beam: Beam) -> Settled | None:
        """The label that turn `beam.turns - 1` gives out for good: that of the turn `lag` before.

        Called after every `advance`, and `flush` at the end, every turn is given out exactly once.
        Without commit, later turns may still prefer another label (see `revisions`).
        """
        lag = self._lag()
        if beam.turns <= lag:
            return None
        return Settled(beam.turns - 1 - lag, beam.best.tail[-1 - lag])

    def flush(self, beam: Beam) -> tuple[Settled, ...]:
        """At the end of the dialogue: the labels that `settle` has not given out yet."""
        first = max(0, beam.turns - self._lag())
        rest = beam.best.tail[first - beam.first_turn :]
        return tuple(Settled(turn, label) for turn, label in enumerate(rest, start=first))

    def _lag(self) -> int:
        return self.config.horizon - 1 if self.config.lag is None else self.config.lag

    def _checked(self, beam: Beam, log_scores: ArrayLike) -> list[float]:
        array = np.asarray(log_scores, dtype=np.float64)
        if array.shape != (self.classes,) or len(beam.best.counts) != self.classes:
            raise ValueError(
                f"a decoder of {self.classes} classes was given scores of shape {array.shape} "
                f"and a beam of {len(beam.best.counts)} classes"
            )
        scores: list[float] = (array / self.config.temperature).tolist()
        if not all(isfinite(score) for score in scores):
            raise ValueError("log-scores must be finite: clip probabilities above 0 before the log")
        return scores

    def _survivors(
        self,
        beam: Beam,
        scores: list[float],
        costs: list[float],
        place: int | None,
        introduces: bool,
    ) -> list[Hypothesis]:
        """The cheapest candidates, equal costs in the order hypothesis, label; only they are built.

        costs [hypothesis * class]. place: the speaker in Beam.speakers, None if not heard before.
        introduces: whether later turns may know this new speaker.
        """
        size, recombine, horizon = self.config.beam, self.config.recombine, self.config.horizon
        survivors: list[Hypothesis] = []
        seen: set[tuple[tuple[int, ...], bytes]] = set()
        for index in sorted(range(len(costs)), key=costs.__getitem__):
            parent, label = divmod(index, self.classes)
            h = beam.hypotheses[parent]
            counts, last = h.counts, h.last
            before = None if place is None else last[place]
            if before != label:  # the counters move with runs, not with turns
                counts = (*counts[:label], counts[label] + 1, *counts[label + 1 :])
                if place is not None:
                    last = last[:place] + self._labels[label] + last[place + 1 :]
                elif introduces:
                    last += self._labels[label]
            if recombine:
                # Later costs depend on (counts, last) alone (models.md 3.8); the first is cheaper.
                if (counts, last) in seen:
                    continue
                seen.add((counts, last))
            shift, assignment = self._transition.split(h.counts, before, label)
            survivors.append(
                Hypothesis(
                    costs[index],
                    counts,
                    last,
                    (h.tail + self._labels[label])[-horizon:],
                    Step(-scores[label], shift, assignment),
                )
            )
            if len(survivors) == size:
                break
        return survivors


def _agreeing(survivors: list[Hypothesis], lag: int) -> list[Hypothesis]:
    """Those that give the turn `lag` before the newest the same label as the best one does."""
    if len(survivors[0].tail) <= lag:
        return survivors
    settled = survivors[0].tail[-1 - lag]
    return [h for h in survivors if h.tail[-1 - lag] == settled]
