"""What posteriors are worth, in figures: right, sure, and how well it is known which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emotrace_training.metrics import (
    Floats,
    RiskCoverage,
    accuracy,
    confusion,
    expected_calibration_error,
    f1_weighted,
    negative_log_likelihood,
    recalls,
    risk_coverage,
    uar,
)

TINY = 1e-12  # a probability of 0 would make one utterance decide the likelihood
MOST = 0.7  # the coverage that risk is quoted at


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """Several posteriors [row, class] of the same utterances, by what made them.

    label_set, modalities: what they are over, and what was shown. truth [row]. figures: of each.
    """

    label_set: str
    modalities: str
    names: tuple[str, ...]
    truth: NDArray[np.int64]
    posteriors: Mapping[str, Floats]
    figures: Mapping[str, Mapping[str, Any]]

    def report(self) -> dict[str, Any]:
        """Ready for JSON."""
        counts = np.bincount(self.truth, minlength=len(self.names)).tolist()
        return {
            "label_set": self.label_set,
            "modalities": self.modalities,
            "utterances": dict(zip(self.names, counts, strict=True)),
            "figures": {name: dict(found) for name, found in self.figures.items()},
        }


def posterior_figures(
    posterior: Floats, truth: NDArray[np.int64], names: Sequence[str], abstain_below: float
) -> dict[str, Any]:
    """posterior [row, class], truth [row] -> figures by name, ready for JSON. Raises EmptyFold."""
    matrix = confusion(truth, posterior.argmax(axis=1), len(names))
    curve = risk_coverage(posterior, truth)
    counts = matrix.sum(axis=1)
    return {
        "count": len(truth),
        "uar": uar(matrix),
        "accuracy": accuracy(matrix),
        "f1_weighted": f1_weighted(matrix),
        "ece": expected_calibration_error(posterior, truth),
        "nll": negative_log_likelihood(np.maximum(posterior, TINY), truth),
        "aurc": curve.aurc,
        "risk": curve.risk_at(1.0),
        "risk_at_70": curve.risk_at(MOST),
        "threshold": answered(curve, abstain_below),
        "recall": {
            name: float(share)
            for name, share, count in zip(names, recalls(matrix), counts, strict=True)
            if count
        },
        "confusion": matrix.tolist(),
    }


def answered(curve: RiskCoverage, abstain_below: float) -> dict[str, float | None]:
    """What a threshold of confidence leaves: the share that is answered and its risk (None where
    nothing is answered)."""
    last = int((curve.confidence >= abstain_below).sum())
    return {
        "abstain_below": abstain_below,
        "coverage": float(curve.coverage[last - 1]) if last else 0.0,
        "risk": float(curve.risk[last - 1]) if last else None,
    }
