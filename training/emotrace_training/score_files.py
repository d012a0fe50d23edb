"""Classifier scores of dialogues, from a score file and a table of the utterances.

    FILE.npz   `utt` [N] names, `classes` [C] names, and under any key the scores [N, C]
    FILE.csv   one utterance a row: its name, dialogue, place in the dialogue, speaker, labels

The two are joined by the utterance's name. ScoreFileError names file, line, column and the cure.
"""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, nan
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from emotrace_models.labels import SCHEMES, LabelSetMismatch, UnknownLabel, canonical

# Where a column is not named by the user, the first of these that the table has.
USUAL_COLUMNS: dict[str, tuple[str, ...]] = {
    "utt": ("utt",),
    "dialog": ("dialog", "dialogue"),
    "order": ("pos_ded", "order", "pos", "start"),
    "speaker": ("speaker",),
    "label": ("label4", "label", "emotion"),
    "all-labels": ("label10",),
    "fold": ("session", "fold"),
}
OPTIONAL = ("all-labels", "fold")


class ScoreFileError(ValueError):
    """A score file or an utterance table that cannot be used."""


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """classes: names in the file's order. values [utterance, class]: row of `rows[utt]`."""

    classes: tuple[str, ...]
    rows: Mapping[str, int]
    values: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Turn:
    """label: class index, None outside the class set. reference: the label as it was annotated."""

    utt: str
    speaker: str | None
    label: int | None
    reference: str


@dataclass(frozen=True, slots=True, eq=False)
class ScoredDialogue:
    """Turns in order. scores [turn, class], or None where the score file has none of its turns."""

    id: str
    fold: str | None
    turns: tuple[Turn, ...]
    scores: NDArray[np.float64] | None


def read_scores(file: Path, key: str) -> Scores:
    """The scores under `key`: logits or log-probabilities. Raises ScoreFileError."""
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            missing = [name for name in ("utt", "classes", key) if name not in archive]
            if missing:
                raise ScoreFileError(
                    f"{file} has no array {', '.join(missing)}; it has {', '.join(archive)}"
                )
            utts, classes, values = archive["utt"], archive["classes"], archive[key]
    except ScoreFileError:
        raise
    except OSError as error:
        raise ScoreFileError(f"{file}: {error.strerror or error}") from error
    except (zipfile.BadZipFile, EOFError, AttributeError, TypeError, ValueError) as error:
        raise ScoreFileError(f"{file} is not an .npz file of plain arrays") from error
    names = [str(utt) for utt in utts.ravel()]
    if values.shape != (len(names), classes.size) or values.dtype.kind not in "fiu":
        raise ScoreFileError(
            f"{file}: {key} is {values.dtype} of shape {values.shape}; "
            f"{len(names)} utterances and {classes.size} classes need numbers of that shape"
        )
    values = values.astype(np.float64)
    if not (finite := np.isfinite(values).all(axis=1)).all():
        raise ScoreFileError(f"{file}: {key} of {names[int(finite.argmin())]} is not finite")
    rows = {name: i for i, name in enumerate(names)}
    if len(rows) < len(names):
        raise ScoreFileError(f"{file}: utt names an utterance twice")
    if len(rows) and (values >= 0).all() and np.allclose(values.sum(axis=1), 1, atol=1e-3):
        raise ScoreFileError(
            f"{file}: {key} holds probabilities, not logits: save their logarithms instead"
        )
    return Scores(tuple(str(name) for name in classes.ravel()), rows, values)


