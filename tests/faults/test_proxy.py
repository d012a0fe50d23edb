"""Rows 9, 10 and 13 of docs/faults.md: what the proxy keeps away from the server, whose own
sessions go on meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cluster import Replica
from faults.raw import BINARY, Wire, frame, handshake, session
from haproxy_server import HAProxy, haproxy

from emotrace_protocol.messages import Marker

HALF = 50
ALLOWED, COME = 60, 200  # connections of one address in ten seconds
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def front(server: Replica, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HAProxy]:
    with haproxy(tmp_path_factory.mktemp("proxy"), [server.port], RATE="10000") as running:
        running.ready(1)
        yield running


@asynccontextmanager
async def untouched(server: Replica, proxy: HAProxy) -> AsyncIterator[Wire]:
    """A session through the proxy, which still hears the server after what the block does."""
    async with session(Replica(server.bundle, server.log, port=proxy.port)) as client:
        yield client
        await client.send(frame(BINARY, bytes(3_200)))
        await client.say(Marker(id="goes on"))
        await client.until("marker.reached")


async def answer(proxy: HAProxy, data: bytes) -> str:
    """The first line that comes back; empty: the connection was closed."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        try:
            writer.write(data)
            async with asyncio.timeout(PATIENCE_S):
                return (await reader.readline()).decode().strip()
        finally:
            writer.transport.abort()
    except ConnectionError:
        return ""


async def test_row_009_half_a_handshake(server: Replica, front: HAProxy) -> None:
    async with untouched(server, front) as client:
        half = [answer(front, handshake()[:60]) for _ in range(HALF)]
        said = await asyncio.gather(*half)
        assert not client.errors()
    assert set(said) == {"HTTP/1.1 408 Request Time-out"}


@pytest.mark.parametrize("size", [100_000, 2_000_000])
async def test_row_010_long_headers(server: Replica, front: HAProxy, size: int) -> None:
    async with untouched(server, front):
        said = await answer(front, handshake(f"X-Long: {'x' * size}"))
    assert said in ("HTTP/1.1 400 Bad request", ""), "refused, or cut while it still sent"


async def test_row_013_connections_without_end(server: Replica, tmp_path: Path) -> None:
    with haproxy(tmp_path, [server.port], RATE="10000", CONNECTIONS=str(ALLOWED)) as proxy:
        proxy.ready(1)
        async with untouched(server, proxy):
            request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
            said = await asyncio.gather(*[answer(proxy, request) for _ in range(COME)])
    assert set(said) == {"HTTP/1.1 200 OK", ""}
    assert said.count("") >= COME - ALLOWED
