"""Thousands of sessions that begin and end in every way leave nothing behind in the server."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest
from live import demo_pcm
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

WAIT_S = 120.0
AGAIN_S = 0.2
AT_ONCE = 16
WINDOW_MS = 1_000
MOST_GROWTH = 1.02
FORMAT, SOUND = demo_pcm(1.0)
START = {"type": "session.start", "audio": FORMAT.model_dump(mode="json")}


class Busy(Exception):
    """The machine has too much to do for one more session just now."""


@dataclass
class Counted:
    """A server's process, and what it says."""

    process: subprocess.Popen[str]
    port: int

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/v1/stream"

    def counts(self) -> dict[str, int]:
        folder = Path(f"/proc/{self.process.pid}")
        threads = re.search(r"Threads:\s+(\d+)", (folder / "status").read_text())
        assert threads is not None
        self.process.send_signal(signal.SIGUSR1)
        return {
            "tasks": int(told(self.process.stdout, "tasks ")),
            "descriptors": len(os.listdir(folder / "fd")),
            "threads": int(threads[1]),
        }

    def resident_kib(self) -> int:
        rollup = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        found = re.search(r"^Rss:\s+(\d+) kB", rollup, re.M)
        assert found is not None
        return int(found[1])


def told(stream: IO[str] | None, begins: str) -> str:
    assert stream is not None
    while not (line := stream.readline()).startswith(begins):
        assert line, "the server ended"
    return line.removeprefix(begins)


@contextmanager
def counted(bundle: Path, log: Path) -> Iterator[Counted]:
    settings = {
        "EMOTRACE_PORT": "0",
        "EMOTRACE_BUNDLE": str(bundle),
        "EMOTRACE_WHISPER": "none",
        "EMOTRACE_THREADS": "1",
        "EMOTRACE_COMPUTE_BUDGET": "100",
        "EMOTRACE_NEW_SESSIONS_A_SECOND": "10000",
        "EMOTRACE_RESUME_WINDOW_MS": str(WINDOW_MS),
    }
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("counted_server.py"))],
            env={**os.environ, "OMP_NUM_THREADS": "1", **settings},
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    try:
        yield Counted(process, int(told(process.stdout, "ready ")))
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()


async def until(socket: ClientConnection, kind: str) -> dict[str, str]:
    while (event := json.loads(await socket.recv()))["type"] != kind:
        if event.get("code") == "capacity":
            raise Busy
    return dict(event)


async def one_session(url: str, way: str) -> None:
    """way: how it ends."""
    async with connect(url, compression=None, max_size=None) as socket:
        if way == "silent":
            socket.transport.abort()
            return
        if way == "refused":
            await socket.send(json.dumps({**START, "bundle": "none"}))
            await until(socket, "error")
            return
        await socket.send(json.dumps({**START, "resume": way in ("lost", "resumed")}))
        started = await until(socket, "session.started")
        for at in range(0, len(SOUND), 16_000):
            await socket.send(SOUND[at : at + 16_000])
        if way == "early":
            socket.transport.abort()
            return
        await socket.send('{"type": "marker", "id": "m"}')
        await until(socket, "marker.reached")
        if way == "left":
            return
        if way in ("lost", "resumed"):
            socket.transport.abort()
        else:
            await socket.send('{"type": "session.end"}')
            await until(socket, "session.ended")
    if way == "resumed":
        resume = {"session": started["session"], "token": started["resume"]["token"]}
        async with connect(url, compression=None, max_size=None) as socket:
            await socket.send(json.dumps({"type": "session.resume", "sequence": 1, **resume}))
            await until(socket, "session.resumed")
            await socket.send('{"type": "session.end"}')
            await until(socket, "session.ended")


async def served(url: str, way: str) -> bool:
    try:
        with suppress(WebSocketException if way in ("silent", "early") else ()):
            await one_session(url, way)
    except Busy:
        return False
    return True


WAYS = ["ended"] * 5 + ["left", "silent", "refused", "early", "lost", "resumed"]


async def churn(url: str, sessions: int, seed: int) -> None:
    pick = random.Random(seed)
    ways = iter([pick.choice(WAYS) for _ in range(sessions)])

    async def client() -> None:
        for way in ways:
            async with asyncio.timeout(WAIT_S):
                while not await served(url, way):  # noqa: ASYNC110 - the server tells nobody
                    await asyncio.sleep(AGAIN_S)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(client())


def quiet(server: Counted, wanted: dict[str, int] | None) -> dict[str, int]:
    """What it holds once it holds no less: equal to what is wanted, or not any longer changing."""
    time.sleep(1.5 * WINDOW_MS / 1_000)  # until sessions that were lost are forgotten
    end, before = time.monotonic() + WAIT_S, server.counts()
    while time.monotonic() < end:
        time.sleep(0.5)
        now = server.counts()
        if now == (wanted or before):
            return now
        before = now
    return before


def run(bundle: Path, folder: Path, warm_up: int, sessions: int) -> None:
    with counted(bundle, folder / "log") as server:
        asyncio.run(churn(server.url, warm_up, seed=1))
        before = quiet(server, None)
        resident = server.resident_kib()
        begun = time.monotonic()
        asyncio.run(churn(server.url, sessions, seed=2))
        took = time.monotonic() - begun
        after = quiet(server, before)
        grown = server.resident_kib() / resident
        print(f"{sessions} sessions in {took:.0f} s: {before} -> {after}, ", end="")
        print(f"{resident / 1024:.1f} MiB x {grown:.4f}")
        assert after == before
        assert grown <= MOST_GROWTH
        assert '"level": "error"' not in (folder / "log").read_text()


def test_five_hundred_sessions(toy: Path, tmp_path: Path) -> None:
    run(toy, tmp_path, 300, 500)


@pytest.mark.long
@pytest.mark.timeout(3_600)
def test_ten_thousand_sessions(toy: Path, tmp_path: Path) -> None:
    run(toy, tmp_path, 1_000, 10_000)
