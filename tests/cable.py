"""A cable to a server that can be pulled out and put in again: a TCP relay in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit


class Cable:
    """url: of the server, through the cable. `pull` and `plug` may be called from any thread."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._writers: set[asyncio.StreamWriter] = set()
        self._plugged = True
        self._ready = threading.Event()

    def serve(self) -> None:
        asyncio.run(self._serve())

    def wait(self) -> None:
        """Until there is a `url`."""
        assert self._ready.wait(10)

    def pull(self) -> None:
        """Every connection breaks, and each new one does at once."""
        self._plugged = False
        self._loop.call_soon_threadsafe(self._break)

    def plug(self) -> None:
        self._plugged = True

    def close(self) -> None:
        self.pull()
        self._loop.call_soon_threadsafe(self._over.set)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        async with await asyncio.start_server(self._relay, "127.0.0.1", 0) as server:
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            self._ready.set()
            await self._over.wait()

    def _break(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        inner = None
        try:
            if self._plugged:
                inner = await asyncio.open_connection(self._target.hostname, self._target.port)
                self._writers.add(inner[1])
                await asyncio.gather(_pump(reader, inner[1]), _pump(inner[0], writer))
        except OSError:
            pass  # the server does not answer: the client sees its connection break
        finally:
            for end in (writer, *((inner[1],) if inner else ())):
                self._writers.discard(end)
                end.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


@contextmanager
def cable(url: str) -> Iterator[Cable]:
    """A cable to the server at `url`."""
    made = Cable(url)
    thread = threading.Thread(target=made.serve)
    thread.start()
    made.wait()
    try:
        yield made
    finally:
        made.close()
        thread.join(10)
