"""Text dialogues with an emotion a line: the values that the text corpora are read into."""

from __future__ import annotations

import csv
import hashlib
import io
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")


class CorpusUnreadable(ValueError):
    """A corpus file is missing or is not what it should be; the message names file and line."""


@dataclass(frozen=True, slots=True)
class Line:
    """One utterance's words. label: canonical emotion (labels.CANONICAL)."""

    speaker: str
    text: str
    label: str


@dataclass(frozen=True, slots=True)
class TextDialogue:
    """Lines in the order in which they were spoken.

    group: what must never be cut apart by folds, since other dialogues may repeat its lines.
    """

    id: str
    corpus: str
    group: str
    lines: tuple[Line, ...]

    def fold(self, folds: int) -> int:
        """The fold of the dialogue's group: stable over runs and machines."""
        return fold_of(self.group, folds)


def fold_of(group: str, folds: int) -> int:
    """The fold of a group of lines, or of a comment by its id."""
    digest = hashlib.sha256(group.encode()).digest()
    return int.from_bytes(digest[:8], "big") % folds


def plain(text: str) -> str:
    """A line reduced to its lower-case letters and digits: for finding repeated lines."""
    return "".join(c for c in unicodedata.normalize("NFKC", text).lower() if c.isalnum())


def read_rows(file: Path, columns: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """Rows of a CSV in UTF-8 or, for old copies, cp1252 (models.md 9.2).

    Raises CorpusUnreadable where the file or a column is missing.
    """
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise CorpusUnreadable(f"{file}: {error.strerror}") from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("cp1252", "replace")
    rows = csv.DictReader(io.StringIO(text, newline=""))
    if missing := [c for c in columns if c not in (rows.fieldnames or ())]:
        raise CorpusUnreadable(f"{file}: no column {', '.join(missing)}")
    for number, row in enumerate(rows, start=2):
        if any(row[c] is None for c in columns):
            raise CorpusUnreadable(f"{file}: row {number} is cut short")
        yield row
