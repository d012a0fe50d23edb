"""What an idle session costs the server: memory, processor, and the time to open one."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack

from websockets.asyncio.client import connect

from emotrace_bench.charts import Lines
from emotrace_bench.live_server import LiveServer
from emotrace_bench.result import Ratio, Result, Table
from emotrace_protocol import encode
from emotrace_protocol.messages import SessionStart

SETTLE_S = 1.0
MOST_KIB = 64
AIM_KIB = 16
FIRST = 50  # sessions that are opened before: what the first ones load is no session's own


async def open_sessions(
    server: LiveServer, counts: Sequence[int]
) -> list[tuple[int, float, float, float]]:
    """Rising numbers of idle sessions: number, MiB of the server, milliseconds to open one, and
    cores that the server uses while they idle."""
    rows = []
    async with AsyncExitStack() as stack:
        opened = 0
        for count in counts:
            begun = time.monotonic()
            added = count - opened
            for _ in range(added):
                socket = await stack.enter_async_context(
                    connect(server.stream_url, compression=None, max_size=None)
                )
                await socket.send(encode(SessionStart()))
                first = json.loads(await socket.recv())
                if first["type"] != "session.started":
                    raise RuntimeError(f"session {opened} was refused: {first.get('code')}")
                opened += 1
            took_ms = (time.monotonic() - begun) / max(1, added) * 1_000
            await asyncio.sleep(SETTLE_S)
            before, asked = server.processor_s(), time.monotonic()
            await asyncio.sleep(SETTLE_S)
            busy = (server.processor_s() - before) / (time.monotonic() - asked)
            memory = server.memory_mib()
            assert memory is not None  # it is a server of our own
            rows.append((count, memory, took_ms, busy))
    return rows


def measure(server: LiveServer, most: int, seed: int) -> Result:
    counts = sorted({1, 10, FIRST, 100, most // 2, most})
    rows = asyncio.run(open_sessions(server, [n for n in counts if n <= most]))
    memory = {count: mib for count, mib, _, _ in rows}
    each = (memory[most] - memory[FIRST]) * 1_024 / (most - FIRST)
    return Result(
        benchmark="scale sessions",
        settings={"sessions": most},
        seed=seed,
        tables=(
            Table(
                "Idle sessions",
                ("sessions", "server, MiB", "to open one, ms", "cores used while idle"),
                tuple(
                    (count, round(mib, 1), round(ms, 2), round(busy, 3))
                    for count, mib, ms, busy in rows
                ),
            ),
        ),
        ratios=(Ratio("KiB of an idle session", each, None, most=MOST_KIB, aim=AIM_KIB),),
        charts=(
            Lines(
                "Memory of the server",
                "idle sessions",
                "MiB",
                {"resident": tuple((float(c), m) for c, m, _, _ in rows)},
                logarithmic=False,
            ),
        ),
    )
