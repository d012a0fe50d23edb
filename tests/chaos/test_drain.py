"""SIGTERM: whoever listens is told, whoever does not cannot hold the server up."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from cluster import Replica, replica
from live import demo_pcm
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from emotrace_protocol import decode_event, encode
from emotrace_protocol.messages import AudioFormat, Marker, SessionStart, Transcription

HANDSHAKE = (
    "GET /v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@pytest.fixture
def server(toy: Path, tmp_path: Path) -> Iterator[Replica]:
    with replica(toy, tmp_path, EMOTRACE_DRAIN_TIMEOUT_MS="2000") as running:
        yield running


async def opened(server: Replica) -> ClientConnection:
    client = await connect(server.stream_url, compression=None, ping_interval=None)
    await client.send(encode(SessionStart(audio=AudioFormat())))
    assert decode_event(str(await client.recv())).type == "session.started"
    return client


async def rest(client: ClientConnection) -> tuple[list[str], int | None]:
    """Types of the events that still come, and the close code."""
    types = []
    try:
        while True:
            types.append(decode_event(str(await client.recv())).type)
    except ConnectionClosed:
        return types, client.close_code


def half_said(server: Replica, said: str) -> socket.socket:
    """A client that stops in the middle of its handshake, or after it, and never reads."""
    client = socket.create_connection(("127.0.0.1", server.port))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    client.sendall(said.encode())
    return client


async def test_everybody_is_told_and_nobody_holds_the_server_up(server: Replica) -> None:
    idle, talking = await opened(server), await opened(server)
    await talking.send(bytes(32_000))
    with (
        closing(half_said(server, HANDSHAKE[:40])),
        closing(half_said(server, HANDSHAKE)),
    ):
        begun = time.monotonic()
        server.signal(signal.SIGTERM)
        ends = await asyncio.gather(rest(idle), rest(talking))
        for types, code in ends:
            assert types[-2:] == ["error", "session.ended"]
            assert code == 1012
        told_s = time.monotonic() - begun
        assert server.ended(35) == 0
    print(f"told within {told_s:.2f} s, ended within {time.monotonic() - begun:.2f} s")


async def deaf(server: Replica) -> ClientConnection:
    """A client that makes the server say more than the kernel holds for it, and reads nothing."""
    client = await connect(
        server.stream_url, compression=None, ping_interval=None, max_queue=1, write_limit=2**24
    )
    client.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    client.transport.pause_reading()
    await client.send(encode(SessionStart(audio=AudioFormat())))
    for number in range(4_000):
        await client.send(encode(Marker(id=f"{number:0128}")))
    return client


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def sessions(server: Replica) -> float:
    for line in httpx.get(f"{server.url}/metrics").text.splitlines():
        if line.startswith("emotrace_sessions "):
            return float(line.split()[1])
    raise AssertionError("no such metric")


async def test_a_client_that_reads_nothing_is_let_go(server: Replica) -> None:
    client = await deaf(server)
    begun = time.monotonic()
    await asyncio.to_thread(until, lambda: not sessions(server))
    freed_s = time.monotonic() - begun
    await asyncio.to_thread(until, lambda: not _sockets(server))
    print(f"session freed within {freed_s:.1f} s, socket within {time.monotonic() - begun:.1f} s")
    await gone(client)


def _sockets(server: Replica) -> int:
    """Connections that the server's process holds."""
    assert server.process is not None
    table = Path(f"/proc/{server.process.pid}/net/tcp").read_text().splitlines()[1:]
    port = f":{server.port:04X}"
    # Local port, state, inode: those of the process have one; a state of 0A listens.
    rows = [line.split() for line in table]
    return sum(row[1].endswith(port) and row[3] != "0A" and row[9] != "0" for row in rows)


async def gone(client: ClientConnection) -> None:
    client.transport.resume_reading()
    client.transport.abort()
    await client.wait_closed()


async def test_a_client_that_reads_nothing_does_not_hold_up_the_end(server: Replica) -> None:
    client = await deaf(server)
    begun = time.monotonic()
    server.signal(signal.SIGTERM)
    code = await asyncio.to_thread(server.ended, 35)
    assert code == 0
    print(f"ended within {time.monotonic() - begun:.2f} s")
    await gone(client)


async def test_a_second_signal_ends_at_once(toy: Path, tmp_path: Path) -> None:
    patient = {"EMOTRACE_DRAIN_TIMEOUT_MS": "30000", "EMOTRACE_TEXT_WAIT_MS": "10000"}
    audio, pcm = demo_pcm(8.0)
    with replica(toy, tmp_path, **patient) as server:
        client = await connect(server.stream_url, compression=None, ping_interval=None)
        await client.send(encode(SessionStart(audio=audio, transcription=Transcription.CLIENT)))
        await client.send(pcm)
        while decode_event(str(await client.recv())).type != "speech.ended":
            pass  # now it waits for words, which do not come
        server.signal(signal.SIGTERM)
        await asyncio.sleep(1)
        assert server.process is not None
        assert server.process.poll() is None
        for _ in range(20):  # while it drains, and while the process ends
            server.signal(signal.SIGTERM)
            await asyncio.sleep(0.02)
        assert await asyncio.to_thread(server.ended, 10) == 0
        client.transport.abort()
        await client.wait_closed()
