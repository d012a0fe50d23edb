"""The audit log's file. A thread of its own writes it, so that no session waits for a disk.

The chain (audit_chain) goes on over restarts and rotations: number and digest of the last line are
kept beside the log in a second file, and told in the ordinary log, which is best sent to another
machine.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge

from emotrace_service.audit_chain import (
    CLOSED,
    NOTHING,
    OPENED,
    Link,
    digest,
    head_of,
    next_line,
    read_line,
)
from emotrace_service.auditing import AuditEvent, Entry
from emotrace_service.errors import StartRefused
from emotrace_service.logs import Logger
from emotrace_service.rationing import Rations

MAX_WAITING = 10_000  # entries; what comes then is counted
RETRY_S = 1.0
ANCHOR_S = 60.0
CLOSE_S = 5.0
TAIL_BYTES = 64 * 1024
LOST = "log.lost"
NEWLINE = 10


class AuditLog:
    """Appends to `path`; creates it, not its folder. clock: in seconds; does not go back."""

    def __init__(
        self,
        path: Path,
        registry: CollectorRegistry,
        log: Logger,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises StartRefused."""
        self._path = path
        self._log = log
        self._now = now
        self._clock = clock
        self._lines_total = Counter(
            "emotrace_audit_lines", "Lines of the audit log", ["result"], registry=registry
        )
        for result in ("written", "lost"):
            self._lines_total.labels(result)
        self._failing = Gauge(
            "emotrace_audit_failing", "1 while the audit log cannot be written", registry=registry
        )
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._waiting: list[tuple[datetime, Entry]] = []
        self._lost = 0
        self._closing = False
        self._rations: Rations[str] = Rations()
        self._unwritten: deque[tuple[bytes, Link]] = deque()
        self._written = 0  # bytes of the first of them
        self._broken = False
        self._anchored = self._kept = NOTHING
        self._anchored_at = clock()
        try:
            self._head = _lock_head(path)
            self._file = _open(path)
            self._chained, rest = _end_of(self._file, _read_head(self._head))
        except OSError as error:
            raise StartRefused(
                f"The audit log {path} cannot be written: {error.strerror}. Give the server the "
                "right to, or another EMOTRACE_AUDIT_LOG."
            ) from None
        self._safe = self._chained
        if rest and not rest.endswith(b"\n"):
            self._unwritten.append((b"\n", self._chained))
        self._chain(self._now(), OPENED, {"torn": True} if rest else {})
        self._write()
        self._anchor()
        self._thread = threading.Thread(target=self._run, name="emotrace-audit", daemon=True)
        self._thread.start()

    def record(self, entry: Entry) -> None:
        with self._lock:
            if len(self._waiting) < MAX_WAITING:
                self._waiting.append((self._now(), entry))
            else:
                self._lost += 1
                self._lines_total.labels("lost").inc()
        self._wake.set()

    def close(self) -> None:
        """Writes what is left, for a few seconds at most."""
        self._closing = True
        self._wake.set()
        self._thread.join(CLOSE_S)
        if not self._thread.is_alive():
            os.close(self._file)
            os.close(self._head)

    def _run(self) -> None:
        while not self._closing:
            self._wake.wait(RETRY_S)
            self._wake.clear()
            self._take()
            self._write()
            if self._clock() - self._anchored_at >= ANCHOR_S:
                self._anchor()
        self._take()
        self._tell_refusals(self._rations.rest())
        self._chain(self._now(), CLOSED, {})
        self._write()
        self._lines_total.labels("lost").inc(len(self._unwritten))
        self._anchor()

    def _take(self) -> None:
        """Entries become lines, unless many wait to be written already."""
        if len(self._unwritten) >= MAX_WAITING:
            return
        with self._lock:
            taken, self._waiting = self._waiting, []
            lost, self._lost = self._lost, 0
        for moment, entry in taken:
            refusal = entry.event is AuditEvent.REFUSED
            if not refusal or self._rations.take(str(entry.code), self._clock()):
                self._chain(moment, entry.event, entry.told())
        if lost:
            self._chain(self._now(), LOST, {"counts": {"lines": lost}})
        self._tell_refusals(self._rations.left_out(self._clock()))

    def _tell_refusals(self, counts: Mapping[str, int]) -> None:
        """Of a flood of refusals the first are told one by one, the others by their number."""
        for code, count in counts.items():
            told = {"code": code, "counts": {"refusals": count}}
            self._chain(self._now(), AuditEvent.REFUSED, told)

    def _chain(self, moment: datetime, event: str, told: Mapping[str, Any]) -> None:
        line, self._chained = next_line(self._chained, moment, event, told)
        self._unwritten.append((line, self._chained))

    def _write(self) -> None:
        """What can be written; the rest stays, and is tried again."""
        try:
            self._follow()
            while self._unwritten:
                line, link = self._unwritten[0]
                while self._written < len(line):
                    self._written += os.write(self._file, line[self._written :])
                self._unwritten.popleft()
                self._written = 0
                if link != self._safe:
                    self._lines_total.labels("written").inc()
                self._safe = link
            if self._safe != self._kept:
                os.fsync(self._file)
                os.pwrite(self._head, _head_line(self._safe), 0)
                self._kept = self._safe
        except OSError as error:
            self._tell_broken(error.strerror)
        else:
            self._tell_broken(None)

    def _follow(self) -> None:
        """Where the file was moved away (rotated), go on in a new one."""
        ours = os.fstat(self._file)
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            there = None
        if there is None or (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino):
            fresh = _open(self._path)
            os.close(self._file)
            self._file = fresh
            self._written = 0  # half a line stays where it is, and comes whole here

    def _tell_broken(self, cause: str | None) -> None:
        """cause: why it cannot be written; None: it can. The service goes on either way."""
        broken = cause is not None
        if broken == self._broken:
            return
        self._broken = broken
        self._failing.set(broken)
        if broken:
            self._log.error("audit log cannot be written", cause=cause)
        else:
            self._log.info("audit log is written again")

    def _anchor(self) -> None:
        """Tell where the chain is to whoever keeps the ordinary log."""
        self._anchored_at = self._clock()
        if self._safe != self._anchored:
            self._anchored = self._safe
            self._log.info("audit anchor", anchor=str(self._safe))


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _lock_head(path: Path) -> int:
    """Raises StartRefused where another server has it, OSError."""
    head = os.open(head_of(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(head, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(head)
        raise StartRefused(
            f"Another server writes to the audit log {path}. Give each its own EMOTRACE_AUDIT_LOG."
        ) from None
    return head


def _head_line(link: Link) -> bytes:
    """Always of one length, so that it is replaced by one write."""
    return f"{link.number:020d}:{link.digest}\n".encode()


def _read_head(head: int) -> Link:
    try:
        return Link.read(os.pread(head, 128, 0).decode("ascii", "replace"))
    except ValueError:
        return NOTHING


def _end_of(file: int, head: Link) -> tuple[Link, bytes]:
    """What the next line follows, and the bytes at the end that are no line: a server died there.

    Where the file ends before what the second file says, it was rotated, or lines are missing: the
    chain goes on from there all the same, and so shows it.
    """
    size = os.fstat(file).st_size
    tail = os.pread(file, min(size, TAIL_BYTES), max(0, size - TAIL_BYTES))
    rest = tail
    for end in reversed([place for place, byte in enumerate(tail) if byte == NEWLINE]):
        line = read_line(tail[tail.rfind(b"\n", 0, end) + 1 : end])
        if line is not None:
            head = max(line.link, head, key=lambda link: link.number)
            rest = tail[end + 1 :]
            break
    if rest:
        head = Link(head.number + 1, digest(rest.removesuffix(b"\n")))
    return head, rest
