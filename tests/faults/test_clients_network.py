"""Rows 72 to 80 of docs/faults.md: clients that come back, networks that are bad, clocks that jump.

Most rows are proved where sessions that are taken up again are tested; docs/faults.md says where.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
from cluster import Replica, replica
from faults.bad_link import bad_link
from faults.raw import BINARY, Wire, frame, session, wire
from live import DEMO

from emotrace_protocol.messages import (
    AudioFormat,
    Marker,
    SessionEnd,
    SessionResume,
    SessionStart,
)

NEWCOMERS_A_SECOND = 50
LOST, NEW = 80, 400
HOUR_S = 3_600
IDLE_MS = 3_000


async def test_row_074_a_bad_connection(server: Replica) -> None:
    """64 kbit/s for 64 kbit of sound a second, delays of up to half a second."""
    samples, rate = soundfile.read(DEMO, dtype="float32", always_2d=True, stop=16_000 * 4)
    sound = np.ascontiguousarray(samples[::2, 0])
    assert rate == 16_000
    audio = AudioFormat(encoding="mulaw", sample_rate=8_000)
    data = mulaw(sound)

    async def dialogue(through: Replica) -> list[dict[str, Any]]:
        async with wire(through) as client:
            await client.say(SessionStart(audio=audio, interim=False))
            for at in range(0, len(data), 160):
                await client.send(frame(BINARY, data[at : at + 160]))
            await client.say(SessionEnd())
            assert await client.rest() == 1000
        assert not client.errors()
        return client.heard

    calm = await dialogue(server)
    async with bad_link(server.port, 8_000 + 500) as port:
        shaken = await dialogue(Replica(server.bundle, server.log, port=port))
    assert [event["posterior"] for event in calm if event["type"] == "emotion.final"]
    kept = ("type", "posterior", "start_ms", "end_ms")
    lasting = ("speech.started", "speech.ended", "emotion.final", "emotion.revised")
    one, other = (
        [[event.get(name) for name in kept] for event in events if event["type"] in lasting]
        for events in (calm, shaken)
    )
    assert one == other


def mulaw(samples: np.ndarray[Any, np.dtype[np.float32]]) -> bytes:
    """By G.711's formula, continuous."""
    pressed = np.sign(samples) * np.log1p(255 * np.abs(samples)) / np.log(256)
    codes = np.where(pressed < 0, 127 - np.round(-pressed * 127), 255 - np.round(pressed * 127))
    return codes.astype(np.uint8).tobytes()


@pytest.fixture
def paced(toy: Path, tmp_path: Path) -> Iterator[Replica]:
    with replica(toy, tmp_path, EMOTRACE_NEW_SESSIONS_A_SECOND=str(NEWCOMERS_A_SECOND)) as running:
        yield running


async def come(stack: AsyncExitStack, server: Replica, start: Any) -> Wire:
    """A connection with the answer to its first message, past what a resumed session missed."""
    client = await stack.enter_async_context(wire(server))
    await client.say(start)
    while (await client.next() or {"type": "error"})["type"] not in (
        "session.started",
        "session.resumed",
        "error",
    ):
        pass
    return client


async def test_row_076_everybody_comes_back_at_once(paced: Replica) -> None:
    lost: list[Wire] = []
    async with AsyncExitStack() as stack:
        while len(lost) < LOST:
            client = await come(stack, paced, SessionStart(resume=True))
            if client.errors():  # as many as may have come: wait as told
                assert client.errors() == ["capacity"]
                await asyncio.sleep(0.05)
            else:
                lost.append(client)
    back = [
        SessionResume(
            session=client.heard[0]["session"],
            token=client.heard[0]["resume"]["token"],
            sequence=1,
        )
        for client in lost
    ]
    async with AsyncExitStack() as stack:
        begun = time.monotonic()
        news = [SessionStart()] * (NEW // 2)
        clients = await asyncio.gather(
            *[come(stack, paced, start) for start in [*news, *back, *news]]
        )
        passed_s = time.monotonic() - begun
    resumed = [one for one in clients if one.heard[-1]["type"] == "session.resumed"]
    refused = [one.heard[-1] for one in clients if one.errors()]
    assert len(resumed) == LOST, "whoever was inside is let in"
    assert {error["code"] for error in refused} == {"capacity"}
    most = NEWCOMERS_A_SECOND * (2 + passed_s)
    assert NEW - most <= len(refused)
    waits = {error["retry_after_ms"] for error in refused}
    assert len(waits) > len(refused) / 4, "they do not all come again at one time"


@pytest.fixture
def time_machine(toy: Path, tmp_path: Path) -> Iterator[tuple[Replica, Path]]:
    """A server, and the file that says which time of day it sees."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
    if library is None:
        pytest.skip("libfaketime is not installed (make system-deps)")
    clock = tmp_path / "clock"
    clock.write_text("+0")
    with replica(
        toy,
        tmp_path,
        LD_PRELOAD=str(library),
        FAKETIME_TIMESTAMP_FILE=str(clock),
        FAKETIME_NO_CACHE="1",
        FAKETIME_DONT_FAKE_MONOTONIC="1",
        EMOTRACE_IDLE_NO_AUDIO_MS=str(IDLE_MS),
    ) as running:
        yield running, clock


async def sees(server: Replica, offset_s: int) -> None:
    """Returns once the server's time of day is that far from ours."""
    async with httpx.AsyncClient() as http, asyncio.timeout(60):
        seen = None
        while seen is None or abs(seen - time.time() - offset_s) > 60:
            date = (await http.get(f"{server.url}/healthz")).headers["date"]
            seen = parsedate_to_datetime(date).timestamp()


async def test_row_080_the_clock_jumps(time_machine: tuple[Replica, Path]) -> None:
    """Ahead while somebody talks, who is not idle for that; back while nobody does, who is."""
    server, clock = time_machine

    async def jump(offset_s: int) -> None:
        clock.write_text(f"{offset_s:+d}")
        await sees(server, offset_s)

    async with session(server) as client:
        leaping = asyncio.create_task(jump(HOUR_S))
        begun = time.monotonic()
        while not leaping.done() or time.monotonic() - begun < 2 * IDLE_MS / 1_000:
            await client.send(frame(BINARY, bytes(6_400)))
            await client.say(Marker(id="goes on"))
            await client.until("marker.reached")
            await asyncio.sleep(0.1)
        await leaping
        assert not client.errors()
        clock.write_text("+0")
        assert await client.rest() == 4408
    assert client.errors() == ["idle_no_audio"]
