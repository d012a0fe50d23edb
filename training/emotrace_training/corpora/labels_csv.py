"""Acted clips as this project's data folders hold them: `labels.csv` and the audio it names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast, get_args

from emotrace_models.labels import UnknownLabel, canonical
from emotrace_training.corpora.loading import Loaded
from emotrace_training.corpora.tables import rows
from emotrace_training.manifests import ClipSplit, ManifestError, Record

LABELS = "labels.csv"
COLUMNS = ("file", "speaker", "emotion", "split", "seconds")
GENDERS = {"m": "male", "male": "male", "f": "female", "female": "female"}


def read_labels_csv(
    folder: Path,
    corpus: str,
    language: str,
    licence: str,
    text: Callable[[Mapping[str, str]], str],
) -> Loaded:
    """The clips of a corpus folder; `text` finds the words of a row.

    The table is this project's own, so nothing in it may be wrong: raises ManifestError, which
    names file and line, for a missing column or clip, a clip that comes twice, an unknown label or
    split, or a folder without clips.
    """
    loaded = Loaded()
    seen: dict[str, str] = {}
    for place, row in rows(folder / LABELS, COLUMNS):
        record = _record(folder, row, place, corpus, language, licence, text(row))
        if (before := seen.setdefault(record.id, place)) != place:
            raise ManifestError(f"{place}: {record.id} stands in {before} too")
        loaded.records.append(record)
    if not loaded.records:
        raise ManifestError(f"{folder / LABELS}: lists no clips")
    return loaded


def _record(
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
        gender=GENDERS.get(row.get("gender", ""), ""),
        label_raw=row["emotion"],
    )
