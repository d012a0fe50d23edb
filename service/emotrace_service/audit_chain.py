"""The audit log's lines: each holds the SHA-256 of the line before it. Pure.

    {"number": 1, "previous": "9f2c...", "time": "2026-03-01T09:00:00.000Z", "event": "...", ...}

Whoever changes, removes or reorders a line breaks the chain where it was done. A missing end breaks
nothing; it is found by an anchor: number and digest of a line, noted elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

OPENED, CLOSED = "log.opened", "log.closed"
HEAD = ".head"


@dataclass(frozen=True, slots=True)
class Link:
    """The line that the next one refers to. number: of it, from 0. digest: SHA-256, in hex."""

    number: int
    digest: str

    def __str__(self) -> str:
        return f"{self.number}:{self.digest}"

    @classmethod
    def read(cls, text: str) -> Link:
        """Raises ValueError where the text is no anchor."""
        number, _, digest = text.strip().partition(":")
        if not number.isdecimal() or len(digest) != 64 or set(digest) - set("0123456789abcdef"):
            raise ValueError(f"{text!r} is no anchor: NUMBER:SHA256, as the server's log tells it")
        return cls(int(number), digest)


NOTHING = Link(-1, "0" * 64)


def next_line(
    before: Link, time: datetime, event: str, fields: Mapping[str, Any]
) -> tuple[bytes, Link]:
    """The line after `before`, with its end of line, and the link to it. time: in UTC."""
    number = before.number + 1
    content = {
        "number": number,
        "previous": before.digest,
        "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "event": event,
        **fields,
    }
    line = json.dumps(content, separators=(",", ":")).encode()
    return line + b"\n", Link(number, digest(line))


def head_of(path: Path) -> Path:
    """The file beside a log that holds number and digest of its last line."""
    return path.with_name(path.name + HEAD)


def digest(line: bytes) -> str:
    """Of a line without its end."""
    return sha256(line).hexdigest()


@dataclass(frozen=True, slots=True)
class Line:
    """A line that was read. torn: what lies before it is no line, and it says so."""

    link: Link
    previous: str
    event: str
    torn: bool


def read_line(raw: bytes) -> Line | None:
    """None: it is no line of an audit log."""
    try:
        found = json.loads(raw)
        number, previous, event = found["number"], found["previous"], found["event"]
    except (ValueError, KeyError, TypeError):
        return None
    if type(number) is not int or not isinstance(previous, str) or not isinstance(event, str):
        return None
    return Line(Link(number, digest(raw)), previous, event, found.get("torn") is True)


@dataclass
class Verification:
    """What was found in the files of one log, oldest first. faults: where it is not as it was
    written. notes: what is no fault by itself. lines: of the log. last: the last one."""

    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    lines: int = 0
    last: Link = NOTHING


def verify(files: Iterable[tuple[str, bytes]], anchors: Iterable[Link] = ()) -> Verification:
    """files: name and content of each, oldest first. anchors: lines that there must be."""
    found = Verification()
    digests: dict[int, str] = {}
    expected: Link | None = None
    event = ""
    for name, content in files:
        unread: list[bytes] = []
        *complete, tail = content.split(b"\n")
        for place, raw in enumerate(complete, 1):
            line = read_line(raw)
            if line is None:
                unread.append(raw)
                continue
            where = f"{name}, line {place}"
            if unread:
                expected = _after_torn(line, unread, expected, where, found)
                unread = []
            _compare(line, expected, where, found)
            expected, event = line.link, line.event
            digests[line.link.number] = line.link.digest
            found.lines += 1
        if unread:
            found.faults.append(f"{name}: its last {len(unread)} lines cannot be read")
        if tail:
            found.notes.append(f"{name} ends inside a line: its writing was interrupted")
    if expected is not None:
        found.last = expected
    if event != CLOSED:
        found.notes.append(
            "the log was not closed: the server still runs, or was killed, or lines are missing at "
            "the end, which only an anchor can tell"
        )
    for anchor in anchors:
        _check_anchor(anchor, digests, found)
    return found


def _after_torn(
    line: Line, unread: list[bytes], expected: Link | None, where: str, found: Verification
) -> Link | None:
    """What a line follows that comes after bytes that are no line."""
    blob = digest(b"\n".join(unread))
    if line.torn and line.event == OPENED and line.previous == blob:
        found.notes.append(f"{where}: what is before it was being written when the server died")
        if expected is not None and line.link.number > expected.number + 2:
            gap = _lines(expected.number + 1, line.link.number - 2)
            found.faults.append(f"{where} is number {line.link.number}: {gap} missing")
        return Link(line.link.number - 1, blob)
    found.faults.append(f"{where}: what is before it cannot be read")
    return expected


def _compare(line: Line, expected: Link | None, where: str, found: Verification) -> None:
    number = line.link.number
    if expected is None:
        if number == 0:
            expected = NOTHING
        else:
            found.notes.append(f"{where} is number {number}: what is before it is in older files")
            return
    due = expected.number + 1
    if number > due:
        found.faults.append(f"{where} is number {number}: {_lines(due, number - 1)} missing")
    elif number < due:
        found.faults.append(
            f"{where} is number {number} where {due} was due: it was moved, or put in"
        )
    elif line.previous != expected.digest:
        found.faults.append(
            f"{where} does not follow from the one before: that was changed, or this one"
        )


def _check_anchor(anchor: Link, digests: Mapping[int, str], found: Verification) -> None:
    if anchor == NOTHING:
        return
    last = found.last.number
    if anchor.number > last:
        found.faults.append(
            f"the log ends with number {last}: {_lines(last + 1, anchor.number)} missing"
        )
    elif anchor.number not in digests:
        found.notes.append(f"anchor {anchor.number} is in another file")
    elif digests[anchor.number] != anchor.digest:
        found.faults.append(f"number {anchor.number} is not the line that the anchor was made of")


def _lines(first: int, last: int) -> str:
    return f"number {first} is" if first == last else f"numbers {first} to {last} are"
