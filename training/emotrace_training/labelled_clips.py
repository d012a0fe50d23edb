"""Labelled clips of any folder: a table of file, speaker, emotion, and the sound of each file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from emotrace_models.labels import LabelSet, UnknownLabel, canonical
from emotrace_models.types import FloatArray
from emotrace_training.corpora.tables import seconds_between, table_rows
from emotrace_training.manifests import ManifestError
from emotrace_training.sound import read_sound_file

EVERY_SPLIT = "all"
REQUIRED = ("file", "speaker", "emotion")
LABEL = "label"  # what `prepare` calls the column of emotions
PARTS = (("from", "to"), ("start", "end"))  # columns of the part of the file that is meant


class LabelsUnreadable(ManifestError):
    """The table of labels cannot be used; the message names file, line and column."""


@dataclass(frozen=True, slots=True)
class LabelledClip:
    """emotion: as the table writes it. text: what is said, empty where the table has none. span:
    seconds of the file that are meant, None for all. place: `table:line`, for messages. facts:
    the row's other columns.
    """

    file: str
    speaker: str
    emotion: str
    text: str = ""
    language: str = ""
    span: tuple[float, float] | None = None
    place: str = field(default="", compare=False)
    facts: Mapping[str, str] = field(default_factory=dict, compare=False)


def read_labels(table: Path, split: str | None) -> tuple[list[LabelledClip], str]:
    """Rows of a table (.csv, .tsv, .jsonl) with the columns file, speaker, emotion (or label), and
    the split taken; perhaps with text, language, split, and from and to (or start and end).

    split None: `test` where the table has rows of that split, else every row. `all`: every row.
    Raises LabelsUnreadable for a missing file or column, a row without file, times that do not go
    forward, and for a split without rows.
    """
    try:
        rows = list(table_rows(table))
    except ManifestError as error:
        raise LabelsUnreadable(str(error)) from error
    columns = {column for _, row in rows for column in row}
    given = columns | ({"emotion"} if LABEL in columns else set())
    if rows and (missing := [column for column in REQUIRED if column not in given]):
        raise LabelsUnreadable(f"{table}: no column {', '.join(missing)}")
    if split is None:
        split = "test" if any(row.get("split") == "test" for _, row in rows) else EVERY_SPLIT
    if split != EVERY_SPLIT:
        if rows and "split" not in columns:
            raise LabelsUnreadable(f"{table}: no column split; leave --split out")
        rows = [(place, row) for place, row in rows if row.get("split") == split]
    if not rows:
        raise LabelsUnreadable(f"{table}: no rows of split {split!r}")
    return [_clip(place, row) for place, row in rows], split


def class_of(emotion: str, scheme: LabelSet) -> str | None:
    """The class of the scheme that a label counts as: its own names first, then the names that
    emotrace_models.labels knows; None where it is outside."""
    if emotion in scheme.names:
        return emotion
    try:
        return scheme.project(canonical(emotion))
    except UnknownLabel:
        return None


def read_sound(file: Path, span: tuple[float, float] | None = None) -> FloatArray:
    """Samples [sample] at 16 kHz, channels mixed. ValueError where there is no sound to read."""
    return read_sound_file(file, span)


def _clip(place: str, row: Mapping[str, str]) -> LabelledClip:
    if not row.get("file"):
        raise LabelsUnreadable(f"{place}: no file")
    try:
        spans = [seconds_between(row, first, last, place) for first, last in PARTS]
    except ManifestError as error:
        raise LabelsUnreadable(str(error)) from error
    return LabelledClip(
        file=row["file"],
        speaker=row.get("speaker", ""),
        emotion=row.get("emotion") or row.get(LABEL, ""),
        text=row.get("text", ""),
        language=row.get("language") or row.get("lang", ""),
        span=next((span for span in spans if span is not None), None),
        place=place,
        facts=row,
    )
