"""Rows of tables (CSV, TSV, JSON lines) with their line numbers."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from emotrace_training.manifests import ManifestError

DELIMITERS = {".csv": ",", ".tsv": "\t"}


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


def table_rows(table: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Each row of a .csv, .tsv or .jsonl with its place (`file:line`), cells as text, stripped.

    Raises ManifestError, which names file and line.
    """
    if table.suffix.lower() in DELIMITERS:
        yield from rows(table, (), DELIMITERS[table.suffix.lower()])
    elif table.suffix.lower() in (".jsonl", ".ndjson"):
        for number, line in enumerate(decoded(table).split("\n"), start=1):
            if not line.strip():
                continue
            place = f"{table}:{number}"
            try:
                values = json.loads(line)
            except ValueError as error:
                raise ManifestError(f"{place}: is not JSON: {error}") from error
            if not isinstance(values, dict):
                raise ManifestError(f"{place}: is no object")
            yield place, {k: "" if v is None else str(v).strip() for k, v in values.items()}
    else:
        raise ManifestError(f"{table}: is none of .csv, .tsv, .jsonl")


def seconds_between(
    row: Mapping[str, str], first: str, second: str, place: str
) -> tuple[float, float] | None:
    """The times in two columns of a row; None where both are empty. Raises ManifestError."""
    if not row.get(first) and not row.get(second):
        return None
    try:
        begin, end = float(row.get(first, "")), float(row.get(second, ""))
    except ValueError:
        raise ManifestError(f"{place}: {first} and {second} are seconds, both or neither") from None
    if not (math.isfinite(end) and 0 <= begin < end):
        raise ManifestError(f"{place}: {first} {begin} and {second} {end} do not go forward")
    return begin, end
