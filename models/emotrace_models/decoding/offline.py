"""Decoding a dialogue whose scores are all there: for figures, and parity with the paper's code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from emotrace_models.decoding.beam import revisions
from emotrace_models.decoding.decoder import DecoderConfig, EmotionDecoder
from emotrace_models.decoding.transition import Step, Transition


@dataclass(frozen=True, slots=True)
class Decoded:
    """labels [turn]: the best path after the last turn. emitted [turn]: as `settle` gave them out
    turn by turn; the same as `labels` without a lag. steps [turn]: split of the best path's cost.
    cost: of the best path, the sum of `steps` (with two passes, of both copies' steps).
    ages [turn of all passes]: how many turns old each label was that this turn rewrote.
    """

    labels: tuple[int, ...]
    emitted: tuple[int, ...]
    steps: tuple[Step, ...]
    cost: float
    ages: tuple[tuple[int, ...], ...]


def log_softmax(logits: ArrayLike) -> NDArray[np.float64]:
    """Logits [..., class] -> log-probabilities in float64 (in float32, ties flip single turns)."""
    scores = np.asarray(logits, dtype=np.float64)
    shifted = scores - scores.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def decode_dialogue(
    speakers: Sequence[str | None],
    log_scores: NDArray[np.float64],
    config: DecoderConfig,
    passes: int = 1,
) -> Decoded:
    """Decode a whole dialogue: speakers [turn], log_scores [turn, class].

    passes 1 is causal. passes 2 is the released code: the dialogue twice in a row, labels of the
    second copy; each then knows the whole dialogue, so it cannot be done live (models.md 3.4).
    config.horizon is not used: all labels are kept. Raises ValueError where the arguments do not
    fit each other.
    """
    turns = len(speakers)
    if log_scores.ndim != 2 or len(log_scores) != turns or not turns:
        raise ValueError(f"{turns} speakers do not fit log-scores of shape {log_scores.shape}")
    if passes < 1:
        raise ValueError(f"passes is at least 1, not {passes}")
    if passes > 1 and config.lag is not None:
        raise ValueError("a second pass has no lag: it knows the whole dialogue; use lag None")
    total = turns * passes
    lag = None if config.lag is None or config.lag >= total else config.lag
    config = replace(config, horizon=total, lag=lag, commit=config.commit and lag is not None)
    decoder = EmotionDecoder(log_scores.shape[1], config)
    beam = decoder.start()
    emitted, ages = [], []
    for turn in range(total):
        before = beam
        beam = decoder.advance(before, speakers[turn % turns], log_scores[turn % turns])
        ages.append(tuple(turn - revision.turn for revision in revisions(before, beam)))
        if (settled := decoder.settle(beam)) is not None:
            emitted.append(settled.label)
    emitted += [settled.label for settled in decoder.flush(beam)]
    path = decoder.labels(beam)
    steps = path_steps(tuple(speakers) * passes, np.tile(log_scores, (passes, 1)), path, config)
    return Decoded(
        labels=path[-turns:],
        emitted=tuple(emitted[-turns:]),
        steps=steps[-turns:],
        cost=beam.best.cost,
        ages=tuple(ages),
    )


def path_steps(
    speakers: Sequence[str | None],
    log_scores: NDArray[np.float64],
    labels: Sequence[int],
    config: DecoderConfig,
) -> tuple[Step, ...]:
    """The cost of a given labelling (models.md 3.1), split by turn and reason, without a beam."""
    transition = Transition(config.p0, config.alpha)
    counts = [0] * log_scores.shape[1]
    last: dict[str, int] = {}
    steps = []
    for speaker, scores, label in zip(speakers, log_scores, labels, strict=True):
        before = None if speaker is None else last.get(speaker)
        shift, assignment = transition.split(counts, before, label)
        steps.append(Step(-float(scores[label]), shift, assignment))
        counts[label] += before != label
        if speaker is not None:
            last[speaker] = label
    return tuple(steps)
