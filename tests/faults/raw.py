"""A websocket client that may break every rule: frames as bytes, on a bare socket."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
from cluster import Replica

from emotrace_protocol import encode
from emotrace_protocol.messages import Message, SessionResume, SessionStart

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
PATIENCE_S = 60.0  # on a busy machine


def frame(
    opcode: int,
    data: bytes = b"",
    *,
    final: bool = True,
    masked: bool = True,
    reserved: int = 0,
    length: int | None = None,
) -> bytes:
    """length: what the header says, where it lies. The mask is four zeros, so that data stay."""
    said = len(data) if length is None else length
    mask = 0x80 if masked else 0
    head = bytes([(0x80 if final else 0) | reserved << 4 | opcode])
    if said < 126:
        head += bytes([mask | said])
    elif said < 65_536:
        head += bytes([mask | 126]) + struct.pack("!H", said)
    else:
        head += bytes([mask | 127]) + struct.pack("!Q", said)
    return head + (bytes(4) if masked else b"") + data


def closing(code: int) -> bytes:
    return frame(CLOSE, struct.pack("!H", code))


def handshake(*headers: str, path: str = "/v1/stream") -> bytes:
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


@dataclass
class Wire:
    """One connection. head: the server's answer to the handshake. closed: its close code; None: the
    socket ended without one."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    head: str = ""
    heard: list[dict[str, Any]] = field(default_factory=list)
    closed: int | None = None

    async def send(self, *data: bytes) -> None:
        """Stops where the server is gone: what it said is for `rest` to tell."""
        with suppress(ConnectionError):
            for one in data:
                self.writer.write(one)
                await self.writer.drain()

    async def say(self, message: Message) -> None:
        await self.send(frame(TEXT, encode(message).encode()))

    async def until(self, event_type: str) -> dict[str, Any]:
        """The next event of that type."""
        while (event := await self.next()) is not None:
            if event["type"] == event_type:
                return event
        raise AssertionError(f"closed with {self.closed} before {event_type}: {self.heard}")

    async def rest(self) -> int | None:
        """Until the server ends the connection; its close code."""
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while await self.next() is not None:
                pass
        return self.closed

    def errors(self) -> list[str]:
        return [event["code"] for event in self.heard if event["type"] == "error"]

    async def next(self) -> dict[str, Any] | None:
        """The next event; None: a close frame. Raises IncompleteReadError, ConnectionError."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                opcode, data = await self._frame()
                if opcode == CLOSE:
                    (self.closed,) = struct.unpack("!H", data[:2])
                    return None
                if opcode == TEXT:
                    event: dict[str, Any] = json.loads(data)
                    self.heard.append(event)
                    return event

    async def _frame(self) -> tuple[int, bytes]:
        first, size = await self.reader.readexactly(2)
        if size == 126:
            (size,) = struct.unpack("!H", await self.reader.readexactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", await self.reader.readexactly(8))
        return first & 15, await self.reader.readexactly(size)


@asynccontextmanager
async def wire(server: Replica, *headers: str) -> AsyncIterator[Wire]:
    """A connection after its handshake."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(handshake(*headers))
        head = await reader.readuntil(b"\r\n\r\n")
        yield Wire(reader, writer, head.decode())
    finally:
        writer.transport.abort()


@asynccontextmanager
async def session(server: Replica) -> AsyncIterator[Wire]:
    """A connection with a session that can be taken up again; `heard` begins with its start."""
    async with wire(server) as opened:
        await opened.say(SessionStart(resume=True))
        await opened.until("session.started")
        yield opened


async def go_on(server: Replica, broken: Wire) -> None:
    """The session of a broken connection can be taken up again, or the test fails."""
    started = broken.heard[0]
    async with wire(server) as again:
        await again.say(
            SessionResume(
                session=started["session"],
                token=started["resume"]["token"],
                sequence=broken.heard[-1]["sequence"] + 1,
            )
        )
        await again.until("session.resumed")


async def all_gone(server: Replica) -> None:
    """Returns once the server has no session open."""
    async with httpx.AsyncClient() as http, asyncio.timeout(PATIENCE_S):
        page = ""
        while "emotrace_sessions 0.0" not in page:
            page = (await http.get(f"{server.url}/metrics")).text