def read_dialogues(
    file: Path, scores: Scores, named: Mapping[str, str], scheme: str | None = None
) -> tuple[list[ScoredDialogue], dict[str, str]]:
    """Dialogues of the table in file order, and the columns that were used, by role.

    named: columns by role (the keys of USUAL_COLUMNS) where they are not the usual ones.
    scheme: labels are names of emotions and are projected by it (labels.SCHEMES).
    Raises ScoreFileError.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            columns = _columns(file, reader.fieldnames or (), named)
            lines = [(reader.line_num, row) for row in reader]
    except OSError as error:
        raise ScoreFileError(f"{file}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ScoreFileError(f"{file} is not a CSV in UTF-8: {error}") from error
    labels = _LabelReader(scores.classes, scheme)
    grouped: dict[str, list[_Placed]] = {}
    seen: set[str] = set()
    for number, row in lines:
        where = f"{file}, line {number}"
        if any(row[column] is None for column in columns.values()):
            raise ScoreFileError(f"{where}: the row is cut short")
        placed = _read_row(where, row, columns, labels)
        if placed.turn.utt in seen:
            raise ScoreFileError(
                f"{where}, column {columns['utt']}: {placed.turn.utt!r} occurs twice"
            )
        seen.add(placed.turn.utt)
        grouped.setdefault(row[columns["dialog"]], []).append(placed)
    if unknown := [utt for utt in scores.rows if utt not in seen]:
        raise ScoreFileError(
            f"{file} lacks {len(unknown)} utterances of the score file, {unknown[0]!r} first"
        )
    return [_dialogue(file, name, turns, scores) for name, turns in grouped.items()], columns


class _Placed(NamedTuple):
    place: float
    fold: str | None
    turn: Turn


def _read_row(
    where: str, row: Mapping[str, str], columns: Mapping[str, str], labels: _LabelReader
) -> _Placed:
    text = row[columns["label"]].strip()
    try:
        place = float(row[columns["order"]])
    except ValueError:
        place = nan
    if not isfinite(place):
        raise ScoreFileError(
            f"{where}, column {columns['order']}: {row[columns['order']]!r} is not a number"
        )
    try:
        label = labels.read(text)
    except ValueError as error:
        raise ScoreFileError(f"{where}, column {columns['label']}: {error}") from None
    reference = row[columns["all-labels"]].strip() if "all-labels" in columns else text
    speaker = row[columns["speaker"]].strip() or None
    fold = row[columns["fold"]] if "fold" in columns else None
    return _Placed(place, fold, Turn(row[columns["utt"]], speaker, label, reference))


class _LabelReader:
    """Labels as a table writes them (class index, or name) -> class index, None outside the set."""

    def __init__(self, classes: Sequence[str], scheme: str | None) -> None:
        self._exact = {name: i for i, name in enumerate(classes)}
        self._canonical = {_canonical(name): i for i, name in enumerate(classes)}
        self._scheme = None if scheme is None else SCHEMES.get(scheme)
        if scheme is not None and self._scheme is None:
            raise ScoreFileError(f"no scheme is called {scheme!r}; there are {', '.join(SCHEMES)}")
        if self._scheme is not None:
            try:
                self._scheme.order_from(list(self._canonical))
            except LabelSetMismatch as error:
                raise ScoreFileError(f"the score file's classes: {error}") from error

    def read(self, text: str) -> int | None:
        """Raises ValueError for an index that is no class, or one where a scheme needs names."""
        try:
            index = float(text)  # some writers print 2 as 2.0
        except ValueError:
            return self._by_name(text)
        if self._scheme is not None:
            raise ValueError(f"scheme {self._scheme.scheme} needs names of emotions, not {text}")
        if not index.is_integer() or index >= len(self._exact):
            raise ValueError(f"{text} is no class index; there are {len(self._exact)} classes")
        return int(index) if index >= 0 else None

    def _by_name(self, text: str) -> int | None:
        if self._scheme is None and text in self._exact:
            return self._exact[text]
        name: str | None = _canonical(text)
        if self._scheme is not None and name is not None:
            name = self._scheme.project(name)
        return None if name is None else self._canonical.get(name)


def _canonical(name: str) -> str:
    """The canonical label, or the name itself where it is in no table."""
    try:
        return canonical(name)
    except UnknownLabel:
        return name


def _columns(file: Path, header: Sequence[str], named: Mapping[str, str]) -> dict[str, str]:
    columns = {}
    for role, usual in USUAL_COLUMNS.items():
        candidates = (named[role],) if role in named else usual
        found = next((name for name in candidates if name in header), None)
        if found is not None:
            columns[role] = found
        elif role in named or role not in OPTIONAL:
            raise ScoreFileError(
                f"{file} has no column {' or '.join(candidates)} (it has {', '.join(header)}); "
                f"name the right one with --{role}-column"
            )
    return columns


def _dialogue(file: Path, name: str, placed: list[_Placed], scores: Scores) -> ScoredDialogue:
    placed.sort(key=lambda item: item.place)
    folds = {item.fold for item in placed}
    if len(folds) > 1:
        raise ScoreFileError(f"{file}: dialogue {name!r} lies in more than one fold")
    turns = tuple(item.turn for item in placed)
    lacking = [turn.utt for turn in turns if turn.utt not in scores.rows]
    if lacking and len(lacking) < len(turns):
        raise ScoreFileError(
            f"{file}: {len(lacking)} of {len(turns)} turns of dialogue {name!r} have no scores, "
            f"{lacking[0]!r} first; score whole dialogues, or leave those turns out of the table"
        )
    values = None if lacking else scores.values[[scores.rows[turn.utt] for turn in turns]]
    return ScoredDialogue(name, folds.pop(), turns, values)
