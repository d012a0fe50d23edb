"""Metrics, named by their formula (models.md 1.1).

The literature's WA and UA are swapped between papers, so those two names do not occur here.
M[i, j] is the number of samples of true class i that were predicted as j; N_i its row sum.

A class that does not occur in the truth has no recall, so `uar` leaves it out; F1 and precision are
averaged over the classes that occur in the truth or in the predictions. Without any sample a metric
is not defined: EmptyFold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]
Matrix = NDArray[np.int64 | np.float64]  # samples may carry weights


class EmptyFold(ValueError):
    """No sample to measure on."""


def confusion(truth: ArrayLike, predicted: ArrayLike, classes: int) -> Counts:
    """Class indices [sample], twice -> M [class, class], rows = truth. Raises ValueError."""
    rows, columns = np.asarray(truth), np.asarray(predicted)
    if rows.shape != columns.shape or rows.ndim != 1:
        raise ValueError(f"truth {rows.shape} and predictions {columns.shape} do not match")
    matrix = np.zeros((classes, classes), dtype=np.int64)
    if rows.size:
        both = np.stack([rows, columns])
        if both.min() < 0 or both.max() >= classes:
            raise ValueError(f"class indices must lie between 0 and {classes - 1}")
        np.add.at(matrix, (rows, columns), 1)
    return matrix


def accuracy(matrix: Matrix) -> float:
    """sum_i M[i,i] / N: overall accuracy."""
    return float(np.trace(matrix) / _total(matrix))


def uar(matrix: Matrix) -> float:
    """mean_i M[i,i] / N_i over classes with N_i > 0: macro recall, balanced accuracy."""
    _total(matrix)
    present = matrix.sum(axis=1) > 0
    return float(recalls(matrix)[present].mean())


def recalls(matrix: Matrix) -> Floats:
    """M[i,i] / N_i, [class]; 0 for a class without samples."""
    return _ratio(np.diag(matrix), matrix.sum(axis=1))


def precisions(matrix: Matrix) -> Floats:
    """M[i,i] / sum_j M[j,i], [class]; 0 for a class that was never predicted."""
    return _ratio(np.diag(matrix), matrix.sum(axis=0))


def f1_scores(matrix: Matrix) -> Floats:
    """2 M[i,i] / (N_i + number predicted as i), [class]: the F1 of each class."""
    return _ratio(2 * np.diag(matrix), matrix.sum(axis=1) + matrix.sum(axis=0))


def f1_macro(matrix: Matrix) -> float:
    """Mean of the classes' F1."""
    _total(matrix)
    return float(f1_scores(matrix)[_occurring(matrix)].mean())


def f1_weighted(matrix: Matrix) -> float:
    """The classes' F1 weighted by N_i / N."""
    return float(f1_scores(matrix) @ matrix.sum(axis=1) / _total(matrix))


def f1_of_macro_pr(matrix: Matrix) -> float:
    """2PR / (P + R), P the mean precision and R the `uar`; not the same as `f1_macro`."""
    recall = uar(matrix)
    precision = float(precisions(matrix)[_occurring(matrix)].mean())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def one_vs_rest(matrix: Matrix, label: int) -> Matrix:
    """M of the binary task "class `label` or not", [2, 2], the rest first."""
    hit = matrix[label, label]
    missed, false = matrix[label].sum() - hit, matrix[:, label].sum() - hit
    return np.array([[matrix.sum() - hit - missed - false, false], [missed, hit]])


def binary_acc(matrix: Matrix) -> Floats:
    """Accuracy of every one-vs-rest task, [class]."""
    return np.array([accuracy(one_vs_rest(matrix, label)) for label in range(len(matrix))])


def binary_f1(matrix: Matrix) -> Floats:
    """Weighted F1 of every one-vs-rest task, [class]."""
    return np.array([f1_weighted(one_vs_rest(matrix, label)) for label in range(len(matrix))])


def per_class(matrix: Matrix, names: Sequence[str]) -> dict[str, dict[str, float | int | None]]:
    """For each class name: count, predicted, recall, precision, f1; None where not defined."""
    counts, predicted = matrix.sum(axis=1), matrix.sum(axis=0)
    recall, precision, f1 = recalls(matrix), precisions(matrix), f1_scores(matrix)
    return {
        name: {
            "count": int(counts[i]),
            "predicted": int(predicted[i]),
            "recall": float(recall[i]) if counts[i] else None,
            "precision": float(precision[i]) if predicted[i] else None,
            "f1": float(f1[i]) if counts[i] + predicted[i] else None,
        }
        for i, name in enumerate(names)
    }


def summary(matrix: Matrix, names: Sequence[str]) -> dict[str, Any]:
    """All metrics of a confusion matrix as plain values, ready for JSON. Raises EmptyFold."""
    if matrix.shape != (len(names), len(names)):
        raise ValueError(f"a matrix of shape {matrix.shape} does not fit {len(names)} class names")
    return {
        "uar": uar(matrix),
        "accuracy": accuracy(matrix),
        "f1_macro": f1_macro(matrix),
        "f1_weighted": f1_weighted(matrix),
        "f1_of_macro_pr": f1_of_macro_pr(matrix),
        "count": int(matrix.sum()),
        "classes": list(names),
        "confusion": matrix.tolist(),
        "per_class": per_class(matrix, names),
    }


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """Confidence against accuracy, [bin] each. Bin b holds b/bins < confidence <= (b+1)/bins.

    confidence and accuracy are means over the bin's `count` samples, 0 in an empty bin.
    """

    count: Counts
    confidence: Floats
    accuracy: Floats

    @property
    def expected_calibration_error(self) -> float:
        """sum_b (n_b / N) |accuracy_b - confidence_b| (Naeini et al., 2015; Guo et al., 2017)."""
        weights = self.count / self.count.sum()
        return float(weights @ np.abs(self.accuracy - self.confidence))


