"""One's own utterances in a table: CSV, TSV, or JSON lines.

Columns: `label` and `file`, `text` or both; if wanted `id`, `speaker`, `gender`, `dialogue`,
`start` and `end` (seconds within the dialogue), `from` and `to` (the part of the file), `video`,
`split`, `language`. Files are relative to the table. Rows of a dialogue stand in its order.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from emotrace_training.corpora.loading import Loaded, Settings
from emotrace_training.corpora.own_labels import label_of, split_of
from emotrace_training.corpora.tables import seconds_between, table_rows
from emotrace_training.manifests import ManifestError, Record

COLUMNS = (
    "id", "file", "label", "speaker", "gender", "dialogue", "start", "end", "from", "to", "text",
    "video", "split", "language",
)  # fmt: skip
EMOTION = "emotion"  # another name for the column of labels
UNKNOWN_COLUMN = "unknown column, not used"
NO_SPEAKER = "row without speaker"
BEYOND = "part ends after its file"


def read_own_table(table: Path, settings: Settings, name: str) -> Loaded:
    """Raises ManifestError, with file and line, for what a row gets wrong. Audio that is missing or
    unreadable is a fault of the report."""
    loaded = Loaded()
    turns: Counter[str] = Counter()
    seen: dict[str, str] = {}
    used: dict[tuple[str, str, str], str] = {}
    columns: set[str] = set()
    for place, row in table_rows(table):
        for column in set(row) - columns - set(COLUMNS) - {EMOTION}:
            loaded.fault(UNKNOWN_COLUMN, place, f"{column!r}; known: {', '.join(COLUMNS)}")
        columns |= set(row)
        if not row.get("file") and not row.get("text"):
            raise ManifestError(f"{place}: neither file nor text")
        identifier = row.get("id") or _identifier(row, place)
        if (before := seen.setdefault(identifier, place)) != place:
            raise ManifestError(f"{place}: id {identifier!r} stands in {before} too")
        part = (row.get("file", ""), row.get("from", ""), row.get("to", ""))
        if part[0] and (before := used.setdefault(part, place)) != place:
            raise ManifestError(f"{place}: {part[0]} stands in {before} too; give from and to")
        dialogue = row.get("dialogue") or identifier
        turn = turns[dialogue]
        turns[dialogue] += 1
        record = _record(loaded, table, place, row, identifier, dialogue, turn, settings, name)
        if record is not None:
            loaded.records.append(record)
    return loaded.finish(table, "rows with the columns file, label, speaker, …")


def _record(
    loaded: Loaded, table: Path, place: str, row: dict[str, str], identifier: str, dialogue: str,
    turn: int, settings: Settings, name: str,
) -> Record | None:  # fmt: skip
    raw = row.get("label") or row.get(EMOTION) or ""
    if not raw:
        raise ManifestError(f"{place}: no label; write unknown where there is none")
    emotion = label_of(raw, place, settings)
    split = split_of(row.get("split", ""), place)
    span = seconds_between(row, "from", "to", place)
    times = seconds_between(row, "start", "end", place)
    if not row.get("speaker"):
        loaded.fault(NO_SPEAKER, place, "counted as one person, `unknown`")
    file = table.parent / row["file"] if row.get("file") else None
    seconds = loaded.seconds(file, place) if file else None
    flags = []
    if file and seconds is None:
        if settings.on_missing == "drop":
            return None
        flags.append("no_audio")
    if span and seconds is not None:
        if span[0] >= seconds:
            loaded.fault(BEYOND, place, f"{file} has {seconds:.3f} s")
            return None
        if span[1] > seconds + 0.1:
            loaded.fault(BEYOND, place, f"{file} has {seconds:.3f} s")
            flags.append("cut")
        span = (span[0], min(span[1], seconds))
        seconds = span[1] - span[0]
    video = table.parent / row["video"] if row.get("video") else None
    if video and not loaded.media(video, place):
        video = None
    start, end = times or (0.0, seconds or 0.0)
    return Record(
        id=identifier, corpus=name, dialogue=dialogue, turn=turn, start_s=start, end_s=end,
        speaker=f"{name}:{row.get('speaker') or 'unknown'}", gender=row.get("gender", ""),
        emotion=emotion, label_raw=raw, split=split, text=row.get("text", ""),
        language=row.get("language") or settings.language, licence=settings.licence,
        file=file.as_posix() if file and seconds is not None else None,
        span=span if seconds is not None else None, seconds=seconds or 0.0,
        video=video.as_posix() if video else None, flags=tuple(flags),
    )  # fmt: skip


def _identifier(row: dict[str, str], place: str) -> str:
    """From the file and its part, else from the line."""
    if not row.get("file"):
        return f"line-{place.rpartition(':')[2]}"
    part = f"@{row['from']}" if row.get("from") else ""
    return Path(row["file"]).with_suffix("").as_posix() + part
