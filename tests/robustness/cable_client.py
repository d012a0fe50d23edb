"""A client that is `talking` and answers pings; or so many that are `deaf`, and read nothing after
their sessions began. Each says `there`, and goes on until it is ended."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from contextlib import suppress

from namespaces import PORT, SERVER
from websockets.asyncio.client import connect

HANDSHAKE = (
    "GET /v1/stream HTTP/1.1\r\nHost: server\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
MARKERS = 3_000
START = {"type": "session.start", "transcription": "off", "interim": False}


async def talk() -> None:
    address = f"ws://{SERVER}:{PORT}/v1/stream"
    async with connect(address, compression=None, ping_interval=None) as connection:
        await connection.send(json.dumps(START))
        await connection.send('{"type": "marker", "id": "m"}')
        while json.loads(await connection.recv())["type"] != "marker.reached":
            pass
        print("there", flush=True)
        while True:
            await connection.send(bytes(3_200))
            await asyncio.sleep(0.1)


def frame(text: str) -> bytes:
    """Masked with zeros."""
    data = text.encode()
    size = bytes([128 | len(data)]) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2, "big")
    return b"\x81" + size + bytes(4) + data


async def be_deaf(resume: bool) -> None:
    """The server has more to say than the kernels hold."""
    loop = asyncio.get_running_loop()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.setblocking(False)
        await loop.sock_connect(connection, (SERVER, PORT))
        await loop.sock_sendall(connection, HANDSHAKE.encode())
        assert (await loop.sock_recv(connection, 4_096)).startswith(b"HTTP/1.1 101")
        said = frame(json.dumps({**START, "resume": resume}))
        said += frame(json.dumps({"type": "marker", "id": "m" * 120})) * MARKERS
        print("there", flush=True)
        with suppress(OSError):  # the server was quicker
            await loop.sock_sendall(connection, said)
        await asyncio.Event().wait()


async def all_deaf(peers: int) -> None:
    """Every other could take its session up again."""
    await asyncio.gather(*[be_deaf(number % 2 == 0) for number in range(peers)])


if __name__ == "__main__":
    asyncio.run(talk() if sys.argv[1] == "talking" else all_deaf(int(sys.argv[2])))
