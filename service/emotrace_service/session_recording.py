"""Sessions that are recorded: only where the operator named a folder and a public key, and the
client asked for it with consent. The server can write a recording, and cannot read it.

What a client says goes into a sealed file (sealing) with its number, about once a second, from a
thread of its own: a crash costs the last second. Each connection of a session writes a part.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from io import FileIO
from pathlib import Path

import msgpack
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from prometheus_client import CollectorRegistry, Counter

from emotrace_service.auditing import Audit, AuditEvent, Entry
from emotrace_service.disk import DiskThread
from emotrace_service.logs import Logger
from emotrace_service.recorder import (
    DELETED,
    TOO_SLOW,
    About,
    Recorder,
    Waiting,
    write_all,
)
from emotrace_service.sealing import SEALED_KEY, Sealer, Unsealable, read_label

SUFFIX = ".sealed"
SWEEP_S = 3_600.0
DAY_S = 86_400.0
OPEN_S, DELETE_S, CLOSE_S = 2.0, 5.0, 5.0
TOKEN, TOKEN_BYTES = "token_sha256", 32
RESULTS = ("began", "completed", "failed", "deleted")
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Begun:
    """token: with which whoever began the session may have the recording deleted."""

    recorder: Recorder
    token: str


class SessionRecordings:
    """All of one server. keep_days: after which they are deleted. now: seconds since 1970."""

    def __init__(
        self,
        folder: Path,
        key: X25519PublicKey,
        keep_days: int,
        audit: Audit,
        registry: CollectorRegistry,
        log: Logger,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.keep_days = keep_days
        self._folder = folder
        self._key = key
        self._audit = audit
        self._log = log
        self._now = now
        self._results = Counter(
            "emotrace_recordings", "Recorded parts of sessions", ["result"], registry=registry
        )
        for result in RESULTS:
            self._results.labels(result)
        self._waiting = Waiting()
        self._live: dict[str, Recorder] = {}
        self._disk = DiskThread("emotrace-recording", self._sweep, SWEEP_S)

    async def begin(self, about: About) -> Begun | None:
        """None: it cannot be written, as the log says."""
        token = secrets.token_urlsafe(TOKEN_BYTES)
        recorder = await self._open(about, sha256(token.encode()).hexdigest())
        return None if recorder is None else Begun(recorder, token)

    async def go_on(self, about: About) -> Recorder | None:
        """The session goes on by another connection. None: what was recorded of it before is gone,
        because somebody had it deleted, or it cannot be written."""
        return await self._open(about, None)

    async def delete(self, session: str, token: str) -> bool:
        """Whether there was a recording of that session and token; it is gone now."""
        given = sha256(token.encode()).hexdigest()
        if not NAME.fullmatch(session):
            return False
        parts = await self._disk.run(partial(self._parts_of, session, given), DELETE_S)
        if parts:
            await self.forget(session)
        return bool(parts)

    async def forget(self, session: str) -> None:
        """Delete whatever there is of a session. Raises TimeoutError."""
        if (recorder := self._live.get(session)) is not None:
            recorder.stop(DELETED)
        await self._disk.run(partial(self._erase_all, session, "asked"), DELETE_S)

    def close(self) -> None:
        """Writes what waits, for a few seconds at most. Blocks."""
        self._disk.close(CLOSE_S)

    async def _open(self, about: About, token: str | None) -> Recorder | None:
        try:
            recorder = await self._disk.run(partial(self._create, about, token), OPEN_S)
        except (OSError, TimeoutError) as error:
            self._results.labels("failed").inc()
            cause = error.strerror if isinstance(error, OSError) else TOO_SLOW
            self._log.error("recording cannot begin", session=about.session, cause=cause)
            return None
        if recorder is not None:
            self._live[about.session] = recorder
            self._results.labels("began").inc()
            self._audit.record(
                Entry(AuditEvent.RECORDING_BEGAN, about.session, consent=about.consent)
            )
        return recorder

    def end(self, session: str, recorder: Recorder, reason: str) -> None:
        """The connection is over. Never waits."""
        if self._live.get(session) is recorder:
            del self._live[session]

        def ended(fault: str | None) -> None:
            if fault != DELETED:
                self._results.labels("completed" if fault is None else "failed").inc()

        recorder.end(reason, ended)
        self._audit.record(Entry(AuditEvent.RECORDING_ENDED, session, reason=reason))

    # What follows runs on the disk's thread.

    def _create(self, about: About, token: str | None) -> Recorder | None:
        """token: digest of it; None: that of the parts that there are. Raises OSError."""
        number = 0
        if token is None:
            parts = self._parts(about.session)
            if not parts:
                return None
            token, number = _token_of(parts[0]), len(parts)
        while True:
            path = self._folder / f"{about.session}.{number}{SUFFIX}"
            try:
                file = FileIO(path, "xb", opener=_private)
                break
            except FileExistsError:
                number += 1
        began = datetime.fromtimestamp(self._now(), UTC).isoformat(timespec="seconds")
        label = {"session": about.session, "part": number, "began": began, TOKEN: token}
        sealer = Sealer(self._key, json.dumps(label).encode())
        try:
            write_all(file, sealer.opening + sealer.seal(msgpack.packb(asdict(about))))
        except OSError:
            file.close()
            path.unlink()
            raise
        return Recorder(file, sealer, self._waiting, self._disk)

    def _parts(self, session: str) -> list[Path]:
        return sorted(self._folder.glob(f"{session}.*{SUFFIX}"), key=_number_of)

    def _parts_of(self, session: str, token: str) -> list[Path]:
        parts = self._parts(session)
        known = [_token_of(part).encode() for part in parts]
        return parts if any(secrets.compare_digest(one, token.encode()) for one in known) else []

    def _erase_all(self, session: str, reason: str) -> None:
        for path in self._parts(session):
            self._erase(path, reason)

    def _erase(self, path: Path, reason: str) -> None:
        _erase(path)
        self._results.labels("deleted").inc()
        session = path.name.partition(".")[0]
        self._audit.record(Entry(AuditEvent.RECORDING_DELETED, session, reason=reason))

    def _sweep(self) -> None:
        """Delete what is too old."""
        oldest = self._now() - self.keep_days * DAY_S
        try:
            for path in tuple(self._folder.glob(f"*{SUFFIX}")):
                if path.stat().st_mtime < oldest:
                    self._erase(path, "age")
        except OSError as error:
            self._log.error("old recordings cannot be deleted", cause=error.strerror)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _number_of(path: Path) -> int:
    """Of a part, by its file's name."""
    number = path.name.removesuffix(SUFFIX).rpartition(".")[2]
    return int(number) if number.isdecimal() else 0


def _token_of(path: Path) -> str:
    """Digest of the token that deletes a recording; empty where the file is none."""
    try:
        with path.open("rb") as file:
            token = json.loads(read_label(file))[TOKEN]
    except (OSError, ValueError, KeyError):
        return ""
    return str(token)


def _erase(path: Path) -> None:
    """The key goes first, so that the rest is of no use to anybody wherever a disk keeps it."""
    try:
        with path.open("r+b") as file:
            read_label(file)
            file.write(os.urandom(SEALED_KEY))
            file.flush()
            os.fsync(file.fileno())
    except (OSError, Unsealable):
        pass  # it is no recording, or is gone already
    path.unlink(missing_ok=True)
