"""A fold's data, ready to train on: the features of its streams as one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emotrace_models.decoding import estimate_p0
from emotrace_models.encoders import Encoder
from emotrace_training.dataset import Dataset
from emotrace_training.extraction import Extracted, Extractor, Fault, extractor_of, stream_features
from emotrace_training.learner import build_fusion, check_widths
from emotrace_training.recipe import Recipe
from emotrace_training.splits import Fold
from emotrace_training.stream_encoders import learns_from_texts
from emotrace_training.tables import Table, table_of
from emotrace_training.telling import TrainingError
from emotrace_training.windows import EMPTY


class NothingToTrainOn(TrainingError):
    """A part of a fold has no turn that could be used."""


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A fold's data: its table, the encoders of its streams, what it lacks."""

    table: Table
    encoders: Mapping[str, Encoder | None]
    faults: Sequence[Fault]


class Preparer:
    """Features and tables of folds; what does not depend on the fold is made once."""

    def __init__(self, recipe: Recipe, dataset: Dataset, cache: Path) -> None:
        self._recipe = recipe
        self._dataset = dataset
        self._extractor: Extractor = extractor_of(recipe, dataset, cache)
        self._shared: dict[str, tuple[Extracted, Encoder | None]] = {}
        self._table: Prepared | None = None

    def prepare(self, fold: Fold) -> Prepared:
        """Raises TrainingError and its kinds, RecipeError, CacheCorrupted."""
        if self._table is not None:
            return self._table
        model = build_fusion(self._recipe)
        found = {name: self._stream(name, fold) for name in model.streams}
        tuned = frozenset(name for name, s in self._recipe.streams.items() if s.tune)
        try:
            table = table_of(
                self._dataset,
                {name: one.features for name, (one, _) in found.items()},
                tuned,
                model.start_window(),
            )
        except ValueError as error:
            raise NothingToTrainOn(f"{self._recipe.name}: {error}") from error
        widths = {name: stream.values.shape[1] for name, stream in table.windows.streams.items()}
        widths |= {name: e.width for name in tuned if (e := found[name][1]) is not None}
        check_widths(self._recipe, model, widths)
        faults = [fault for one, _ in found.values() for fault in one.faults]
        prepared = Prepared(table, {name: encoder for name, (_, encoder) in found.items()}, faults)
        if not any(learns_from_texts(stream) for stream in self._recipe.streams.values()):
            self._table = prepared
        return prepared

    def _stream(self, name: str, fold: Fold) -> tuple[Extracted, Encoder | None]:
        if name in self._shared:
            return self._shared[name]
        texts = self._dataset.training_texts(fold)
        found = stream_features(self._recipe, name, self._dataset, self._extractor, texts)
        if not learns_from_texts(self._recipe.streams[name]):
            self._shared[name] = found
        return found


def usable(recipe: Recipe, table: Table, turns: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those of `turns` that have a class, and the streams that the recipe asks for."""
    there = table.complete() if recipe.data.complete else table.heard()
    return np.asarray(turns[(table.windows.labels[turns] != EMPTY) & there[turns]])


def shift_probability(dataset: Dataset, fold: Fold) -> float | None:
    """p0 of the decoder from the training part's dialogues, in order, all their turns; None where
    they are too few."""
    training = set(fold.of("train").tolist())
    dialogues = [
        [
            (dataset.records[i].speaker, _reference(dataset, i))
            for i in dialogue
            if i in training and dataset.records[i].emotion != "unknown"
        ]
        for dialogue in dataset.dialogues()
    ]
    try:
        return estimate_p0(dialogues)
    except ValueError:
        return None


def _reference(dataset: Dataset, index: int) -> str:
    emotion = dataset.records[index].emotion
    return dataset.label_set.project(emotion) or emotion
