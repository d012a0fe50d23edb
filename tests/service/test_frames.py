"""A websocket below its session: what is held of a client that is ahead, or does not read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from eventually import eventually
from faults.raw import BINARY, closing, frame, handshake
from uvicorn.server import ServerState

from emotrace_service.frames import PIECE_BYTES, BoundedFrames
from emotrace_service.server import uvicorn_config

MANY = 20_000
SMALL = frame(BINARY, b"x")
CLOSED = b"\x88\x02\x03\xe8"
SOON_S = 8.0  # before uvicorn gives up an end of a connection by itself

Session = Callable[[BoundedFrames, Callable[[], Any], Callable[[Any], Any]], Awaitable[None]]


@asynccontextmanager
async def connected(session: Session) -> AsyncIterator[tuple[Any, Any]]:
    """A client's reader and writer; the server has no connection afterwards. session: the server's
    side, once it has accepted."""
    state, made = ServerState(), []

    async def app(scope: Any, receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await session(made[0], receive, send)

    config = uvicorn_config(app)  # type: ignore[arg-type]
    config.load()

    def make() -> BoundedFrames:
        made.append(BoundedFrames(config=config, server_state=state, app_state={}))
        return made[0]

    loop = asyncio.get_running_loop()
    async with asyncio.timeout(SOON_S), await loop.create_server(make, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(handshake())
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        yield reader, writer
        await eventually(lambda: not state.connections)
        writer.transport.abort()


async def test_what_comes_at_once_is_parsed_as_it_is_taken_and_nothing_is_lost() -> None:
    sent, taken = asyncio.Event(), asyncio.Queue[Any]()
    most = 0

    async def session(protocol: BoundedFrames, receive: Any, _: Any) -> None:
        nonlocal most
        await sent.wait()
        while (message := await receive())["type"] == "websocket.receive":
            most = max(most, protocol.queue.qsize())
            taken.put_nowait(message["bytes"])
        taken.put_nowait(message["code"])

    async with connected(session) as (_, writer):
        said = [bytes([number % 256]) for number in range(MANY)]
        writer.write(b"".join(frame(BINARY, one) for one in said) + closing(1000))
        await writer.drain()
        sent.set()
        assert [await taken.get() for _ in range(MANY + 1)] == [*said, 1000]
    assert 0 < most < PIECE_BYTES / len(SMALL) + 1


async def test_a_close_frame_behind_what_nobody_takes_any_more_is_seen() -> None:
    async def session(protocol: BoundedFrames, _: Any, send: Any) -> None:
        await eventually(lambda: protocol.unparsed.endswith(closing(1001)))
        await send({"type": "websocket.close", "code": 1000})

    async with connected(session) as (reader, writer):
        writer.write(SMALL * 2_000 + closing(1001))
        assert await reader.read() == CLOSED


async def test_what_waits_for_a_client_that_reads_nothing_is_dropped_with_it() -> None:
    async def session(_: Any, __: Any, send: Any) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                while True:
                    await send({"type": "websocket.send", "text": "x" * 100_000})

    async with connected(session):
        pass
