"""Where a run keeps what: one folder a variant, fold and seed.

RUN/VARIANT/recipe.json                       as it was used
RUN/VARIANT/data.json                         records, what was left out and why, folds
RUN/VARIANT/FOLD/seed-N/state.pt              while it trains
RUN/VARIANT/FOLD/seed-N/model.safetensors     afterwards: fusion.*, encoders.STREAM.*
                       /report.json           history, settings, parameters
                       /predictions.npz       logits of valid and test
RUN/evaluation/                               from `evaluate`
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from emotrace_training.recipe import Recipe
from emotrace_training.telling import TrainingError

RECIPE, DATA, REPORT = "recipe.json", "data.json", "report.json"
WEIGHTS, PREDICTIONS = "model.safetensors", "predictions.npz"
EVALUATION = "evaluation"


class RunUnusable(TrainingError):
    """A run that is not there, not finished or not readable."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished model of a run."""

    fold: str
    seed: int
    folder: Path

    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / REPORT).read_text())
        return found


@dataclass(frozen=True, slots=True)
class Variant:
    """A variant of a run: its recipe and its finished models."""

    folder: Path
    recipe: Recipe
    trained: tuple[Trained, ...]

    def data(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / DATA).read_text())
        return found

    def missing(self) -> list[str]:
        """Folds and seeds of the recipe that are not finished."""
        done = {(one.fold, one.seed) for one in self.trained}
        return [
            f"{fold} seed {seed}"
            for fold in self.data()["folds"]
            for seed in self.recipe.training.seeds
            if (fold, seed) not in done
        ]

    def find(self, fold: str | None, seed: int | None) -> Trained:
        """A finished model; the first by default. Raises RunUnusable."""
        for one in self.trained:
            if fold in (None, one.fold) and seed in (None, one.seed):
                return one
        there = ", ".join(f"{one.fold} seed {one.seed}" for one in self.trained)
        raise RunUnusable(f"{self.folder}: no model of that fold and seed; there are {there}")


def seed_folder(variant: Path, fold: str, seed: int) -> Path:
    return variant / fold / f"seed-{seed}"


def read_run(run: Path, variants: Sequence[str] = ()) -> list[Variant]:
    """The variants of a run that have a finished model; `run` may be the folder of one variant.

    Raises RunUnusable.
    """
    if (run / RECIPE).is_file():
        folders = [run]
    else:
        folders = sorted(file.parent for file in run.glob(f"*/{RECIPE}"))
        if variants:
            folders = [folder for folder in folders if folder.name in variants]
    found = [_variant(folder) for folder in folders]
    if not any(one.trained for one in found):
        raise RunUnusable(
            f"{run}: no finished model here; make one with `emotrace-train fit RECIPE --out {run}`"
        )
    return [one for one in found if one.trained]


def _variant(folder: Path) -> Variant:
    try:
        recipe = Recipe.model_validate_json((folder / RECIPE).read_bytes())
    except ValidationError as error:
        raise RunUnusable(f"{folder / RECIPE}: {error}; fit the recipe again") from error
    trained = [
        Trained(file.parent.parent.name, int(file.parent.name.removeprefix("seed-")), file.parent)
        for file in folder.glob(f"*/seed-*/{REPORT}")
    ]
    return Variant(folder, recipe, tuple(sorted(trained, key=lambda t: (t.fold, t.seed))))
