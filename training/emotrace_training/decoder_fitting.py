"""The decoder's settings, by the labels that it gives out on dev dialogues."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emotrace_models.decoding import DecoderConfig, decode_dialogue
from emotrace_training.compose import ComposedDialogue

ALPHAS = (0.5, 1.0)
TEMPERATURES = (1.0, 0.7, 0.5, 0.3, 0.15)  # of falling weight of the prior
RESAMPLED = 100  # bootstrap samples of dialogues
Posterior = NDArray[np.float64]
Score = Callable[[NDArray[np.int64], NDArray[np.int64]], float]


def decoded(
    dialogues: Sequence[ComposedDialogue], posterior: Posterior, config: DecoderConfig
) -> NDArray[np.int64]:
    """The decoder's labels [turn] of all dialogues in order, each given out `lag` turns later."""
    labels: list[int] = []
    for dialogue in dialogues:
        part = posterior[len(labels) : len(labels) + len(dialogue.turns)]
        scores = np.log(np.maximum(part, np.finfo(np.float64).tiny))
        speakers = [turn.speaker for turn in dialogue.turns]
        labels += decode_dialogue(speakers, scores, config).emitted
    return np.array(labels, dtype=np.int64)


def choose_decoder(
    dialogues: Sequence[ComposedDialogue],
    posterior: Posterior,
    truth: NDArray[np.int64],
    p0: float,
    score: Score,
) -> tuple[DecoderConfig, list[dict[str, Any]]]:
    """Settings that do no harm, and what each setting gained over the posterior's own labels.

    posterior [turn, class], truth [turn] of all dialogues in order. score: of truth and labels.
    The setting of the largest gain, if that gain is above twice its standard error over resampled
    dialogues (all castings of one together); else the weakest prior tried, which hardly ever
    differs from the posterior.
    """
    plain = posterior.argmax(axis=1)
    names = np.array([dialogue.id for dialogue in dialogues for _ in dialogue.turns])
    turns = [np.flatnonzero(names == name) for name in dict.fromkeys(names.tolist())]
    tried: list[tuple[DecoderConfig, float, float]] = []
    for alpha, temperature in product(ALPHAS, TEMPERATURES):
        config = DecoderConfig(p0=p0, alpha=alpha, temperature=temperature)
        labels = decoded(dialogues, posterior, config)
        generator = np.random.default_rng(0)
        gains = []
        for _ in range(RESAMPLED):
            drawn = generator.integers(len(turns), size=len(turns))
            chosen = np.concatenate([turns[i] for i in drawn])
            gains.append(score(truth[chosen], labels[chosen]) - score(truth[chosen], plain[chosen]))
        tried.append((config, score(truth, labels) - score(truth, plain), float(np.std(gains))))
    best, gain, error = max(tried, key=lambda one: one[1])
    if gain <= 2 * error:
        best = DecoderConfig(p0=p0, alpha=1.0, temperature=TEMPERATURES[-1])
    report = [
        {"alpha": c.alpha, "temperature": c.temperature, "gain": g, "standard_error": e}
        for c, g, e in tried
    ]
    return best, report
