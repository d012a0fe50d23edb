"""Sessions kept in this process's memory: they survive their connection, and not the process."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Sequence

from emotrace_service.session_store import (
    TOKEN_BYTES,
    Resumed,
    Snapshot,
    TakenOver,
    Told,
    Unacknowledged,
    expired,
    unknown,
)
from emotrace_service.tickets import NotedHere


class MemoryStore:
    """limit: sessions without a connection; the oldest goes where one more comes."""

    durable = False

    def __init__(self, window_ms: int, limit: int) -> None:
        self.window_ms = window_ms
        self._limit = limit
        self._noted = NotedHere(time.monotonic)
        self._kept: dict[str, _Kept] = {}
        self._parked: OrderedDict[str, asyncio.TimerHandle] = OrderedDict()

    @property
    def kept(self) -> int:
        """Sessions that are known."""
        return len(self._kept)

    async def open(self, name: str) -> _MemoryLease:
        kept = self._kept[name] = _Kept()
        return _MemoryLease(self, name, kept)

    async def resume(self, name: str, token: str, sequence: int, attempt: int = 0) -> Resumed:
        kept = self._kept.get(name)
        given = _digest(token)
        digests = [_NOBODY, _NOBODY] if kept is None else kept.digests
        serves = [secrets.compare_digest(given, one) for one in digests]
        if not any(serves):
            kept = None
        if kept is None or kept.snapshot is None or attempt < kept.attempt:
            raise unknown(self.window_ms)
        first = kept.events[0].sequence if kept.events else kept.snapshot.sent
        if not first <= sequence <= kept.snapshot.sent:
            raise expired(sequence, first, kept.snapshot.sent)
        if timer := self._parked.pop(name, None):
            timer.cancel()
        kept.owner.set()
        kept.attempt = attempt
        kept.digests = [given]
        lease = _MemoryLease(self, name, kept)
        missed = tuple(event for event in kept.events if event.sequence >= sequence)
        return Resumed(lease, kept.snapshot, missed)

    async def first(self, ticket: str, life_s: float) -> bool:
        return await self._noted.first(ticket, life_s)

    async def room_elsewhere(self, here: bool) -> bool:
        return False

    async def close(self) -> None:
        for name in tuple(self._parked):
            self.forget(name)

    def park(self, name: str) -> None:
        """The client's time to come back begins."""
        if name not in self._kept:
            return
        loop = asyncio.get_running_loop()
        self._parked[name] = loop.call_later(self.window_ms / 1_000, self.forget, name)
        while len(self._parked) > self._limit:
            self.forget(next(iter(self._parked)))

    def forget(self, name: str) -> None:
        """The client does not come back."""
        if timer := self._parked.pop(name, None):
            timer.cancel()
        self._kept.pop(name, None)


class _Kept:
    """digests: of the tokens that serve. owner: is set once another connection goes on."""

    def __init__(self) -> None:
        self.digests = [_NOBODY]
        self.owner = asyncio.Event()
        self.attempt = 0
        self.snapshot: Snapshot | None = None
        self.events: deque[Told] = deque()
        self.unacknowledged = Unacknowledged()


class _MemoryLease:
    def __init__(self, store: MemoryStore, name: str, kept: _Kept) -> None:
        self.token = secrets.token_urlsafe(TOKEN_BYTES)
        kept.digests.append(_digest(self.token))
        kept.owner = self._owner = asyncio.Event()
        self._store = store
        self._name = name
        self._kept = kept

    async def commit(self, snapshot: Snapshot, events: Sequence[Told], acknowledged: int) -> None:
        if self._owner.is_set():
            raise TakenOver
        kept = self._kept
        kept.snapshot = snapshot
        kept.events.extend(Told(one.sequence, one.kept) for one in events)
        kept.unacknowledged.add(events)
        first = kept.unacknowledged.first(acknowledged)
        while kept.events and kept.events[0].sequence < first:
            kept.events.popleft()

    def confirm(self) -> None:
        if not self._owner.is_set():
            self._kept.digests = [_digest(self.token)]

    async def taken(self) -> None:
        await self._owner.wait()

    async def forget(self) -> None:
        if not self._owner.is_set():
            self._store.forget(self._name)

    async def erase(self) -> None:
        if self._owner.is_set():
            raise TakenOver
        self._store.forget(self._name)

    async def leave(self) -> None:
        if not self._owner.is_set():
            self._store.park(self._name)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


_NOBODY = b"\0" * 32  # no token's digest
