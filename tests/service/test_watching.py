"""The watch sees what keeps the server from keeping up."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from doubles import Stage
from live import demo_pcm, live_server, pieces, stream

from emotrace_protocol.messages import SessionStart
from emotrace_service.watching import Watch


async def test_a_blocked_loop_is_counted(toy: Path) -> None:
    stage = Stage(toy)
    watching = asyncio.create_task(Watch(stage.serving).run())
    await asyncio.sleep(0.05)
    time.sleep(0.3)  # noqa: ASYNC251 - this is what it watches for
    await asyncio.sleep(0.05)
    watching.cancel()
    late = stage.metric("emotrace_loop_lag_seconds_count") - stage.metric(
        "emotrace_loop_lag_seconds_bucket", le="0.25"
    )
    assert late >= 1


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
