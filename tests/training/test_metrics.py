"""Metrics: the worked example of models.md 1.2, absent classes, calibration."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from emotrace_training import metrics

# GatedxLSTM, Table IV: recall and F1 of angry, happy, neutral, sad, and the test counts.
RECALL = np.array([77.07, 55.95, 82.10, 80.00]) / 100
F1 = np.array([76.02, 65.52, 79.29, 77.54]) / 100
COUNT = np.array([41.0, 74.0, 162.0, 149.0])


def published() -> metrics.Matrix:
    """A matrix with those counts, recalls and F1: diagonal N r, column sums 2 N r / F1 - N.

    The table's values are means of several runs, so their column sums exceed the row sums by 0.1 %;
    the errors are spread over the cells to fit the rows exactly and the columns up to that.
    """
    hits = COUNT * RECALL
    missed, false = COUNT - hits, 2 * hits / F1 - COUNT - hits
    assert false.sum() == pytest.approx(missed.sum(), abs=0.5)
    matrix = 1.0 - np.eye(4)
    for _ in range(500):
        matrix *= false * (missed.sum() / false.sum()) / matrix.sum(axis=0)
        matrix *= (missed / matrix.sum(axis=1))[:, None]
    return matrix + np.diag(hits)


def test_12_10_worked_example() -> None:
    matrix = published()
    assert matrix.sum(axis=1) == pytest.approx(COUNT)
    assert metrics.accuracy(matrix) == pytest.approx(0.7634, abs=5e-5)
    assert metrics.uar(matrix) == pytest.approx(0.7378, abs=5e-5)
    assert metrics.f1_scores(matrix) == pytest.approx(F1, abs=2e-3)
    assert metrics.f1_weighted(matrix) == pytest.approx(0.7597, abs=5e-4)
    assert F1 @ COUNT / COUNT.sum() == pytest.approx(0.7597, abs=5e-5)


def test_12_10_one_released_run() -> None:
    matrix = np.array([[38, 0, 3, 0], [0, 54, 6, 14], [8, 7, 136, 11], [4, 6, 19, 120]])
    assert metrics.accuracy(matrix) == pytest.approx(0.8169, abs=5e-5)
    assert metrics.uar(matrix) == pytest.approx(0.8254, abs=5e-5)


def test_small_example_by_hand() -> None:
    matrix = metrics.confusion([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 2, 2], 3)
    assert matrix.tolist() == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]
    assert metrics.accuracy(matrix) == pytest.approx(4 / 6)
    assert metrics.uar(matrix) == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    f1 = [2 * 2 / 5, 2 / 4, 2 / 3]
    assert metrics.f1_scores(matrix) == pytest.approx(f1)
    assert metrics.f1_macro(matrix) == pytest.approx(np.mean(f1))
    assert metrics.f1_weighted(matrix) == pytest.approx((3 * f1[0] + 2 * f1[1] + f1[2]) / 6)
    p, r = (1 + 1 / 2 + 1 / 2) / 3, (2 / 3 + 1 / 2 + 1) / 3
    assert metrics.f1_of_macro_pr(matrix) == pytest.approx(2 * p * r / (p + r))
    assert metrics.binary_acc(matrix) == pytest.approx([5 / 6, 4 / 6, 5 / 6])
    # class 2 against the rest: 1 hit, none missed, 1 false alarm, 4 others
    assert metrics.one_vs_rest(matrix, 2).tolist() == [[4, 1], [0, 1]]
    assert metrics.binary_f1(matrix)[2] == pytest.approx((5 * 8 / 9 + 1 * 2 / 3) / 6)


def test_12_10_a_class_that_is_absent() -> None:
    # Class 1 does not occur in the truth but is predicted once; class 3 occurs nowhere.
    matrix = metrics.confusion([0, 0, 2, 2], [0, 1, 2, 2], 4)
    assert metrics.uar(matrix) == pytest.approx((1 / 2 + 1) / 2)
    assert metrics.f1_macro(matrix) == pytest.approx((2 / 3 + 0 + 1) / 3)
    assert metrics.f1_weighted(matrix) == pytest.approx((2 / 3 + 1) / 2)
    table = metrics.per_class(matrix, "abcd")
    assert table["b"] == {"count": 0, "predicted": 1, "recall": None, "precision": 0.0, "f1": 0.0}
    assert table["d"] == {"count": 0, "predicted": 0, "recall": None, "precision": None, "f1": None}
    assert metrics.uar(np.array([[0, 3], [0, 0]])) == 0.0
    assert metrics.f1_of_macro_pr(np.array([[0, 3], [0, 0]])) == 0.0


@given(hnp.arrays(np.int64, (4, 4), elements=st.integers(0, 50)))
def test_relations_between_metrics(matrix: metrics.Matrix) -> None:
    if not matrix.sum():
        for metric in (metrics.accuracy, metrics.uar, metrics.f1_macro, metrics.f1_weighted):
            with pytest.raises(metrics.EmptyFold):
                metric(matrix)
        return
    summary = metrics.summary(matrix, "abcd")
    weights = matrix.sum(axis=1) / matrix.sum()
    assert summary["accuracy"] == pytest.approx(metrics.recalls(matrix) @ weights)
    assert all(0 <= summary[name] <= 1 for name in
               ("uar", "accuracy", "f1_macro", "f1_weighted", "f1_of_macro_pr"))  # fmt: skip
    again = np.repeat(np.repeat(np.arange(4), 4), matrix.ravel())
    predicted = np.repeat(np.tile(np.arange(4), 4), matrix.ravel())
    assert (metrics.confusion(again, predicted, 4) == matrix).all()


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="do not match"):
        metrics.confusion([0, 1], [0], 2)
    with pytest.raises(ValueError, match="between 0 and 1"):
        metrics.confusion([0, 2], [0, 1], 2)
    with pytest.raises(ValueError, match="does not fit 3 class names"):
        metrics.summary(np.eye(2, dtype=np.int64), "abc")
    with pytest.raises(ValueError, match="each row sums to 1"):
        metrics.brier([[0.5, 0.4]], [0])
    with pytest.raises(ValueError, match="between 0 and 1"):
        metrics.brier([[0.5, 0.5]], [2])
    with pytest.raises(ValueError, match="do not match"):
        metrics.brier([[0.5, 0.5]], [0, 1])
    with pytest.raises(metrics.EmptyFold):
        metrics.expected_calibration_error(np.zeros((0, 2)), [])


def test_calibration_by_hand() -> None:
    posterior = [[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.2, 0.8]]
    truth = [0, 1, 0, 1]
    # Bins of width 1/15: 0.9 twice (accuracy 1/2), 0.6 once (right), 0.8 once (right).
    expected = 2 / 4 * abs(0.5 - 0.9) + 1 / 4 * 0.4 + 1 / 4 * 0.2
    assert metrics.expected_calibration_error(posterior, truth) == pytest.approx(expected)
    assert metrics.negative_log_likelihood(posterior, truth) == pytest.approx(
        -np.log([0.9, 0.1, 0.6, 0.8]).mean()
    )
    squares = [2 * 0.1**2, 2 * 0.9**2, 2 * 0.4**2, 2 * 0.2**2]
    assert metrics.brier(posterior, truth) == pytest.approx(np.mean(squares))
    assert metrics.negative_log_likelihood([[1.0, 0.0]], [1]) == np.inf


def test_bins_include_their_upper_edge() -> None:
    curve = metrics.reliability([[0.5, 0.5], [0.75, 0.25], [0.76, 0.24], [1.0, 0.0]], [0] * 4, 4)
    assert curve.count.tolist() == [0, 1, 1, 2]
    assert curve.confidence == pytest.approx([0, 0.5, 0.75, 0.88])
    assert curve.accuracy == pytest.approx([0, 1, 1, 1])


@given(st.integers(0, 2**32 - 1), st.integers(2, 6))
def test_a_perfect_forecast(seed: int, classes: int) -> None:
    truth = np.random.default_rng(seed).integers(0, classes, 20)
    posterior = np.eye(classes)[truth]
    assert metrics.expected_calibration_error(posterior, truth) == 0
    assert metrics.negative_log_likelihood(posterior, truth) == 0
    assert metrics.brier(posterior, truth) == 0


def test_calibration_error_finds_overconfidence() -> None:
    noise = np.random.default_rng(0)
    confidence = noise.uniform(0.5, 1.0, 20_000)
    posterior = np.stack([confidence, 1 - confidence], axis=1)
    truth = (noise.uniform(size=20_000) > confidence).astype(int)
    assert metrics.expected_calibration_error(posterior, truth) < 0.02
    sharper = posterior**3 / (posterior**3).sum(axis=1, keepdims=True)
    assert metrics.expected_calibration_error(sharper, truth) > 0.1


def test_risk_over_coverage_by_hand() -> None:
    """Confidences .9 right, .8 wrong, .6 right twice: half of the surest two are wrong."""
    posterior = [[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.6, 0.4]]
    curve = metrics.risk_coverage(posterior, [0, 1, 1, 0])
    assert curve.confidence == pytest.approx([0.9, 0.8, 0.6])
    assert curve.coverage == pytest.approx([0.25, 0.5, 1.0])
    assert curve.risk == pytest.approx([0.0, 0.5, 0.25])
    assert curve.aurc == pytest.approx(0.0 * 0.25 + 0.5 * 0.25 + 0.25 * 0.5)
    assert curve.risk_at(0.25) == 0.0
    assert curve.risk_at(0.26) == 0.5
    assert curve.risk_at(0.7) == curve.risk_at(1.0) == 0.25
    for bad in (0.0, 1.1):
        with pytest.raises(ValueError, match="coverage"):
            curve.risk_at(bad)
    with pytest.raises(metrics.EmptyFold):
        metrics.risk_coverage(np.zeros((0, 2)), [])


@given(seed=st.integers(0, 2**32 - 1), samples=st.integers(1, 60))
def test_the_end_of_the_curve_is_the_error_and_order_does_not_matter(
    seed: int, samples: int
) -> None:
    noise = np.random.default_rng(seed)
    posterior = noise.dirichlet(np.ones(3), samples).round(1)
    posterior[:, 0] += 1 - posterior.sum(axis=1)
    posterior = np.abs(posterior) / np.abs(posterior).sum(axis=1, keepdims=True)
    truth = noise.integers(0, 3, samples)
    curve = metrics.risk_coverage(posterior, truth)
    assert curve.risk_at(1.0) == pytest.approx((posterior.argmax(axis=1) != truth).mean())
    assert (np.diff(curve.coverage) > 0).all()
    shuffled = noise.permutation(samples)
    again = metrics.risk_coverage(posterior[shuffled], truth[shuffled])
    assert again.risk == pytest.approx(curve.risk)
    assert again.aurc == pytest.approx(curve.aurc)
