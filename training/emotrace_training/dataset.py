"""The records that a recipe is about: chosen, in the order of their dialogues, labelled, split."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emotrace_models.labels import LabelSet
from emotrace_models.types import FloatArray
from emotrace_training.manifests import ManifestError, Record, read_manifest
from emotrace_training.recipe import Recipe, RecipeError
from emotrace_training.splits import NONE, PARTS, Fold, SplitError, folds
from emotrace_training.windows import EMPTY


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """records: in dialogue order. labels [record]: class index, EMPTY outside the scheme: such
    records are context only. dropped: how many records of the manifest are not there, by reason.
    """

    records: Sequence[Record]
    labels: NDArray[np.int64]
    label_set: LabelSet
    folds: Sequence[Fold]
    dropped: Mapping[str, int]

    def training_texts(self, fold: Fold) -> list[str]:
        """The texts of a fold's training part."""
        texts = (self.records[index].text for index in fold.of("train"))
        return [text for text in texts if text.strip()]

    def dialogues(self) -> list[list[int]]:
        """Indices of the records of each dialogue, in order; dialogues lie one after another."""
        found: list[list[int]] = []
        last = None
        for index, record in enumerate(self.records):
            name = (record.corpus, record.dialogue)
            if name != last:
                found.append([])
                last = name
            found[-1].append(index)
        return found


def presence(records: Sequence[Record], label_set: LabelSet) -> FloatArray:
    """[record, class]: 1 where a record has a score above 0 of a class; where it has no scores at
    all, its emotion's class."""
    found = np.zeros((len(records), len(label_set.names)), dtype=np.float32)
    for row, record in zip(found, records, strict=True):
        emotions = [name for name, score in record.scores.items() if score > 0]
        for emotion in emotions if record.scores else [record.emotion]:
            if (name := label_set.project(emotion)) is not None:
                row[label_set.index(name)] = 1.0
    return found


def load_dataset(recipe: Recipe, manifest: Path) -> Dataset:
    """Raises ManifestError, RecipeError, SplitError; what is left out is counted."""
    data = recipe.data
    everything = read_manifest(manifest)
    dropped: Counter[str] = Counter()
    there = {record.corpus for record in everything}
    if missing := sorted(set(data.corpora) - there):
        raise ManifestError(
            f"{manifest}: no record of corpus {', '.join(missing)} (there are "
            f"{', '.join(sorted(there))}); run `emotrace-train prepare --corpus {missing[0]}`"
        )
    chosen = []
    for record in everything:
        if data.corpora and record.corpus not in data.corpora:
            dropped["other corpus"] += 1
        elif reason := _filtered(record, recipe):
            dropped[reason] += 1
        else:
            chosen.append(record)
    chosen.sort(key=lambda r: (r.corpus, r.dialogue, *_place_in_dialogue(r, data.order)))
    names = [data.label_set.project(record.emotion) for record in chosen]
    labels = np.array(
        [EMPTY if name is None else data.label_set.index(name) for name in names], dtype=np.int64
    )
    if not (labels != EMPTY).any():
        raise RecipeError(
            f"{recipe.name}: no record of {manifest} has a class of {data.labels}; "
            "check data.corpora, data.only and data.without"
        )
    needed = recipe.training.keep == "best"
    try:
        found = folds(chosen, labels, data.split, needed)
    except SplitError as error:
        raise SplitError(f"{recipe.name}: {error}") from error
    dataset = Dataset(chosen, labels, data.label_set, found, dropped)
    return dataset if data.most is None else _thinned(dataset, data.most)


def _place_in_dialogue(record: Record, order: str) -> tuple[float, ...]:
    return (record.start_s, record.turn) if order == "time" else (record.turn, record.start_s)


def _filtered(record: Record, recipe: Recipe) -> str:
    """Why data.only or data.without leaves a record out; empty where they do not."""
    known = {field.name for field in fields(Record)}
    for table, wanted in (("only", recipe.data.only), ("without", recipe.data.without)):
        for name, pattern in wanted.items():
            if name not in known:
                raise RecipeError(f"{recipe.name}: data.{table}: a record has no field {name!r}")
            try:
                found = re.search(pattern, _text(getattr(record, name))) is not None
            except re.error as error:
                raise RecipeError(f"{recipe.name}: data.{table}.{name}: {error}") from error
            if found == (table == "without"):
                return f"data.{table}.{name}"
    return ""


def _text(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _thinned(dataset: Dataset, most: int) -> Dataset:
    """Whole dialogues, at random, until each part has `most` records with a class, or all."""
    dialogues = dataset.dialogues()
    parts = [np.full_like(fold.parts, NONE) for fold in dataset.folds]
    for fold, column in zip(dataset.folds, parts, strict=True):
        left = dict.fromkeys(PARTS, most)
        for number in np.random.default_rng(0).permutation(len(dialogues)).tolist():
            own = np.array(dialogues[number])
            for part in PARTS:
                members = own[fold.parts[own] == part]
                if left[part] > 0 and len(members):
                    column[members] = part
                    left[part] -= int((dataset.labels[members] != EMPTY).sum())
    needed = np.any([column != NONE for column in parts], axis=0)
    kept = np.array([i for dialogue in dialogues if needed[dialogue].any() for i in dialogue])
    return Dataset(
        [dataset.records[i] for i in kept.tolist()],
        dataset.labels[kept],
        dataset.label_set,
        [Fold(f.name, column[kept]) for f, column in zip(dataset.folds, parts, strict=True)],
        {**dataset.dropped, "data.most": len(dataset.records) - len(kept)},
    )
