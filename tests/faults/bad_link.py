"""A slow and shaky connection, as TCP shows it: what is lost comes late, and all comes in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

CHUNK_BYTES = 512
JITTER_S = 0.2
LOSS, AGAIN_S = 0.05, 0.3  # share of chunks that are lost, and when they are sent again


class BadLink:
    """A relay to a port. bytes_a_second: each way."""

    def __init__(self, port: int, bytes_a_second: int, seed: int) -> None:
        self._port = port
        self._rate = bytes_a_second
        self._random = Random(seed)

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner, outer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            await asyncio.gather(self._carry(reader, outer), self._carry(inner, writer))
        except (ConnectionError, asyncio.CancelledError):
            pass  # either end left
        finally:
            outer.transport.abort()
            writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Each chunk leaves when the line is free, and arrives after a delay of its own, but not
        before the one that left before it."""
        clock = asyncio.get_running_loop().time
        on_its_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def arrive() -> None:
            while True:
                due, chunk = await on_its_way.get()
                await asyncio.sleep(due - clock())
                if not chunk:
                    writer.write_eof()
                    return
                writer.write(chunk)

        arriving = asyncio.create_task(arrive())
        free = clock()
        try:
            while chunk := await reader.read(CHUNK_BYTES):
                free = max(free, clock()) + len(chunk) / self._rate
                late = self._random.uniform(0, JITTER_S)
                late += AGAIN_S if self._random.random() < LOSS else 0
                on_its_way.put_nowait((free + late, chunk))
                await asyncio.sleep(free - clock())
            on_its_way.put_nowait((free, b""))
            await arriving
        finally:
            arriving.cancel()


@asynccontextmanager
async def bad_link(port: int, bytes_a_second: int, seed: int = 1) -> AsyncIterator[int]:
    """The port of a bad connection to the port."""
    link = BadLink(port, bytes_a_second, seed)
    async with await asyncio.start_server(link.relay, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
