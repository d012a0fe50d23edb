"""Row 97 of docs/faults.md: memory runs out, since somebody makes a server hold a large upload."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from cluster import Replica, cluster, replica
from dialogues import Watch, dialogue, first_difference, said
from faults.raw import BINARY, frame, session, wire

from emotrace_protocol.messages import Marker, SessionEnd, SessionStart
from emotrace_service.memory import PROCESSES, held_by

pytestmark = pytest.mark.skipif(not PROCESSES.exists(), reason="memory is watched on Linux only")
SOUND = frame(BINARY, bytes(3_200))
PIECE = bytes(1024 * 1024)
IDLE, FULL = 0.65, 0.9  # of the limit
FORM = (
    "POST /v1/audio/analyze HTTP/1.1\r\nHost: h\r\n"
    "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: {size}\r\n\r\n"
    '--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
)


async def metric(server: Replica, name: str) -> float:
    async with httpx.AsyncClient(timeout=30) as http:
        page = (await http.get(f"{server.url}/metrics")).text
    (value,) = (line.split()[1] for line in page.splitlines() if line.startswith(f"{name} "))
    return float(value)


async def until(server: Replica, name: str, least: float, most: float = float("inf")) -> None:
    async with asyncio.timeout(120):
        while not least <= await metric(server, name) <= most:  # noqa: ASYNC110 - of another process
            await asyncio.sleep(0.1)


@pytest.fixture(scope="module")
def limits(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of which an idle server takes its share."""
    with replica(toy, tmp_path_factory.mktemp("idle")) as server:
        asyncio.run(dialogue(server.stream_url, Watch(), 0, 0.0))
        assert server.process is not None
        limit = int(held_by(server.process.pid) / IDLE)
    return {
        "EMOTRACE_MEMORY_LIMIT_BYTES": str(limit),
        "EMOTRACE_MAX_UPLOAD_BYTES": str(limit),
        "EMOTRACE_TEXT_WAIT_MS": "10000",
    }


@asynccontextmanager
async def filled(server: Replica) -> AsyncIterator[None]:
    """The server holds an upload that does not end."""
    limit = int(server.settings["EMOTRACE_MEMORY_LIMIT_BYTES"])
    pieces = int((FULL - IDLE) * limit) // len(PIECE)
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(FORM.format(size=limit).encode())
        for _ in range(pieces):
            writer.write(PIECE)
            await writer.drain()
        yield
    finally:
        writer.transport.abort()


async def test_row_097_nobody_new_comes_in_while_memory_is_short(
    toy: Path, tmp_path: Path, limits: dict[str, str]
) -> None:
    with replica(toy, tmp_path, **limits) as server:
        async with session(server) as early, httpx.AsyncClient(timeout=30) as http:
            async with filled(server):
                await until(server, "emotrace_memory_short", 1)
                async with wire(server) as late:
                    await late.say(SessionStart())
                    assert await late.rest() == 1013
                (refused,) = late.heard
                assert refused["code"] == "capacity"
                assert refused["retry_after_ms"] > 0
                answer = await http.post(f"{server.url}/v1/audio/analyze", files={"file": b"RIFF"})
                assert answer.status_code == 503
                assert int(answer.headers["Retry-After"]) > 0
                assert (await http.get(f"{server.url}/readyz")).status_code == 200
                await early.send(SOUND)
                await early.say(Marker(id="goes on"))
                await early.until("marker.reached")
            await until(server, "emotrace_memory_short", 0, 0)
            async with session(server) as again:
                await again.say(SessionEnd())
                assert await again.rest() == 1000
            await early.say(SessionEnd())
            assert await early.rest() == 1000
        log = server.log.read_text()
    assert log.count("memory runs out") == log.count("memory is free again") == 1


async def test_row_097_the_newest_sessions_go_on_elsewhere(
    toy: Path, tmp_path: Path, limits: dict[str, str]
) -> None:
    """Of two servers one is filled: its sessions go to the other, and lose nothing."""
    with cluster(toy, tmp_path, 2, **limits) as running:
        full, other = running.replicas
        calm = said(await dialogue(running.stream_url, Watch(), 0, 0.0))
        watch = Watch()

        async def client(number: int) -> None:
            events = await dialogue(running.stream_url, watch, number, 0.2)
            assert first_difference(said(events), calm) is None

        async def fill() -> None:
            await until(full, "emotrace_sessions", 2)
            async with filled(full), httpx.AsyncClient(timeout=30) as http:
                await until(full, "emotrace_sessions_moved_total", 2)
                answer = await http.get(f"{full.url}/readyz")
                assert answer.status_code == 503
                assert "another server has room" in answer.json()["reason"]
            await until(full, "emotrace_memory_short", 0, 0)

        async with asyncio.TaskGroup() as group:
            for number in range(4):
                group.create_task(client(number))
            group.create_task(fill())
        assert await metric(other, "emotrace_sessions_moved_total") == 0
    assert watch.resumed == 2
    assert "sessions are sent to another server" in full.log.read_text()
