"""A real client and a real server, and a connection between them that breaks again and again."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

import pytest
from live import LiveServer, close_to, comparable, demo_pcm, live_server, pieces

from emotrace_clients import ConnectionChange, connect
from emotrace_clients.demo import shipped
from emotrace_clients.streaming import converse, hurried
from emotrace_clients.turns import TurnMatcher, read_turns
from emotrace_protocol import Event
from emotrace_protocol.events import SessionEnded, SessionResumed

CUTS = 15
Limits = tuple[int | None, int | None]
OF_THE_CONNECTION = {"session.started", "session.resumed", "session.ended"}
OF_THE_MACHINE = {"heartbeat", "service.degraded", "warning"}  # and what else it does


@pytest.fixture(scope="module")
def server(toy: Path) -> Iterator[LiveServer]:
    with live_server(toy, audio_queue_ms=2_000) as running:  # little under way: cuts fall anywhere
        yield running


@pytest.fixture(scope="module")
def undisturbed(server: LiveServer) -> list[Event]:
    return asyncio.run(dialogue(server.stream_url))


class Cutter:
    """A TCP proxy that cuts its first connections, each after so many bytes up, or down."""

    def __init__(self, port: int, limits: list[Limits]) -> None:
        self._port = port
        self._limits = limits
        self.cut = 0

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, here = await asyncio.open_connection("127.0.0.1", self._port)
        up, down = self._limits.pop(0) if self._limits else (None, None)
        ways = {
            asyncio.create_task(self._pipe(reader, here, up)),
            asyncio.create_task(self._pipe(there, writer, down)),
        }
        done, pending = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.gather(*done, *pending, return_exceptions=True)
        for end in (here, writer):
            end.transport.abort()

    async def _pipe(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, left: int | None
    ) -> None:
        while data := await source.read(4_096):
            if left is not None and len(data) >= left:
                self.cut += 1
                sink.write(data[:left])  # a frame may be cut anywhere
                await sink.drain()
                return
            left = None if left is None else left - len(data)
            sink.write(data)
            await sink.drain()


@asynccontextmanager
async def cutting(url: str, limits: list[Limits]) -> AsyncIterator[tuple[str, Cutter]]:
    cutter = Cutter(urlsplit(url).port or 0, limits)
    async with await asyncio.start_server(cutter.carry, "127.0.0.1", 0) as proxy:
        port = proxy.sockets[0].getsockname()[1]
        yield f"ws://127.0.0.1:{port}/v1/stream", cutter


async def dialogue(url: str, changes: list[ConnectionChange] | None = None) -> list[Event]:
    """The demo with its words, as fast as the server goes."""
    audio, pcm = demo_pcm()
    events: list[Event] = []
    async with connect(
        url,
        audio=audio,
        speakers=shipped.speakers(),
        transcription="client",
        interim=False,
        on_connection=None if changes is None else changes.append,
    ) as session:
        turns = TurnMatcher(read_turns(shipped.TURNS))
        await converse(session, hurried(pieces(pcm, 2_560)), events.append, turns)
    return events


def test_the_command_says_that_it_goes_on(server: LiveServer) -> None:
    limits: list[Limits] = [(None, 8_000), (None, 9_000)]

    async def command() -> tuple[int | None, str, str]:
        async with cutting(server.stream_url, limits) as (url, _):
            arguments = ("stream", str(shipped.AUDIO), "--fast", "--url", url)
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "emotrace_clients", *arguments),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            out, err = await process.communicate()
            return process.returncode, out.decode(), err.decode()

    code, out, err = asyncio.run(command())
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert sum("The connection to the server broke" in line for line in lines) == 2
    assert sum("is back, and the session goes on: nothing was lost" in line for line in lines) == 2
    assert sum("why:" in line for line in lines) == 10
    assert "10 utterances, 10 estimates" in lines[-1]


def said(events: list[Event]) -> list[dict[str, Any]]:
    """What was said of the dialogue, without numbers that count the connection's own events."""
    left_out = OF_THE_CONNECTION | OF_THE_MACHINE
    plain = comparable([event for event in events if event.type not in left_out])
    for event in plain:
        del event["sequence"]
    return plain


@pytest.mark.parametrize("seed", range(3))
async def test_cuts_at_random_places_lose_and_double_nothing(
    server: LiveServer, undisturbed: list[Event], seed: int
) -> None:
    random = Random(seed)
    limits = [(random.randrange(400, 400_000), random.randrange(200, 12_000)) for _ in range(CUTS)]
    limits[0] = (50_000, 4_000)  # before session.started there is no session to resume
    changes: list[ConnectionChange] = []
    async with cutting(server.stream_url, limits) as (url, cutter):
        events = await dialogue(url, changes)
    assert cutter.cut == CUTS, "the dialogue was over before the last cut"
    assert changes[-1].up
    places = {event.messages for event in events if isinstance(event, SessionResumed)}
    assert len(places) > CUTS / 3, "the cuts fell on few places of the dialogue"
    assert [event.sequence for event in events] == sorted({event.sequence for event in events})
    assert close_to(said(events), said(undisturbed))
    assert sum(event.type == "emotion.final" for event in events) == 10
    ended, ended_before = events[-1], undisturbed[-1]
    assert isinstance(ended, SessionEnded)
    assert isinstance(ended_before, SessionEnded)
    for total in ("audio_ms", "audio_bytes", "utterances", "finals", "revisions", "failed"):
        assert getattr(ended.totals, total) == getattr(ended_before.totals, total)
