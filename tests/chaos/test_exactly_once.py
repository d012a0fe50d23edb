"""Replicas die, stand still, drain; Redis pauses; the proxy restarts; connections are reset: and of
every session each event comes once, in order, as if nothing had happened."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from cluster import Cluster, Replica, cluster
from live import close_to, comparable, demo_pcm, pieces

from emotrace_clients import (
    ConnectionChange,
    ConnectionLost,
    ServerNotReady,
    ServerUnreachable,
    Session,
    connect,
)
from emotrace_clients.demo import shipped
from emotrace_clients.streaming import converse
from emotrace_clients.turns import TurnMatcher, read_turns
from emotrace_models.bundle import shipped_bundles
from emotrace_protocol import Event
from emotrace_protocol.events import SessionResumed

REPLICAS = 3
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
    """What clients went through. open: sessions that may be cut. turned_away: before they began."""

    open: set[Session] = field(default_factory=set)
    lost_at: dict[int, float] = field(default_factory=dict)
    away_s: list[float] = field(default_factory=list)
    dialogues: int = 0
    resumed: int = 0
    turned_away: int = 0

    def changed(self, client: int, change: ConnectionChange) -> None:
        if not change.up:
            self.lost_at[client] = time.monotonic()
        else:
            self.away_s.append(time.monotonic() - self.lost_at.pop(client))


async def came_in(stack: AsyncExitStack, url: str, watch: Watch, client: int) -> Session:
    """A session; who finds the proxy or a replica gone before it has begun tries again."""
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


class Trouble:
    """One fault after another, at random, until enough of them were felt. At least one replica is
    always there."""

    def __init__(self, running: Cluster, watch: Watch, seed: int) -> None:
        self._cluster = running
        self._watch = watch
        self._random = Random(seed)
        self._away: set[int] = set()
        self._returning: set[asyncio.Task[None]] = set()
        self.made: Counter[str] = Counter()

    async def run(self, faults: int) -> None:
        kinds = (self.cut, self.kill, self.terminate, self.stop, self.pause_redis, self.proxy)
        weights = (6, 3, 3, 3, 2, 1)
        while self.made.total() < faults or len(self._watch.away_s) < faults / 2:
            await asyncio.sleep(self._random.uniform(0.2, 0.8))
            (kind,) = self._random.choices(kinds, weights)
            if await kind():
                self.made[kind.__name__] += 1
        await asyncio.gather(*self._returning)

    async def cut(self) -> bool:
        """A client's connection is reset."""
        if not self._watch.open:
            return False
        session = self._random.choice(sorted(self._watch.open, key=id))
        session._line._socket.transport.abort()
        return True

    async def kill(self) -> bool:
        return self._take_away(signal.SIGKILL)

    async def terminate(self) -> bool:
        return self._take_away(signal.SIGTERM)

    async def stop(self) -> bool:
        """A replica stands still for some seconds, and goes on as if nothing had happened."""
        index = self._one()
        if index is None:
            return False
        server = self._cluster.replicas[index]
        server.signal(signal.SIGSTOP)
        self._away.add(index)
        self._later(self._wake(index, server))
        return True

    async def pause_redis(self) -> bool:
        with self._cluster.redis.client as client:
            client.client_pause(self._random.randint(200, 1_500))
        return True

    async def proxy(self) -> bool:
        await asyncio.to_thread(self._cluster.restart_proxy)
        return True

    def _one(self) -> int | None:
        there = [n for n in range(len(self._cluster.replicas)) if n not in self._away]
        return self._random.choice(there) if len(there) > 1 else None

    def _take_away(self, number: int) -> bool:
        index = self._one()
        if index is None:
            return False
        server = self._cluster.replicas[index]
        server.signal(number)
        self._away.add(index)
        self._later(self._bring_back(index, server))
        return True

    def _later(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._returning.add(task)
        task.add_done_callback(self._returning.discard)

    async def _bring_back(self, index: int, server: Replica) -> None:
        await asyncio.to_thread(server.ended, 40)
        server.start()
        await asyncio.to_thread(server.await_ready)
        self._away.discard(index)

    async def _wake(self, index: int, server: Replica) -> None:
        await asyncio.sleep(self._random.uniform(0.5, 3.0))
        server.signal(signal.SIGCONT)
        self._away.discard(index)


@dataclass
class Scene:
    """calm: what is said of the dialogue where nothing happens."""

    cluster: Cluster
    calm: list[dict[str, Any]]


async def chaos(scene: Scene, *, faults: int, sessions: int, pause_s: float, seed: int) -> None:
    running, watch, over = scene.cluster, Watch(), asyncio.Event()
    trouble = Trouble(running, watch, seed)

    async def client(number: int) -> None:
        while not over.is_set():
            events = await dialogue(running.stream_url, watch, number, pause_s)
            assert [event.sequence for event in events] == sorted({e.sequence for e in events})
            assert first_difference(said(events), scene.calm) is None
            watch.dialogues += 1

    async def make() -> None:
        await trouble.run(faults)
        over.set()

    async with asyncio.TaskGroup() as group:
        for number in range(sessions):
            group.create_task(client(number))
        group.create_task(make())
    away = np.array(watch.away_s)
    print(
        f"\n{dict(trouble.made)}: {watch.dialogues} dialogues of {sessions} clients, resumed "
        f"{watch.resumed} times, turned away {watch.turned_away} times; away p50 "
        f"{np.percentile(away, 50):.2f} s, p99 {np.percentile(away, 99):.2f} s, "
        f"at most {away.max():.2f} s"
    )
    assert watch.dialogues >= sessions
    assert watch.resumed


@contextmanager
def scene(bundle: Path, folder: Path) -> Iterator[Scene]:
    with cluster(
        bundle,
        folder,
        REPLICAS,
        EMOTRACE_DRAIN_TIMEOUT_MS="2000",
        EMOTRACE_TEXT_WAIT_MS="10000",  # however busy the machine is, words come in time
    ) as running:
        calm = said(asyncio.run(dialogue(running.stream_url, Watch(), 0, 0.0)))
        assert sum(event["type"] == "emotion.final" for event in calm) == 10
        yield Scene(running, calm)


@pytest.fixture(scope="module")
def of_the_toy(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene(toy, tmp_path_factory.mktemp("toy")) as there:
        yield there


@pytest.fixture(scope="module")
def of_the_shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene(shipped_bundles()["default"], tmp_path_factory.mktemp("shipped")) as there:
        yield there


@pytest.mark.parametrize("seed", range(25))
async def test_nothing_is_lost_doubled_or_reordered(of_the_toy: Scene, seed: int) -> None:
    await chaos(of_the_toy, faults=4, sessions=3, pause_s=0.02, seed=seed)


@pytest.mark.long
@pytest.mark.timeout(3_600)
async def test_nothing_is_lost_doubled_or_reordered_at_length(of_the_toy: Scene) -> None:
    await chaos(of_the_toy, faults=1_000, sessions=40, pause_s=0.4, seed=1)


@pytest.mark.long
@pytest.mark.timeout(3_600)
async def test_who_comes_back_hears_what_an_undisturbed_client_hears(of_the_shipped: Scene) -> None:
    await chaos(of_the_shipped, faults=200, sessions=40, pause_s=0.4, seed=1)
