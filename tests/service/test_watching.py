"""The watch sees what keeps the server from keeping up."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from doubles import Stage
from live import demo_pcm, live_server, pieces, stream

from emotrace_protocol.messages import SessionStart
from emotrace_service.core_wait import CoreWait
from emotrace_service.watching import Watch

PLENTY = bytes(1 << 20)


async def test_a_blocked_loop_is_counted(toy: Path) -> None:
    stage = Stage(toy)
    watching = asyncio.create_task(Watch(stage.serving).run())
    await asyncio.sleep(0.05)
    time.sleep(0.3)  # noqa: ASYNC251 - this is what it watches for
    await asyncio.sleep(0.05)
    watching.cancel()
    for name in ("emotrace_loop_lag_seconds", "emotrace_loop_held_seconds"):
        assert stage.metric(f"{name}_count") - stage.metric(f"{name}_bucket", le="0.25") >= 1


@pytest.mark.skipif(not Path("/proc/thread-self/schedstat").exists(), reason="it is not Linux")
async def test_what_others_had_the_core_for_is_told_apart() -> None:
    """Two threads and one core: half of the time of each is spent waiting."""
    ended = threading.Event()

    def other() -> None:
        os.sched_setaffinity(0, {core})
        while not ended.is_set():
            hashlib.sha256(PLENTY)  # without the interpreter

    def measured() -> tuple[float, float]:
        os.sched_setaffinity(0, {core})
        with closing(CoreWait()) as core_wait:
            begun, before = time.monotonic(), core_wait.seconds()
            while time.monotonic() - begun < 1.0:
                hashlib.sha256(PLENTY)
            return time.monotonic() - begun, core_wait.seconds() - before

    core = min(os.sched_getaffinity(0))
    beside = threading.Thread(target=other)
    beside.start()
    with ThreadPoolExecutor(1) as alone:
        passed, waited = await asyncio.get_running_loop().run_in_executor(alone, measured)
    ended.set()
    beside.join()
    assert 0.2 * passed < waited < passed


async def test_pressure_climbs_the_ladder(toy: Path) -> None:
    stage = Stage(toy)
    waits = 1.0
    stage.backend.pressure = lambda now: waits  # type: ignore[method-assign]
    watching = asyncio.create_task(Watch(stage.serving).run())
    async with asyncio.timeout(20):
        while stage.serving.level < 3:  # noqa: ASYNC110 - it counts, it is no event
            await asyncio.sleep(0.01)
    assert stage.metric("emotrace_degraded_level") == 3
    watching.cancel()


def test_what_a_session_costs_is_measured(toy: Path) -> None:
    with live_server(toy) as server:
        expected = server.metric("emotrace_session_share")
        assert 0.0 < expected < 1.0
        audio, pcm = demo_pcm()
        for _ in range(3):
            asyncio.run(stream(server, SessionStart(audio=audio, interim=False), pieces(pcm)))
        end = time.monotonic() + 20
        while server.metric("emotrace_session_share") == expected:
            assert time.monotonic() < end
            time.sleep(0.05)
        assert 0.0 < server.metric("emotrace_session_share") < 1.0
