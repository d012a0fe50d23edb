"""What a client says in one session, sealed as it comes: about once a second, in whole chunks."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from io import FileIO
from typing import TYPE_CHECKING

import msgpack

from emotrace_models.bundle import Bundle
from emotrace_protocol.messages import SessionStart
from emotrace_service.disk import DiskThread

if TYPE_CHECKING:
    from emotrace_service.sealing import Sealer

CHUNK_BYTES = 64 * 1024
CHUNK_S = 1.0
MAX_WAITING_BYTES = 64 * 1024 * 1024  # of all recordings, for a disk that is slow
FAILED = "The recording could not be written on: {cause}."
TOO_SLOW = "the disk is too slow"
DELETED = "The recording was deleted."


@dataclass(frozen=True, slots=True)
class About:
    """What a replay must know. start: session.start as JSON, without what is secret in it.
    consent: digest of what was agreed to."""

    session: str
    start: str
    bundle: str
    version: str
    profile: str
    consent: str

    @classmethod
    def of(
        cls, session: str, start: SessionStart, bundle: Bundle, profile: str, consent: str
    ) -> About:
        return cls(
            session=session,
            start=start.model_dump_json(exclude={"record", "token"}),
            bundle=bundle.name,
            version=bundle.version,
            profile=profile,
            consent=consent,
        )


def consent_digest(consent: str) -> str:
    """Of what was agreed to, or of its name: only this is kept, and shows that it was that text."""
    return sha256(consent.encode()).hexdigest()


class Recorder:
    """One part: of one session on one connection. fault: why nothing more is recorded."""

    def __init__(self, file: FileIO, sealer: Sealer, waiting: Waiting, disk: DiskThread) -> None:
        self.fault: str | None = None
        self._file = file
        self._sealer = sealer
        self._waiting = waiting
        self._disk = disk
        self._chunk = bytearray()
        self._timer: asyncio.TimerHandle | None = None

    def note(self, number: int, data: bytes | str) -> None:
        """A message came, by its number in the session; empty: it had no effect. Never waits."""
        self._append((number, data))
        if len(self._chunk) >= CHUNK_BYTES:
            self._flush()
        elif self._timer is None and self._chunk:
            self._timer = asyncio.get_running_loop().call_later(CHUNK_S, self._flush)

    def end(self, reason: str, ended: Callable[[str | None], None]) -> None:
        """The connection is over. ended: is called, from the disk's thread, with the fault."""
        self._append({"end": reason})
        self._flush(last=True)
        self._disk.do(partial(self._close, ended))

    def stop(self, fault: str) -> None:
        """Record nothing more."""
        self.fault = self.fault or fault
        self._chunk.clear()

    def _append(self, item: object) -> None:
        if self.fault is None:
            self._chunk += msgpack.packb(item)

    def _flush(self, *, last: bool = False) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.fault is not None or not self._chunk:
            return
        chunk = bytes(self._chunk)
        self._chunk.clear()
        if not self._waiting.add(len(chunk)):
            self.stop(FAILED.format(cause=TOO_SLOW))
            return
        self._disk.do(partial(self._write, chunk, last))

    def _write(self, chunk: bytes, last: bool) -> None:
        """On the disk's thread."""
        self._waiting.remove(len(chunk))
        if self.fault is not None:
            return
        try:
            write_all(self._file, self._sealer.seal(chunk, last=last))
        except OSError as error:
            self.fault = FAILED.format(cause=error.strerror)

    def _close(self, ended: Callable[[str | None], None]) -> None:
        """On the disk's thread."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            self.fault = self.fault or FAILED.format(cause=error.strerror)
        self._file.close()
        ended(self.fault)


class Waiting:
    """Bytes of all recordings that are not on disk yet."""

    def __init__(self) -> None:
        self._bytes = 0
        self._lock = threading.Lock()

    def add(self, size: int) -> bool:
        """Whether there is room."""
        with self._lock:
            if self._bytes + size > MAX_WAITING_BYTES:
                return False
            self._bytes += size
            return True

    def remove(self, size: int) -> None:
        with self._lock:
            self._bytes -= size


def write_all(file: FileIO, data: bytes) -> None:
    """Raises OSError."""
    written = 0
    while written < len(data):
        written += file.write(data[written:])
