"""Calibration of one label set on a site's utterances, with figures of speakers left out in turn.

For each set of modalities a temperature and a bias a class (vector_scaling), held to the values
that the bundle had as strongly as suits other speakers best. "After" is always measured on a fold
whose speakers had no part in the fit, nor in the choice of its strength.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from emotrace_models.calibration import Calibration, modality_key
from emotrace_models.labels import LabelSet
from emotrace_models.types import FloatArray, Modality
from emotrace_training.metrics import Floats, RiskCoverage, risk_coverage
from emotrace_training.posterior_figures import Compared, posterior_figures
from emotrace_training.site_data import FEWEST
from emotrace_training.vector_scaling import FEWEST as FEWEST_OF_A_CLASS
from emotrace_training.vector_scaling import Scaling, choose_strength, fit_scaling

HALF = 0.5  # of the errors, by abstaining
RARE = 0.05  # errors that need no abstaining
ANSWERED = 0.5  # share of utterances that is answered in any case


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """logits [row, class] of a label set; labels and folds [row]."""

    logits: FloatArray
    labels: tuple[str, ...]
    folds: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """Posteriors [row, class] of one set of modalities before and after; truth and folds [row]."""

    modalities: tuple[Modality, ...]
    truth: NDArray[np.int64]
    folds: NDArray[np.int64]
    before: Floats
    after: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Recalibrated:
    """A label set's calibration on site, and what it was measured on, the fullest set last."""

    labels: LabelSet
    was: Calibration
    calibration: Calibration
    measured: tuple[Measured, ...]

    def compared(self) -> list[Compared]:
        """Before and after with their figures, by set of modalities.

        What the threshold leaves is measured as the rest is: on each fold by the threshold that the
        other folds would have given.
        """
        names, found = self.labels.names, []
        for one in self.measured:
            before = posterior_figures(one.before, one.truth, names, self.was.abstain_below)
            after = posterior_figures(one.after, one.truth, names, self.calibration.abstain_below)
            found.append(
                Compared(
                    self.labels.scheme,
                    modality_key(one.modalities),
                    names,
                    one.truth,
                    {"before": one.before, "after": one.after},
                    {"before": before, "after": {**after, "threshold": self.answered(one)}},
                )
            )
        return found

    def answered(self, one: Measured) -> dict[str, float | None]:
        """Share that is answered, and its risk: each fold by the other folds' threshold."""
        fullest = self.measured[-1]
        answers = np.zeros(len(one.truth), dtype=np.bool_)
        for fold in np.unique(one.folds):
            others = fullest.folds != fold
            curve = risk_coverage(fullest.after[others], fullest.truth[others])
            own = one.folds == fold
            answers[own] = one.after[own].max(axis=1) >= abstention_threshold(curve)
        wrong = one.after.argmax(axis=1) != one.truth
        return {
            "abstain_below": self.calibration.abstain_below,
            "coverage": float(answers.mean()),
            "risk": float(wrong[answers].mean()) if answers.any() else None,
        }


def recalibrated(
    labels: LabelSet, was: Calibration, rows: Mapping[tuple[Modality, ...], Rows]
) -> Recalibrated | None:
    """None where no set of modalities has FEWEST utterances in classes with enough of them."""
    temperatures, biases = dict(was.temperatures), dict(was.biases)
    measured = []
    for modalities, found in rows.items():
        one = _within(labels, found)
        if one is None:
            continue
        key = modality_key(modalities)
        truth = np.array([labels.index(name) for name in one.labels])
        before = scaling_of(was, modalities, len(labels.names))
        strength = choose_strength(one.logits, truth, one.folds, before)
        fitted = fit_scaling(one.logits, truth, before, strength)
        temperatures[key], biases[key] = fitted.temperature, fitted.bias
        after = left_out(one.logits, truth, one.folds, before)
        measured.append(Measured(modalities, truth, one.folds, before.posterior(one.logits), after))
    if not measured:
        return None
    fullest = measured[-1]
    threshold = abstention_threshold(risk_coverage(fullest.after, fullest.truth))
    calibration = Calibration(temperatures, threshold, biases)
    return Recalibrated(labels, was, calibration, tuple(measured))


def scaling_of(calibration: Calibration, modalities: Sequence[Modality], classes: int) -> Scaling:
    """What a calibration does to logits where these modalities are there."""
    key = modality_key(modalities)
    fallback = max(calibration.temperatures.values(), default=1.0)
    bias = calibration.biases.get(key, (0.0,) * classes)
    return Scaling(calibration.temperatures.get(key, fallback), tuple(bias))


def left_out(
    logits: FloatArray, truth: NDArray[np.int64], folds: NDArray[np.int64], before: Scaling
) -> Floats:
    """Posteriors [row, class], each by a fit to the other folds, its strength chosen there too."""
    posterior = np.zeros(logits.shape)
    for fold in np.unique(folds):
        out = folds == fold
        strength = choose_strength(logits[~out], truth[~out], folds[~out], before)
        fitted = fit_scaling(logits[~out], truth[~out], before, strength)
        posterior[out] = fitted.posterior(logits[out])
    return posterior


def abstention_threshold(curve: RiskCoverage) -> float:
    """The confidence from which a label is given.

    As many utterances are answered as can be with at most half the errors that answering all of
    them makes, or with RARE errors where that is more; but no fewer than ANSWERED of them.
    """
    aim = max(HALF * curve.risk_at(1.0), RARE)
    fits = (curve.risk <= aim) | (curve.coverage <= curve.coverage[curve.coverage >= ANSWERED][0])
    return float(curve.confidence[np.flatnonzero(fits)[-1]])


def _within(labels: LabelSet, rows: Rows) -> Rows | None:
    """Rows of the label set's classes; None where there are too few to fit anything to."""
    named = [labels.project(label) for label in rows.labels]
    inside = np.flatnonzero([name is not None for name in named])
    kept = tuple(name for name in named if name is not None)
    enough = [name for name in labels.names if kept.count(name) >= FEWEST_OF_A_CLASS]
    if len(kept) < FEWEST or len(enough) < 2 or len(np.unique(rows.folds[inside])) < 3:
        return None
    return replace(rows, logits=rows.logits[inside], labels=kept, folds=rows.folds[inside])
