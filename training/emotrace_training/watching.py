"""Which epoch is kept, and when training ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from emotrace_models.types import FloatArray
from emotrace_training.metrics import accuracy, confusion, f1_macro, f1_weighted, uar
from emotrace_training.recipe_tables import Training

WATCHED = {"accuracy": accuracy, "uar": uar, "f1_macro": f1_macro, "f1_weighted": f1_weighted}


def scores(
    logits: FloatArray,
    labels: NDArray[np.int64],
    classes: int,
    presence: FloatArray | None = None,
) -> dict[str, float]:
    """The watched metrics of the strongest class, and the mean loss; presence [turn, class] where
    each class is there or not."""
    matrix = confusion(labels, logits.argmax(axis=1), classes)
    given = torch.from_numpy(logits)
    if presence is None:
        loss = F.cross_entropy(given, torch.from_numpy(labels))
    else:
        loss = F.binary_cross_entropy_with_logits(given, torch.from_numpy(presence))
    return {**{name: metric(matrix) for name, metric in WATCHED.items()}, "loss": float(loss)}


def watched(epoch: Mapping[str, Any], recipe: Training) -> float:
    """What is maximised."""
    value = float(epoch["valid"][recipe.early_stop.watch])
    return -value if recipe.early_stop.watch == "loss" else value


def is_best(history: Sequence[Mapping[str, Any]], recipe: Training) -> bool:
    """Whether the newest epoch is the one to keep so far; of equals the first."""
    if recipe.keep == "last":
        return True
    values = [watched(epoch, recipe) for epoch in history]
    return len(values) == 1 or values[-1] > max(values[:-1])


def kept(history: Sequence[Mapping[str, Any]], recipe: Training) -> int:
    """The number of the kept epoch, from 1."""
    if recipe.keep == "last":
        return len(history)
    values = [watched(epoch, recipe) for epoch in history]
    return values.index(max(values)) + 1


def stopped(history: Sequence[Mapping[str, Any]], recipe: Training) -> bool:
    """Whether patience is at its end."""
    patience = recipe.early_stop.patience
    if patience is None or not history or "valid" not in history[-1]:
        return False
    values = [watched(epoch, recipe) for epoch in history]
    return len(values) - 1 - values.index(max(values)) >= patience
