"""What lets a session outlive its connection. Where nothing is kept, it does nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

from emotrace_protocol.errors import ErrorCode, ProtocolError
from emotrace_protocol.events import ResumeInfo
from emotrace_protocol.messages import SessionResume
from emotrace_service.session_store import (
    BUFFER_MS,
    Lease,
    Resumed,
    SessionStore,
    Snapshot,
    StoreLost,
    TakenOver,
    Told,
)

RETRY_AFTER_MS = 5_000


class Continuity:
    """Of one connection."""

    def __init__(self, store: SessionStore | None) -> None:
        self._store = store
        self._lease: Lease | None = None

    @property
    def keeps(self) -> bool:
        """Whether the session can be taken up again."""
        return self._lease is not None

    @property
    def moves(self) -> bool:
        """Whether another server can go on with it."""
        return self._lease is not None and self._store is not None and self._store.durable

    async def begin(self, name: str) -> None:
        """A new session that its client wants to be kept."""
        if self._store is not None:
            with suppress(StoreLost):
                self._lease = await self._store.open(name)

    async def resume(self, message: SessionResume) -> Resumed:
        """A session whose connection broke. Raises ProtocolError."""
        if self._store is None:
            raise ProtocolError(ErrorCode.SESSION_UNKNOWN, "This server keeps no sessions.")
        try:
            resumed = await self._store.resume(
                message.session, message.token, message.sequence, message.attempt
            )
        except StoreLost:
            raise ProtocolError(
                ErrorCode.CAPACITY,
                "What keeps the sessions does not answer.",
                retry_after_ms=RETRY_AFTER_MS,
            ) from None
        self._lease = resumed.lease
        return resumed

    @property
    def info(self) -> ResumeInfo | None:
        """What the client needs to come back."""
        if self._store is None or self._lease is None:
            return None
        return ResumeInfo(
            token=self._lease.token, window_ms=self._store.window_ms, buffer_ms=BUFFER_MS
        )

    def confirm(self) -> None:
        """The client has said something, so it has what it was told before."""
        if self._lease is not None:
            self._lease.confirm()

    async def watch(self) -> None:
        """Raises TakenOver once another connection goes on with the session."""
        if self._lease is not None:
            await self._lease.taken()
            raise TakenOver

    async def commit(
        self, snapshot: Callable[[], Snapshot], told: Sequence[Told], acknowledged: int
    ) -> bool:
        """False: it cannot be kept any more, which happens once. Raises TakenOver."""
        lease = self._lease
        if lease is None:
            return True
        try:
            await lease.commit(snapshot(), told, acknowledged)
        except TakenOver:
            if self._lease is lease:
                raise
            return True  # the session was erased meanwhile
        except StoreLost:
            self._lease = None
            return False
        return True

    async def forget(self) -> None:
        """The client does not come back."""
        if self._lease is not None:
            await self._lease.forget()

    async def erase(self) -> ProtocolError | None:
        """Nothing shall be kept, of the past nor from now on. Gives why that cannot be done now.
        Raises TakenOver."""
        if self._store is None or self._lease is None:
            return None
        lease, self._lease = self._lease, None  # nothing is committed from now on
        try:
            await lease.erase()
        except StoreLost:
            pass
        except asyncio.CancelledError:
            self._lease = lease  # to be tried again
            raise
        else:
            return None
        return ProtocolError(
            ErrorCode.CAPACITY,
            "What keeps the sessions does not answer; it forgets this one by itself, in "
            f"{self._store.window_ms / 1_000:g} s.",
            retry_after_ms=RETRY_AFTER_MS,
        )

    async def leave(self) -> None:
        """The connection is over."""
        if self._lease is not None:
            await self._lease.leave()
