"""MELD with its media (Poria et al., ACL 2019): clips of a TV series, models.md 9.2.

Dialogue ids begin anew in each split, so ids here begin with the split. File order is the order of
a dialogue: `Utterance_ID` has gaps, and some times are wrong, so recipes on MELD order dialogues by
transcript. Copies are in UTF-8 or cp1252; typographic signs are made plain in either.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tqdm import tqdm

from emotrace_training.corpora.loading import Loaded, Settings, first_folder
from emotrace_training.corpora.tables import rows
from emotrace_training.manifests import ClipSplit, ManifestError, Record

LICENCE = "GPL-3.0 (annotation); clips of a TV series, rights with their owner"
# Split -> its table, its folder of films.
SPLITS: dict[ClipSplit, tuple[str, str]] = {
    "train": ("train_sent_emo.csv", "train_splits"),
    "valid": ("dev_sent_emo.csv", "dev_splits_complete"),
    "test": ("test_sent_emo.csv", "output_repeated_splits_test"),
}
NO_TABLE = "missing table of a split"
NO_MEDIA = "no folder of media"
BAD_ROW = "row cannot be read"
TWICE = "utterance stands twice"
BAD_TIMES = "EndTime not after StartTime"
TOO_LONG = "clip too long, cut"
STRAY = "stray film"
NO_ROW = "film without a row"
INVERTED = "rows that begin before the row above"
_COLUMNS = (
    "Utterance",
    "Speaker",
    "Emotion",
    "Dialogue_ID",
    "Utterance_ID",
    "StartTime",
    "EndTime",
)
_FILM = re.compile(r"dia(\d+)_utt(\d+)")
_TIME = re.compile(r"(\d+):(\d\d):(\d\d)[,.](\d{1,3})")
# Signs of both encodings, and those of cp1252 that were decoded as Latin-1.
_PLAIN = str.maketrans({
    "’": "'", "‘": "'", "“": '"', "”": '"', "…": "...", "–": "-", "—": "-", "\u00a0": " ",
    "\x91": "'", "\x92": "'", "\x93": '"', "\x94": '"', "\x85": "...", "\x96": "-", "\x97": "-",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Row:
    dialogue: int
    utterance: int
    start: float
    end: float
    place: str
    cells: dict[str, str]


def read_meld(folder: Path, settings: Settings) -> Loaded:
    """`MELD.Raw`, unpacked: three tables and three folders of films.

    Without any film (the tables alone) only `on_missing="zero"` makes sense. Raises ManifestError.
    """
    loaded = Loaded()
    for split, (table, media) in SPLITS.items():
        file = _table(folder, table, media)
        if file is None:
            loaded.fault(NO_TABLE, folder / table)
            continue
        films = first_folder(
            [folder / media, file.parent / media, *sorted(folder.glob(f"*/{media}"))]
        )
        if films is None:
            if settings.on_missing == "drop":
                raise ManifestError(
                    f"{folder}: no folder {media}; unpack it there, or read the words alone with "
                    "--on-missing zero"
                )
            loaded.fault(NO_MEDIA, folder / media, "records have no audio")
        _split(loaded, split, file, films, settings)
    return loaded.finish(folder, ", ".join(table for table, _ in SPLITS.values()))


def _table(folder: Path, table: str, media: str) -> Path | None:
    """Inside the folder, one level down, or beside the films."""
    places = [folder / table, *sorted(folder.glob(f"*/{table}")), folder.parent / table]
    return next((place for place in places if place.is_file()), None)


def _split(
    loaded: Loaded, split: ClipSplit, table: Path, films: Path | None, settings: Settings
) -> None:
    dialogues: dict[int, list[_Row]] = defaultdict(list)
    seen: dict[tuple[int, int], str] = {}
    for place, cells in rows(table, _COLUMNS):
        row = _row(loaded, place, cells)
        if row is None:
            continue
        key = (row.dialogue, row.utterance)
        if (before := seen.setdefault(key, place)) != place:
            loaded.fault(TWICE, place, f"as in {before}")
            continue
        dialogues[row.dialogue].append(row)
    if films is not None:
        _unlisted(loaded, films, set(seen))
    with tqdm(total=len(seen), desc=f"meld {split}", leave=False) as progress:
        for found in dialogues.values():
            began = min(row.start for row in found)
            loaded.notes[INVERTED] += sum(a.start > b.start for a, b in pairwise(found))
            for turn, row in enumerate(found):
                _add(loaded, split, row, turn, began, films, settings)
                progress.update()


def _row(loaded: Loaded, place: str, cells: dict[str, str]) -> _Row | None:
    times = [_TIME.fullmatch(cells[name]) for name in ("StartTime", "EndTime")]
    try:
        dialogue, utterance = int(cells["Dialogue_ID"]), int(cells["Utterance_ID"])
    except ValueError:
        times = []
    if len(times) != 2 or times[0] is None or times[1] is None:
        loaded.fault(BAD_ROW, place, "ids are numbers, times HH:MM:SS,mmm")
        return None
    start, end = (
        int(t[1]) * 3_600 + int(t[2]) * 60 + int(t[3]) + int(t[4].ljust(3, "0")) / 1_000
        for t in (times[0], times[1])
    )
    return _Row(dialogue, utterance, start, end, place, cells)


def _unlisted(loaded: Loaded, films: Path, known: set[tuple[int, int]]) -> None:
    """Films that no row names."""
    for file in loaded.files(films, ".mp4"):
        match = _FILM.fullmatch(file.stem)
        if match is None:
            loaded.fault(STRAY, file)
        elif (int(match[1]), int(match[2])) not in known:
            loaded.fault(NO_ROW, file)


def _add(
    loaded: Loaded, split: ClipSplit, row: _Row, turn: int, began: float, films: Path | None,
    settings: Settings,
) -> None:  # fmt: skip
    flags = []
    file, seconds = None, None
    if films is not None:
        file = films / f"dia{row.dialogue}_utt{row.utterance}.mp4"
        seconds = loaded.seconds(file, row.place)
        if seconds is None and settings.on_missing == "drop":
            return
    if seconds is None:
        flags.append("no_audio")
    emotion = loaded.label(row.cells["Emotion"], row.place)
    start = round(row.start - began, 3)
    end = round(row.end - began, 3)
    if end <= start:
        loaded.fault(BAD_TIMES, row.place, f"{row.cells['StartTime']} {row.cells['EndTime']}")
        flags.append("bad_times")
        end = round(start + (seconds or 0.0), 3)
    span = None
    if seconds is not None and seconds > settings.longest_s:
        loaded.fault(TOO_LONG, row.place, f"{file}: {seconds:.1f} s")
        flags.append("too_long")
        span, seconds = (0.0, settings.longest_s), settings.longest_s
    path = file.as_posix() if file is not None and seconds is not None else None
    dialogue = f"{split}_dia{row.dialogue}"
    loaded.records.append(
        Record(
            id=f"{dialogue}_utt{row.utterance}", corpus="meld", dialogue=dialogue, turn=turn,
            start_s=start, end_s=end, speaker=f"meld:{row.cells['Speaker'].translate(_PLAIN)}",
            emotion=emotion or "unknown", label_raw=row.cells["Emotion"], split=split,
            text=row.cells["Utterance"].translate(_PLAIN), language="en", licence=LICENCE,
            file=path, span=span, seconds=seconds or 0.0, video=path, video_span=span,
            flags=tuple(flags),
        )
    )  # fmt: skip
