"""The task that sees memory run out: it closes the door, then sends the newest sessions elsewhere.

Elsewhere is a server that shares the store of sessions and has room. All of them say there each
second whether they have: without such a one, whoever is here stays.
"""

from __future__ import annotations

import asyncio
import time

from emotrace_service.headroom import CLOSE_SHARE, Headroom
from emotrace_service.memory import Memory, memory
from emotrace_service.serving import Serving
from emotrace_service.session_store import StoreLost

LOOK_S = 1.0
AGAIN_S = 0.2
# To count takes some 9 ms, in which none of our processes gets memory: where there is plenty, it is
# done every tenth time.
PLENTY_SHARE, PLENTY_LOOKS = 0.5, 10


class MakingRoom:
    """Of one server; `run` until it is cancelled."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._headroom = Headroom()

    async def run(self) -> None:
        limit = self._serving.settings.memory_limit_bytes
        while (found := await self._count(limit)) is not None:
            self.look(found, time.monotonic())
            for _ in range(PLENTY_LOOKS if found.share < PLENTY_SHARE else 1):
                await self._ask()
                await asyncio.sleep(LOOK_S)
        if limit is not None:
            self._serving.log.warning("the limit of memory is not watched on this system")

    async def _count(self, limit: int | None) -> Memory | None:
        """Too much is counted twice: a process that is being started has all that this one holds
        until it runs its own program."""
        found = await asyncio.to_thread(memory, limit)
        if found is not None and found.share >= CLOSE_SHARE and not self._headroom.closed:
            await asyncio.sleep(AGAIN_S)
            found = await asyncio.to_thread(memory, limit)
        return found

    def look(self, found: Memory, now: float) -> None:
        """now: in seconds of any clock."""
        serving, metrics = self._serving, self._serving.metrics
        metrics.memory.set(found.held)
        metrics.memory_limit.set(found.limit)
        self._headroom = self._headroom.advance(now, found.share)
        if self._headroom.closed != serving.short_of_memory:
            serving.log.warning(
                "memory runs out" if self._headroom.closed else "memory is free again",
                held=found.held,
                limit=found.limit,
            )
            serving.run_short(self._headroom.closed)
        leaving = self._headroom.leaving(now, serving.guests)
        if leaving and serving.room_elsewhere:
            self._headroom = self._headroom.left(now)
            gone = serving.send_away(leaving)
            metrics.moved.inc(gone)
            serving.log.warning("sessions are sent to another server", sessions=gone)

    async def _ask(self) -> None:
        """The store's other servers, where there are any."""
        serving = self._serving
        if serving.store is not None and serving.store.durable:
            try:
                serving.room_elsewhere = await serving.store.room_elsewhere(serving.has_room)
            except StoreLost:
                serving.room_elsewhere = False
