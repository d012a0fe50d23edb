"""What every loader hands over: records, and every fault that it met on the way.

A loader never guesses and drops nothing in silence: a file that is missing, a name that is no name
of the corpus, a row that cannot be read is a fault with its place, and is counted. What is left out
on purpose (hidden files, songs) is a note, counted by kind alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from emotrace_models.labels import UnknownLabel, canonical
from emotrace_training.manifests import ManifestError, Record
from emotrace_training.sound import SoundUnreadable, seconds_of

LFS = b"version https://git-lfs"
POINTER_BYTES = 1_024  # a pointer has about 130

MISSING = "missing media"
EMPTY = "empty media file"
POINTER = "Git LFS pointer in place of media"
UNREADABLE = "unreadable media"
NAME = "name is none of the corpus"
LABEL = "unknown label"
NO_FILMS = "no folder of films"
HIDDEN = "hidden files left out"


OnMissing = Literal["drop", "zero"]
Votes = Literal["intended", "voice", "face", "both"]
Half = Literal["left", "right"]


@dataclass(frozen=True, slots=True)
class Settings:
    """on_missing: a record whose audio is missing is dropped, or kept without audio (zero).

    folds: file of the CMU-MOSEI folds. votes: whose label a CREMA-D clip gets: the intended one or
    what raters perceived in voice, face or both. longest_s: longer MELD clips are flagged and cut.
    marked: the half of an IEMOCAP picture on which the actor with the markers sits. language,
    licence: of one's own corpus; labels: its own names -> canonical ones.
    """

    on_missing: OnMissing = "drop"
    folds: Path | None = None
    votes: Votes = "intended"
    longest_s: float = 41.0
    marked: Half = "left"
    language: str = ""
    licence: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. place: the file, and the line where there is one."""

    kind: str
    place: str
    detail: str = ""


@dataclass(slots=True)
class Loaded:
    """The records of a corpus and the report on reading it."""

    records: list[Record] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)

    def fault(self, kind: str, place: Path | str, detail: str = "") -> None:
        self.faults.append(Fault(kind, str(place), detail))

    def counts(self) -> dict[str, int]:
        """How many faults of each kind."""
        return dict(sorted(Counter(fault.kind for fault in self.faults).items()))

    def files(self, folder: Path, *endings: str, deep: bool = False) -> list[Path]:
        """Files of a folder with one of these endings, sorted; hidden ones (`._x`) are counted."""
        found = []
        for path in sorted(folder.rglob("*") if deep else folder.glob("*")):
            if path.suffix.lower() not in endings or not path.is_file():
                continue
            if path.name.startswith("."):
                self.notes[HIDDEN] += 1
            else:
                found.append(path)
        return found

    def label(self, name: str, place: Path | str) -> str | None:
        """The canonical label of a name; None, and a fault, where there is none."""
        try:
            return canonical(name)
        except UnknownLabel:
            self.fault(LABEL, place, repr(name))
            return None

    def media(self, file: Path, place: Path | str = "") -> bool:
        """Whether there is a file with content; a fault (at `place` or the file) where not."""
        detail = str(file) if place else ""
        if not file.is_file():
            self.fault(MISSING, place or file, detail)
        elif not file.stat().st_size:
            self.fault(EMPTY, place or file, detail)
        elif is_pointer(file):
            self.fault(POINTER, place or file, detail or "run `git lfs pull` in the corpus")
        else:
            return True
        return False

    def seconds(self, file: Path, place: Path | str = "") -> float | None:
        """Seconds of sound of a file; None, and a fault, where it cannot be heard."""
        if not self.media(file, place):
            return None
        try:
            seconds = seconds_of(file)
        except SoundUnreadable as error:
            self.fault(UNREADABLE, place or file, f"{file}: {error}" if place else str(error))
            return None
        if seconds <= 0:
            self.fault(UNREADABLE, place or file, f"{file}: no sound in it")
            return None
        return seconds

    def finish(self, folder: Path, expected: str) -> Loaded:
        """Sorted by dialogue, start and turn. ManifestError where there is no record at all."""
        if not self.records:
            listed = ", ".join(f"{count} x {kind}" for kind, count in self.counts().items())
            raise ManifestError(
                f"{folder}: no usable record; expected {expected}"
                + (f"; met: {listed}" if listed else "")
            )
        self.notes = +self.notes  # those that are above 0
        self.records.sort(key=lambda r: (r.dialogue, r.start_s, r.turn))
        return self


def is_pointer(file: Path) -> bool:
    """Whether a file is what a git checkout without LFS holds in place of media."""
    if file.stat().st_size > POINTER_BYTES:
        return False
    with file.open("rb") as stream:
        return stream.read(len(LFS)) == LFS


def first_folder(candidates: Sequence[Path]) -> Path | None:
    return next((path for path in candidates if path.is_dir()), None)
