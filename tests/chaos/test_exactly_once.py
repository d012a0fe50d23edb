"""Replicas die, stand still, drain; Redis pauses; the proxy restarts; connections are reset: and of
every session each event comes once, in order, as if nothing had happened."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from cluster import Cluster, Replica, cluster
from dialogues import Watch, dialogue, first_difference, said

from emotrace_models.bundle import shipped_bundles

REPLICAS = 3


class Trouble:
    """One fault after another, at random, until enough of them were felt. At least one replica is
    always there. beside_others: as those load that come back (Replica.start)."""

    def __init__(self, running: Cluster, watch: Watch, seed: int, *, beside_others: bool) -> None:
        self._cluster = running
        self._watch = watch
        self._random = Random(seed)
        self._beside_others = beside_others
        self._away: set[int] = set()
        self._returning: list[asyncio.Task[None]] = []
        self.made: Counter[str] = Counter()
        self.pauses: list[tuple[float, float]] = []  # of Redis, from when to when

    async def run(self, faults: int, every_s: tuple[float, float]) -> None:
        """every_s: how long it is quiet between two, at least and at most."""
        kinds = (self.cut, self.kill, self.terminate, self.stop, self.pause_redis, self.proxy)
        weights = (6, 3, 3, 3, 2, 1)
        while self.made.total() < faults or len(self._watch.away) < faults / 2:
            await asyncio.sleep(self._random.uniform(*every_s))
            (kind,) = self._random.choices(kinds, weights)
            if await kind():
                self.made[kind.__name__] += 1

    async def over(self) -> None:
        """Returns once all replicas are back. Raises what kept one from it."""
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
            pause_ms = self._random.randint(200, 1_500)
            client.client_pause(pause_ms)
        begun = time.monotonic()
        self.pauses.append((begun, begun + pause_ms / 1_000))
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
        self._returning.append(asyncio.create_task(work))

    async def _bring_back(self, index: int, server: Replica) -> None:
        await asyncio.to_thread(server.ended, 40)
        server.start(beside_others=self._beside_others)
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


async def chaos(
    scene: Scene,
    *,
    faults: int,
    sessions: int,
    pause_s: float,
    seed: int,
    every_s: tuple[float, float] = (0.2, 0.8),
    beside_others: bool = False,
) -> None:
    running, watch, over = scene.cluster, Watch(), asyncio.Event()
    trouble = Trouble(running, watch, seed, beside_others=beside_others)

    async def client(number: int) -> None:
        while not over.is_set():
            events = await dialogue(running.stream_url, watch, number, pause_s)
            assert [event.sequence for event in events] == sorted({e.sequence for e in events})
            assert first_difference(said(events), scene.calm) is None
            watch.dialogues += 1

    async def make() -> None:
        await trouble.run(faults, every_s)
        over.set()
        await trouble.over()

    async with asyncio.TaskGroup() as group:
        for number in range(sessions):
            group.create_task(client(number))
        group.create_task(make())

    def paused(lost: float, back: float) -> bool:
        return any(lost < end and begun < back for begun, end in trouble.pauses)

    met_no_pause = [one for one in watch.away if not paused(*one)]
    print(
        f"\n{dict(trouble.made)}: {watch.dialogues} dialogues of {sessions} clients, resumed "
        f"{watch.resumed} times, turned away {watch.turned_away} times; away {times(watch.away)}; "
        f"where Redis did not pause meanwhile {times(met_no_pause)}"
    )
    assert watch.dialogues >= sessions
    assert watch.resumed


def times(away: list[tuple[float, float]]) -> str:
    if not away:
        return "nobody"
    took = np.array([back - lost for lost, back in away])
    p50, p99 = np.percentile(took, (50, 99))
    return f"p50 {p50:.2f} s, p99 {p99:.2f} s, at most {took.max():.2f} s"


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
    await chaos(of_the_toy, faults=3, sessions=3, pause_s=0.02, seed=seed)


@pytest.mark.long
@pytest.mark.timeout(3_600)
async def test_nothing_is_lost_doubled_or_reordered_at_length(of_the_toy: Scene) -> None:
    await chaos(of_the_toy, faults=1_000, sessions=40, pause_s=0.4, seed=1)


@pytest.mark.long
@pytest.mark.timeout(3_600)
async def test_who_comes_back_hears_what_an_undisturbed_client_hears(of_the_shipped: Scene) -> None:
    gap_s = (1.0, 3.0)  # a replica that loads these models takes some seconds
    await chaos(
        of_the_shipped,
        faults=200,
        sessions=40,
        pause_s=0.4,
        seed=1,
        every_s=gap_s,
        beside_others=True,
    )
