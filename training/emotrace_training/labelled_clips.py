"""Labelled clips of any folder: a CSV of file, speaker, emotion, and the sound of each file."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from emotrace_models.types import FloatArray
from emotrace_training.sound import read_sound_file

EVERY_SPLIT = "all"


class LabelsUnreadable(ValueError):
    """The CSV of labels cannot be used; the message names file and column."""


@dataclass(frozen=True, slots=True)
class LabelledClip:
    """emotion: as the CSV writes it."""

    file: str
    speaker: str
    emotion: str


def read_labels(table: Path, split: str | None) -> tuple[list[LabelledClip], str]:
    """Rows of a CSV with the columns file, speaker, emotion and perhaps split; and the split taken.

    split None: `test` where the CSV has rows of that split, else every row. `all`: every row.
    Raises LabelsUnreadable for a missing file or column, and for a split without rows.
    """
    try:
        with table.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            columns = reader.fieldnames or []
            rows = list(reader)
    except (OSError, UnicodeDecodeError) as error:
        raise LabelsUnreadable(f"{table}: cannot be read: {error}") from error
    if missing := [c for c in ("file", "speaker", "emotion") if c not in columns]:
        raise LabelsUnreadable(f"{table}: no column {', '.join(missing)}")
    if split is None:
        split = "test" if any(row.get("split") == "test" for row in rows) else EVERY_SPLIT
    if split != EVERY_SPLIT:
        if "split" not in columns:
            raise LabelsUnreadable(f"{table}: no column split; leave --split out")
        rows = [row for row in rows if row["split"] == split]
    if not rows:
        raise LabelsUnreadable(f"{table}: no rows of split {split!r}")
    clips = [LabelledClip(r["file"] or "", r["speaker"] or "", r["emotion"] or "") for r in rows]
    return clips, split


def read_sound(file: Path) -> FloatArray:
    """Samples [sample] at 16 kHz, channels mixed. ValueError where there is no sound to read."""
    return read_sound_file(file)
