"""What the profile `scaled` is made of, as processes: sessions go on without their replica."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from cluster import Cluster, Replica, cluster
from live import Talk, close_to, comparable, demo_pcm, pieces, silence
from websockets.asyncio.client import ClientConnection, connect

import emotrace_clients
from emotrace_clients.streaming import converse
from emotrace_protocol import Event
from emotrace_protocol.messages import SessionEnd, SessionStart

GOING_AWAY = 1012
WITHOUT_A_CLOSE_FRAME = 1006
PIECE_BYTES = 25_600  # 0.4 s of two channels


@pytest.fixture(scope="module")
def scaled(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Enough for each test to take one away for good."""
    with cluster(toy, tmp_path_factory.mktemp("scaled"), 3) as running:
        yield running


async def test_a_session_survives_the_death_of_its_replica(scaled: Cluster) -> None:
    held = [0]
    with scaled.redis.client as redis:
        written = -redis.info()["total_net_input_bytes"]
        calm = await dialogue(
            scaled.stream_url,
            lambda _: held.append(sum(map(redis.memory_usage, redis.scan_iter("emotrace:*")))),
        )
        written += redis.info()["total_net_input_bytes"]
    audio, pcm = demo_pcm()
    seconds = len(pcm) / (2 * audio.channels * audio.sample_rate)
    print(f"\nRedis: {written / seconds / 1e6:.2f} MB/s of sound, {max(held) / 1e6:.2f} MB held")
    killed: list[Replica] = []

    def kill(heard: list[Event]) -> None:
        if len(finals(heard)) == 3 and not killed:
            killed.append(having(scaled))
            killed[0].kill()

    heard = await dialogue(scaled.stream_url, kill)
    assert [event.sequence for event in heard] == sorted({event.sequence for event in heard})
    assert sum(event.type == "session.resumed" for event in heard) == 1
    assert len(finals(heard)) == 10
    assert close_to(finals(heard), finals(calm))


async def test_a_replica_that_hangs_loses_its_connections(scaled: Cluster) -> None:
    async with connect(scaled.stream_url, compression=None) as socket:
        client = await begun(socket)
        replica = having(scaled)
        replica.signal(signal.SIGSTOP)
        assert await client.closed() == WITHOUT_A_CLOSE_FRAME
    await passes(scaled)
    replica.signal(signal.SIGCONT)


async def test_a_replica_that_drains_tells_its_sessions(scaled: Cluster) -> None:
    async with connect(scaled.stream_url, compression=None) as socket:
        client = await begun(socket)
        replica = having(scaled)
        replica.signal(signal.SIGTERM)
        assert await client.closed() == GOING_AWAY
    assert client.of("error")[-1].code == "going_away"
    await passes(scaled)
    assert await asyncio.to_thread(replica.ended, 40) == 0


async def dialogue(url: str, at: Callable[[list[Event]], None] | None = None) -> list[Event]:
    """The demo, some times faster than time. at: is told after each event of all so far."""
    audio, pcm = demo_pcm()

    async def blocks() -> AsyncIterator[bytes]:
        for piece in pieces(pcm, PIECE_BYTES):
            await asyncio.sleep(0.02)
            yield piece

    heard: list[Event] = []

    def note(event: Event) -> None:
        heard.append(event)
        if at:
            at(heard)

    async with emotrace_clients.connect(
        url, audio=audio, transcription="off", interim=False
    ) as session:
        await converse(session, blocks(), note)
    return heard


def finals(heard: list[Event]) -> list[dict[str, object]]:
    """What was estimated; its number differs by those of the connection."""
    said = comparable([event for event in heard if event.type == "emotion.final"])
    return [{name: one[name] for name in one if name != "sequence"} for one in said]


def having(scaled: Cluster) -> Replica:
    """The replica with the one session that is open."""
    while len(found := [one for one in scaled.replicas if scaled.proxy.sessions(one.port)]) != 1:
        pass  # one of before may linger a moment
    return found[0]


async def begun(socket: ClientConnection) -> Talk:
    client = Talk(socket)
    await client.say(SessionStart(), silence(0.1))
    await client.until("session.started")
    return client


async def passes(scaled: Cluster) -> None:
    """A whole session, begun now."""
    async with connect(scaled.stream_url, compression=None) as socket:
        client = await begun(socket)
        await client.say(SessionEnd())
        await client.until("session.ended")
