"""Rows of CSV and TSV files with their line numbers."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from emotrace_training.manifests import ManifestError


def decoded(file: Path) -> str:
    """The text of a file in UTF-8 or, for old copies, cp1252. ManifestError where there is none."""
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise ManifestError(f"{file}: {error.strerror}") from error
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("cp1252", "replace")


def rows(
    file: Path, columns: Sequence[str], delimiter: str = ","
) -> Iterator[tuple[str, dict[str, str]]]:
    """Each row with its place (`file:line`); cells are stripped, missing ones empty.

    Raises ManifestError where the file or a column is missing.
    """
    reader = csv.DictReader(io.StringIO(decoded(file), newline=""), delimiter=delimiter)
    names = reader.fieldnames or []
    if missing := [column for column in columns if column not in names]:
        raise ManifestError(
            f"{file}:1: no column {', '.join(missing)}; it has {', '.join(names) or 'none'}"
        )
    for row in reader:
        cells = {
            name: cell.strip() if isinstance(cell, str) else ""
            for name, cell in row.items()
            if isinstance(name, str)
        }
        yield f"{file}:{reader.line_num}", cells