def reliability(posterior: ArrayLike, truth: ArrayLike, bins: int = 15) -> Reliability:
    """posterior [sample, class], truth [sample] -> `bins` equal-width bins of the confidence.

    The confidence of a sample is its largest probability. Raises ValueError, EmptyFold.
    """
    p, t = _probabilities(posterior, truth)
    confidence = p.max(axis=1)
    correct = (p.argmax(axis=1) == t).astype(np.float64)
    edges = np.linspace(0.0, 1.0, bins + 1)[1:-1]
    place = np.searchsorted(edges, confidence, side="left")
    count = np.bincount(place, minlength=bins).astype(np.int64)
    return Reliability(
        count,
        _ratio(np.bincount(place, confidence, bins), count),
        _ratio(np.bincount(place, correct, bins), count),
    )


def expected_calibration_error(posterior: ArrayLike, truth: ArrayLike, bins: int = 15) -> float:
    """sum_b (n_b / N) |accuracy_b - confidence_b| over equal-width bins of the confidence."""
    return reliability(posterior, truth, bins).expected_calibration_error


def negative_log_likelihood(posterior: ArrayLike, truth: ArrayLike) -> float:
    """-mean log p[true class], in nats; infinite where a true class was given probability 0."""
    p, t = _probabilities(posterior, truth)
    with np.errstate(divide="ignore"):
        return float(-np.log(p[np.arange(len(t)), t]).mean())


def brier(posterior: ArrayLike, truth: ArrayLike) -> float:
    """mean over samples of sum_c (p_c - [c is the true class])^2, between 0 and 2."""
    p, t = _probabilities(posterior, truth)
    return float(((p - np.eye(p.shape[1])[t]) ** 2).sum(axis=1).mean())


@dataclass(frozen=True, slots=True, eq=False)
class RiskCoverage:
    """What answering only where one is sure costs and gains, [threshold] each, surest first.

    At threshold i the samples with confidence >= `confidence[i]` are answered: `coverage[i]` is
    their share of all, `risk[i]` the share of errors among them. Equal confidences stand or fall
    together, so that the order of the samples does not matter.
    """

    confidence: Floats
    coverage: Floats
    risk: Floats

    @property
    def aurc(self) -> float:
        """Area under the curve: the mean over samples of the risk at their own confidence
        (Geifman, Uziel and El-Yaniv, ICLR 2019)."""
        return float(np.diff(self.coverage, prepend=0.0) @ self.risk)

    def risk_at(self, coverage: float) -> float:
        """The risk where at least this share, from above 0 to 1, is answered. Raises ValueError."""
        if not 0 < coverage <= 1:
            raise ValueError(f"a coverage is above 0 and at most 1, not {coverage}")
        # The shares are sums of 1/N; a coverage of exactly k/N must find the k-th sample.
        return float(self.risk[np.searchsorted(self.coverage, coverage - 1e-9)])


def risk_coverage(posterior: ArrayLike, truth: ArrayLike) -> RiskCoverage:
    """posterior [sample, class], truth [sample] -> the curve over every threshold of confidence.

    The confidence of a sample is its largest probability (El-Yaniv and Wiener, JMLR 2010). Raises
    ValueError, EmptyFold.
    """
    p, t = _probabilities(posterior, truth)
    confidence, place = np.unique(-p.max(axis=1), return_inverse=True)
    answered = np.cumsum(np.bincount(place))
    wrong = np.cumsum(np.bincount(place, p.argmax(axis=1) != t))
    return RiskCoverage(-confidence, answered / len(t), wrong / answered)


def _probabilities(posterior: ArrayLike, truth: ArrayLike) -> tuple[Floats, NDArray[np.intp]]:
    p = np.asarray(posterior, dtype=np.float64)
    t = np.asarray(truth, dtype=np.intp)
    if p.ndim != 2 or t.shape != p.shape[:1]:
        raise ValueError(f"posterior {p.shape} and truth {t.shape} do not match")
    if not t.size:
        raise EmptyFold("there is no sample to measure calibration on")
    if t.min() < 0 or t.max() >= p.shape[1]:
        raise ValueError(f"class indices must lie between 0 and {p.shape[1] - 1}")
    if not ((p >= 0).all() and np.allclose(p.sum(axis=1), 1.0, atol=1e-4)):
        raise ValueError("posteriors are probabilities: at least 0, and each row sums to 1")
    return p, t


def _total(matrix: Matrix) -> float:
    total = float(matrix.sum())
    if total <= 0:
        raise EmptyFold("there is no sample to measure on")
    return total


def _occurring(matrix: Matrix) -> NDArray[np.bool_]:
    return np.asarray(matrix.sum(axis=0) + matrix.sum(axis=1) > 0)


def _ratio(above: ArrayLike, below: ArrayLike) -> Floats:
    """above / below, 0 where below is 0."""
    numerator = np.asarray(above, dtype=np.float64)
    denominator = np.asarray(below, dtype=np.float64)
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)
