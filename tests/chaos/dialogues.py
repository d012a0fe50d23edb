"""Clients that talk through a cluster, come back when they are cut, and note what became of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from live import close_to, comparable, demo_pcm, pieces

from emotrace_clients import (
    ConnectionChange,
    ConnectionLost,
    ServerNotReady,
    ServerUnreachable,
    Session,
    SessionFailed,
    connect,
)
from emotrace_clients.demo import shipped
from emotrace_clients.streaming import converse
from emotrace_clients.turns import TurnMatcher, read_turns
from emotrace_protocol import Event
from emotrace_protocol.events import SessionResumed

PIECE_BYTES = 25_600  # 0.4 s of two channels
OF_THE_CONNECTION = {
    "session.started", "session.resumed", "session.ended", "warning", "error", "heartbeat",
    "service.degraded",
}  # fmt: skip


def said(events: list[Event]) -> list[dict[str, Any]]:
    """What was said of the dialogue."""
    plain = comparable([event for event in events if event.type not in OF_THE_CONNECTION])
    for event in plain:
        del event["sequence"]
    return plain


def first_difference(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> Any:
    """The first events that are not the same; None: all are."""
    for pair in zip_longest(one, other):
        if not close_to(*pair):
            return pair
    return None


@dataclass
class Watch:
    """What clients went through. open: sessions that may be cut. away: from when to when clients
    had no connection. turned_away: before they began."""

    open: set[Session] = field(default_factory=set)
    lost_at: dict[int, float] = field(default_factory=dict)
    away: list[tuple[float, float]] = field(default_factory=list)
    dialogues: int = 0
    resumed: int = 0
    turned_away: int = 0

    def changed(self, client: int, change: ConnectionChange) -> None:
        if not change.up:
            self.lost_at[client] = time.monotonic()
        else:
            self.away.append((self.lost_at.pop(client), time.monotonic()))


async def came_in(stack: AsyncExitStack, url: str, watch: Watch, client: int) -> Session:
    """A session; who finds the server gone or full before it has begun tries again."""
    audio, _ = demo_pcm()
    while True:
        try:
            return await stack.enter_async_context(
                connect(
                    url,
                    audio=audio,
                    speakers=shipped.speakers(),
                    transcription="client",
                    interim=False,
                    on_connection=lambda change: watch.changed(client, change),
                )
            )
        except (ServerUnreachable, ServerNotReady, ConnectionLost):
            pass
        except SessionFailed as refused:
            if not refused.event.retryable:
                raise
        watch.turned_away += 1
        await asyncio.sleep(0.2)


async def dialogue(url: str, watch: Watch, client: int, pause_s: float) -> list[Event]:
    """The demo with its words, some times faster than time."""
    _, pcm = demo_pcm()

    async def blocks() -> AsyncIterator[bytes]:
        for piece in pieces(pcm, PIECE_BYTES):
            await asyncio.sleep(pause_s)
            yield piece

    events: list[Event] = []
    async with AsyncExitStack() as stack:
        session = await came_in(stack, url, watch, client)
        watch.open.add(session)
        try:
            turns = TurnMatcher(read_turns(shipped.TURNS))
            await converse(session, blocks(), events.append, turns)
        finally:
            watch.open.discard(session)
    watch.resumed += sum(isinstance(event, SessionResumed) for event in events)
    return events
