"""A thousand clients lose their connection at once, and all come back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cluster import Replica, replica
from live import close_to, comparable

from emotrace_clients import ConnectionChange, Session, connect
from emotrace_protocol import ServerEvent
from emotrace_protocol.events import SessionEnded

CLIENTS = 1_000
AT_ONCE = 50  # while they come for the first time
LONGEST_AWAY_S = 15.0
SOUND = bytes(3_200)
BEFORE, MEANWHILE, AFTER = "That is wonderful.", "I do not believe it.", "How sad."


@pytest.fixture
def server(toy: Path, tmp_path: Path) -> Iterator[Replica]:
    """With as many places as there are clients."""
    settings = {
        "EMOTRACE_MAX_SESSIONS": str(CLIENTS),
        "EMOTRACE_NEW_SESSIONS_A_SECOND": str(CLIENTS),
    }
    with replica(toy, tmp_path, **settings) as running:
        yield running


@dataclass
class Client:
    """changes: of its connection, up or down, and when. estimates: is released for each."""

    estimates: asyncio.Semaphore
    events: list[ServerEvent] = field(default_factory=list)
    changes: list[tuple[bool, float]] = field(default_factory=list)
    down: asyncio.Event = field(default_factory=asyncio.Event)
    session: Session | None = None

    async def run(self, url: str, coming: asyncio.Semaphore, there: asyncio.Barrier) -> None:
        opening = connect(url, interim=False, transcription="client", on_connection=self.changed)
        async with AsyncExitStack() as stack:
            async with coming:
                session = self.session = await stack.enter_async_context(opening)
                await session.send_text(BEFORE, speaker="A")
                await session.send_audio(SOUND)
                await session.marker("before")
            reading = asyncio.create_task(self.read(session))
            await there.wait()
            await session.send_text(MEANWHILE, speaker="A")
            await self.down.wait()
            await session.send_audio(SOUND)
            await session.send_text(AFTER, speaker="A")
            await session.end()
            await reading

    async def read(self, session: Session) -> None:
        async for event in session:
            self.events.append(event)
            if event.type == "emotion.final":
                self.estimates.release()

    def lose(self) -> None:
        """The connection, without a word."""
        assert self.session is not None
        self.session._line._socket.transport.abort()

    def changed(self, change: ConnectionChange) -> None:
        self.changes.append((change.up, time.monotonic()))
        self.down.set()

    @property
    def away_s(self) -> float:
        (first, lost), (second, back) = self.changes
        assert (first, second) == (False, True)
        return back - lost

    @property
    def said(self) -> list[dict[str, Any]]:
        """The estimates. Their numbers count what the connection told besides."""
        finals = comparable([one for one in self.events if one.type == "emotion.final"])
        return [{name: one[name] for name in one if name != "sequence"} for one in finals]


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_a_thousand_clients_come_back(server: Replica) -> None:
    coming, estimates = asyncio.Semaphore(AT_ONCE), asyncio.Semaphore(0)
    there = asyncio.Barrier(CLIENTS + 1)
    clients = [Client(estimates) for _ in range(CLIENTS)]
    async with asyncio.TaskGroup() as group:
        for client in clients:
            group.create_task(client.run(server.stream_url, coming, there))
        await there.wait()
        for _ in range(CLIENTS + CLIENTS // 2):  # half of the second ones are there
            await estimates.acquire()
        for client in clients:
            client.lose()
    away = np.array([client.away_s for client in clients])
    p50, p99 = np.percentile(away, (50, 99))
    print(f"\n{CLIENTS} clients, away for: p50 {p50:.2f} s, p99 {p99:.2f}, max {away.max():.2f}")
    assert away.max() <= LONGEST_AWAY_S
    for client in clients:
        numbers = [event.sequence for event in client.events]
        assert numbers == sorted(set(numbers))
        ended = client.events[-1]
        assert isinstance(ended, SessionEnded)
        assert ended.totals.audio_bytes == 2 * len(SOUND)
        assert (ended.totals.utterances, ended.totals.finals, ended.totals.failed) == (3, 3, 0)
        assert [event.type for event in client.events].count("session.resumed") == 1
        assert len(client.said) == 3
        assert close_to(client.said, clients[0].said)
