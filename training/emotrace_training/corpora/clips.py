"""Labelled clips: `labels.csv` (file, speaker, emotion, split, seconds) and the audio it names."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast, get_args

from emotrace_models.labels import UnknownLabel, canonical
from emotrace_training.manifests import ClipSplit, ManifestError, Record

LABELS = "labels.csv"
COLUMNS = ("file", "speaker", "emotion", "split", "seconds")


def read_clips(
    folder: Path,
    corpus: str,
    language: str,
    licence: str,
    text: Callable[[Mapping[str, str]], str],
) -> list[Record]:
    """The clips of a corpus folder; `text` finds the words of a row.

    Raises ManifestError, which names file and line, for a missing column or clip, an unknown label
    or split, or a folder without clips.
    """
    table = folder / LABELS
    try:
        with table.open(newline="", encoding="utf-8-sig") as stream:
            rows = csv.DictReader(stream)
            if missing := [c for c in COLUMNS if c not in (rows.fieldnames or ())]:
                raise ManifestError(f"{table}: no column {', '.join(missing)}")
            clips = [
                _clip(folder, row, f"{table}:{number}", corpus, language, licence, text(row))
                for number, row in enumerate(rows, start=2)
            ]
    except OSError as error:
        raise ManifestError(f"{table}: {error.strerror}") from error
    if not clips:
        raise ManifestError(f"{table}: lists no clips")
    return clips


def _clip(
    folder: Path,
    row: Mapping[str, str],
    place: str,
    corpus: str,
    language: str,
    licence: str,
    text: str,
) -> Record:
    if row["split"] not in get_args(ClipSplit):
        raise ManifestError(f"{place}: {row['split']!r} is no split")
    audio = folder / row["file"]
    if not audio.is_file():
        raise ManifestError(f"{place}: no audio at {audio}")
    try:
        emotion = canonical(row["emotion"])
        seconds = float(row["seconds"])
    except (UnknownLabel, ValueError) as error:
        raise ManifestError(f"{place}: {error}") from error
    return Record.alone(
        file=audio.as_posix(),
        corpus=corpus,
        speaker=f"{corpus}:{row['speaker']}",
        emotion=emotion,
        split=cast(ClipSplit, row["split"]),
        seconds=seconds,
        text=text,
        language=language,
        licence=licence,
    )
