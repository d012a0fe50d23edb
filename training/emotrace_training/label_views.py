"""A model's classes and logits under one of the label sets that it can be asked for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emotrace_models.labels import SCHEMES, LabelSet
from emotrace_models.types import FloatArray
from emotrace_training.metrics import accuracy, confusion, f1_weighted, uar
from emotrace_training.windows import EMPTY

VIEWS = ("common4",)
METRICS = {"uar": uar, "accuracy": accuracy, "f1_weighted": f1_weighted}


@dataclass(frozen=True, slots=True)
class LabelView:
    """own: the model's classes. labels: those asked for, all of them among its own."""

    own: LabelSet
    labels: LabelSet

    def logits(self, logits: FloatArray) -> FloatArray:
        """[item, own class] -> [item, class]: choosing columns, as Bundle.projected does."""
        return logits[:, [self.own.index(name) for name in self.labels.names]]

    def truth(self, labels: NDArray[np.int64]) -> NDArray[np.int64]:
        """[item] of own classes -> classes asked for, EMPTY outside them."""
        places = [
            self.labels.index(name) if name in self.labels.names else EMPTY
            for name in self.own.names
        ]
        return np.array([*places, EMPTY], dtype=np.int64)[labels]  # EMPTY is the last place

    def scores(self, truth: NDArray[np.int64], predicted: NDArray[np.int64]) -> dict[str, float]:
        """Classes asked for, [item] twice, where the truth is among them."""
        known = truth != EMPTY
        matrix = confusion(truth[known], predicted[known], len(self.labels.names))
        return {name: metric(matrix) for name, metric in METRICS.items()}


def label_views(own: LabelSet) -> dict[str, LabelView]:
    """By scheme: the model's own label set first, then the smaller ones that it can serve."""
    smaller = [SCHEMES[name] for name in VIEWS if set(SCHEMES[name].names) < set(own.names)]
    return {labels.scheme: LabelView(own, labels) for labels in (own, *smaller)}
