"""A temperature and a bias a class fitted to few labels, held to what they were.

softmax(logits / T + b) after Guo et al., 2017 (vector scaling with one scale for all classes). With
T0 and b0 from before, and s = T0 / T, the fit minimises

    sum of -log p(true class)  +  strength / 2 * ((s - 1)^2 + |b - b0|^2)

so `strength` is how many labels it takes to be believed, and the fewer there are, the less moves. A
class with fewer than FEWEST labels keeps its bias, and the mean bias of the others stays: what was
not labelled is neither raised nor lowered. The sum is strictly convex: Newton's method finds it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emotrace_training.metrics import Floats

FEWEST = 5  # labels of a class before its bias may move
STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, math.inf)  # inf: stay as before
STEEPEST = 20.0  # a temperature moves by this factor at most
Labels = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Scaling:
    """temperature; bias [class]."""

    temperature: float
    bias: tuple[float, ...]

    def posterior(self, logits: NDArray[np.floating]) -> Floats:
        """logits [row, class] -> probabilities [row, class], by the rule of Calibration."""
        return _softmax(np.asarray(logits, np.float64) / self.temperature + np.array(self.bias))


def fit_scaling(
    logits: NDArray[np.floating],
    truth: Labels,
    before: Scaling,
    strength: float,
    weights: Floats | None = None,
) -> Scaling:
    """logits [row, class], truth [row]; before: where the fit starts, and what holds it.
    weights [row]: for how many labels each counts; one by default."""
    if math.isinf(strength):
        return before
    x = np.asarray(logits, np.float64) / before.temperature
    start = np.array(before.bias)
    hot = np.eye(x.shape[1])[truth]
    counts = np.ones(len(x)) if weights is None else weights
    moves = hot.sum(axis=0) >= FEWEST
    centre = np.diag(moves.astype(float)) - np.outer(moves, moves) / max(moves.sum(), 1)
    design = np.concatenate([x[:, :, None], np.broadcast_to(centre, (len(x), *centre.shape))], 2)

    def value(parameters: Floats) -> float:
        scores = start + design @ parameters
        high = scores.max(axis=1, keepdims=True)
        nll = np.log(np.exp(scores - high).sum(axis=1)) + high[:, 0] - (scores * hot).sum(axis=1)
        off = parameters - origin
        return float(counts @ nll + strength / 2 * off @ off)

    origin = np.zeros(1 + len(start))
    origin[0] = 1.0
    found = origin.copy()
    for _ in range(50):
        p = _softmax(start + design @ found)
        slope = np.einsum("nc,ncp,n->p", p - hot, design, counts) + strength * (found - origin)
        weighted = design * p[:, :, None]
        mean = weighted.sum(axis=1)
        whole = np.einsum("ncp,ncq,n->pq", weighted, design, counts)
        curve = whole - (mean * counts[:, None]).T @ mean
        step = np.linalg.solve(curve + strength * np.eye(len(found)), slope)
        if (decrement := float(slope @ step)) < 1e-9:
            break
        size, now = 1.0, value(found)
        while value(found - size * step) > now - 0.25 * size * decrement and size > 1e-6:
            size /= 2
        found = found - size * step
    scale = float(np.clip(found[0], 1 / STEEPEST, STEEPEST))
    return Scaling(before.temperature / scale, tuple(float(b) for b in start + centre @ found[1:]))


def choose_strength(
    logits: NDArray[np.floating],
    truth: Labels,
    folds: NDArray[np.int64],
    before: Scaling,
    strengths: Sequence[float] = STRENGTHS,
) -> float:
    """The strength with the smallest negative log-likelihood on folds [row] that are left out; of
    equal ones the strongest."""

    def cost(strength: float) -> float:
        total = 0.0
        for fold in np.unique(folds):
            out = folds == fold
            p = fit_scaling(logits[~out], truth[~out], before, strength).posterior(logits[out])
            total -= float(np.log(np.maximum(p[np.arange(len(p)), truth[out]], 1e-12)).sum())
        return total

    return min(sorted(strengths, reverse=True), key=cost)


def _softmax(scores: Floats) -> Floats:
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))
