"""Temperature and bias from few labels: found where there are many, left alone where few."""

from __future__ import annotations

import math

import numpy as np
import pytest

from emotrace_models.calibration import Calibration
from emotrace_models.types import Modality
from emotrace_training.metrics import negative_log_likelihood
from emotrace_training.vector_scaling import FEWEST, Scaling, choose_strength, fit_scaling

PLAIN = Scaling(1.0, (0.0, 0.0, 0.0))


def drawn(
    rows: int, temperature: float, bias: tuple[float, ...], seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose labels are drawn from softmax(logits / temperature + bias)."""
    noise = np.random.default_rng(seed)
    logits = noise.normal(0.0, 3.0, (rows, len(bias)))
    p = Scaling(temperature, bias).posterior(logits)
    truth = (p.cumsum(axis=1) > noise.random((rows, 1))).argmax(axis=1)
    return logits, truth


def test_with_many_labels_it_finds_what_they_were_drawn_with() -> None:
    logits, truth = drawn(8_000, 2.5, (0.8, -0.2, -0.6))
    found = fit_scaling(logits, truth, PLAIN, 1.0)
    assert found.temperature == pytest.approx(2.5, rel=0.08)
    assert found.bias == pytest.approx((0.8, -0.2, -0.6), abs=0.12)


def test_it_is_the_minimum_of_what_it_says_it_minimises() -> None:
    logits, truth = drawn(120, 2.0, (0.5, 0.0, -0.5))
    before = Scaling(1.3, (0.1, 0.0, -0.1))
    found = fit_scaling(logits, truth, before, 10.0)

    def cost(scaling: Scaling) -> float:
        off = np.array(scaling.bias) - np.array(before.bias)
        s = before.temperature / scaling.temperature
        nll = negative_log_likelihood(scaling.posterior(logits), truth) * len(truth)
        return nll + 5.0 * ((s - 1) ** 2 + float(off @ off))

    least = cost(found)
    noise = np.random.default_rng(1)
    for _ in range(50):
        shift = noise.normal(0.0, 0.05, 3)
        shift -= shift.mean()
        other = Scaling(
            found.temperature * math.exp(noise.normal(0.0, 0.05)),
            tuple(np.array(found.bias) + shift),
        )
        assert cost(other) > least


def test_the_fewer_labels_the_less_moves() -> None:
    logits, truth = drawn(2_000, 4.0, (0.0, 0.0, 0.0))
    moved = [
        abs(math.log(fit_scaling(logits[:n], truth[:n], PLAIN, 30.0).temperature))
        for n in (20, 200, 2_000)
    ]
    assert moved == sorted(moved)
    assert fit_scaling(logits[:0], truth[:0], PLAIN, 30.0) == PLAIN
    assert fit_scaling(logits, truth, PLAIN, math.inf) == PLAIN


def test_a_row_counts_for_as_many_labels_as_it_weighs() -> None:
    logits, truth = drawn(60, 2.0, (0.5, 0.0, -0.5))
    counts = np.random.default_rng(0).integers(1, 4, 60)
    weighed = fit_scaling(logits, truth, PLAIN, 3.0, counts.astype(float))
    repeated = fit_scaling(np.repeat(logits, counts, 0), np.repeat(truth, counts), PLAIN, 3.0)
    assert weighed.temperature == pytest.approx(repeated.temperature, rel=1e-4)
    assert weighed.bias == pytest.approx(repeated.bias, abs=1e-4)


def test_a_class_without_enough_labels_keeps_its_bias_and_is_not_pushed_aside() -> None:
    logits, truth = drawn(300, 1.5, (0.5, -0.5, 0.0))
    kept = truth != 2
    rare = np.flatnonzero(truth == 2)[: FEWEST - 1]
    rows = np.concatenate([np.flatnonzero(kept), rare])
    found = fit_scaling(logits[rows], truth[rows], Scaling(1.0, (0.2, 0.0, 0.7)), 1.0)
    assert found.bias[2] == 0.7
    assert sum(found.bias[:2]) == pytest.approx(0.2)
    assert found.bias[0] > 0.2


def test_strength_is_chosen_by_what_holds_for_others() -> None:
    """Labels that mean nothing leave all as it was; a real shift of a thousand labels is taken."""
    noise = np.random.default_rng(3)
    folds = np.arange(40) % 5
    assert choose_strength(*drawn(40, 1.0, (0.0, 0.0, 0.0), 5), folds, PLAIN) >= 10.0
    logits, truth = drawn(1_000, 3.0, (1.0, 0.0, -1.0))
    assert choose_strength(logits, truth, noise.integers(0, 5, 1_000), PLAIN) <= 10.0


def test_it_is_the_rule_that_serves() -> None:
    logits, _ = drawn(5, 1.0, (0.0, 0.0, 0.0))
    found = Scaling(1.7, (0.3, -0.1, -0.2))
    rule = Calibration({"acoustic": 1.7}, biases={"acoustic": found.bias})
    served = [rule.posterior(row.astype(np.float32), [Modality.ACOUSTIC]) for row in logits]
    assert found.posterior(logits.astype(np.float32)) == pytest.approx(np.array(served))
