"""Autobahn's fuzzing client, as far as its cases use it, on asyncio."""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

STATE_CLOSED, STATE_CONNECTING, STATE_CLOSING, STATE_OPEN = range(4)
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
PATIENCE = 10  # times as long as a case waits before it gives up: machines may be busy
DROP_S = 10.0
CASE_S = 600.0
HANDSHAKE = (
    "GET / HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{offer}\r\n"
)
OFFER = "Sec-WebSocket-Extensions: permessage-deflate\r\n"


@dataclass(frozen=True)
class Outcome:
    """behavior: of the messages. close: of the end of the connection. As Autobahn reports them."""

    case: str
    behavior: str
    close: str
    why: str


class Factory:
    isServer = False


class Peer:
    """What a case sees as `self.p`: names and defaults are Autobahn's."""

    CLOSE_STATUS_CODE_NORMAL = 1000
    CLOSE_STATUS_CODE_PROTOCOL_ERROR = 1002
    CLOSE_STATUS_CODE_INVALID_PAYLOAD = 1007
    factory = Factory()

    def __init__(self) -> None:
        self.state = STATE_CONNECTING
        self.connectionWasOpen = self.closedByMe = self.droppedByMe = self.failedByMe = False
        self.wasClean = False
        self.remoteCloseCode: int | None = None
        self.localCloseReason: str | None = None
        self.autoFragmentSize = 0
        self.createWirelog = True
        self.trafficStats = None
        self.txFrameStats: dict[int, int] = {}
        self._perMessageCompress: object = None
        self.case: Any = None
        self._loop = asyncio.get_running_loop()
        self._out: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._timers: list[asyncio.TimerHandle] = []
        self._parts: list[bytes] = []
        self._opcode = 0
        self._message_opcode = 0
        self._begun = False

    # What cases call.

    def enableWirelog(self, enable: bool) -> None:
        self.createWirelog = enable

    def continueLater(self, delay: float, then: Callable[[], None], tag: str = "") -> None:
        self._later(delay, then)

    def killAfter(self, delay: float) -> None:
        self._later(delay * PATIENCE, self._fail)

    def closeAfter(self, delay: float) -> None:
        # Some cases end so, and only wait in it for what must have come long before.
        self._later(delay, self.sendClose)

    def sendFrame(
        self,
        opcode: int,
        payload: str = "",
        fin: bool = True,
        rsv: int = 0,
        mask: None = None,
        payload_len: int | None = None,
        chopsize: int | None = None,
        sync: bool = False,
    ) -> None:
        data = payload.encode("latin-1")
        if payload_len is not None:
            data = (data * (payload_len // max(1, len(data)) + 1))[:payload_len]
        self.txFrameStats[opcode] = self.txFrameStats.get(opcode, 0) + 1
        frame = header(opcode, len(data), fin, rsv) + masked(data, MASK)
        step = chopsize or len(frame)
        for at in range(0, len(frame), step):
            self._out.put_nowait(frame[at : at + step])

    def sendMessage(
        self, payload: str, isBinary: bool = False, fragmentSize: int | None = None
    ) -> None:
        size = fragmentSize or self.autoFragmentSize or max(1, len(payload))
        opcode = BINARY if isBinary else TEXT
        for at in range(0, max(1, len(payload)), size):
            self.sendFrame(opcode, payload[at : at + size], fin=at + size >= len(payload))
            opcode = 0

    def beginMessage(self, isBinary: bool = False) -> None:
        self._message_opcode = BINARY if isBinary else TEXT

    def beginMessageFrame(self, length: int) -> None:
        self._out.put_nowait(header(self._message_opcode, length, False, 0))
        self._message_opcode = 0
        self._sent = 0

    def sendMessageFrameData(self, payload: str, sync: bool = False) -> None:
        data = payload.encode("latin-1")
        turned = MASK[self._sent % 4 :] + MASK[: self._sent % 4]
        self._sent += len(data)
        self._out.put_nowait(masked(data, turned))

    def endMessage(self) -> None:
        self.sendFrame(0, fin=True)

    def sendClose(self, code: int | None = None, reason: str = "") -> None:
        if self.state == STATE_OPEN:
            self.sendCloseFrame(code, reason)

    def sendCloseFrame(
        self, code: int | None = None, reasonUtf8: str = "", isReply: bool = False
    ) -> None:
        if self.state == STATE_OPEN:
            number = "" if code is None else struct.pack(">H", code).decode("latin-1")
            self.sendFrame(CLOSE, number + (reasonUtf8 or ""))
            self.state = STATE_CLOSING
            self.closedByMe = not isReply
            self.localCloseReason = reasonUtf8

    # The connection.

    async def run(self, case: type[Any], host: str, port: int, *, deflate: bool) -> Outcome:
        reader, writer = await asyncio.open_connection(host, port, limit=1 << 25)
        self.case = case(self)
        writing = asyncio.create_task(self._write(writer))
        try:
            async with asyncio.timeout(CASE_S):
                offer = OFFER if deflate else ""
                writer.write(HANDSHAKE.format(host=host, port=port, offer=offer).encode())
                answer = await reader.readuntil(b"\r\n\r\n")
                if answer.startswith(b"HTTP/1.1 101"):
                    assert b"permessage-deflate" not in answer, "compression is off"
                    self.connectionWasOpen, self.state = True, STATE_OPEN
                    self.case.onOpen()
                    await self._read(reader)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.state = STATE_CLOSED
            for timer in self._timers:
                timer.cancel()
            self._out.put_nowait(None)
            writer.close()
            await asyncio.wait([writing])
        self.case.onConnectionLost(self.failedByMe)
        why = f"{self.case.result} {self.case.resultClose}"
        return Outcome("", self.case.behavior, self.case.behaviorClose, why)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        """Until the server ends the connection, or does not although it should."""
        while True:
            closing = self.state == STATE_CLOSING and self.wasClean
            try:
                async with asyncio.timeout(DROP_S if closing else None):
                    first, second = await reader.readexactly(2)
            except TimeoutError:
                self.droppedByMe = True
                return
            length = second & 127
            if length > 125:
                length = int.from_bytes(await reader.readexactly(2 if length == 126 else 8), "big")
            self._take(first, await reader.readexactly(length))

    def _take(self, first: int, data: bytes) -> None:
        opcode, fin = first & 15, first & 128
        if opcode == CLOSE:
            self.remoteCloseCode = int.from_bytes(data[:2], "big") if data else None
            self.wasClean = True
            self.sendCloseFrame(self.remoteCloseCode, isReply=True)
            self.case.onClose(True, self.remoteCloseCode, data[2:].decode())
        elif self.state == STATE_OPEN and opcode == PING:
            self.case.onPing(data.decode("latin-1"))
        elif self.state == STATE_OPEN and opcode == PONG:
            self.case.onPong(data.decode("latin-1"))
        elif opcode < CLOSE:
            self._opcode = opcode or self._opcode
            self._parts.append(data)
            if fin and self.state == STATE_OPEN:
                whole, self._parts = b"".join(self._parts), []
                self.case.onMessage(whole.decode("latin-1"), self._opcode == BINARY)

    async def _write(self, writer: asyncio.StreamWriter) -> None:
        while (data := await self._out.get()) is not None:
            try:
                writer.write(data)
                await writer.drain()
            except ConnectionError:
                return
            await asyncio.sleep(0)  # so that the next piece is one of its own

    def _later(self, delay: float, then: Callable[[], None]) -> None:
        def run() -> None:
            if self.state != STATE_CLOSED:
                then()

        self._timers.append(self._loop.call_later(delay, run))

    def _fail(self) -> None:
        self.failedByMe = self.droppedByMe = True
        self.wasClean = False
        self.state = STATE_CLOSED
        self._out.put_nowait(None)


MASK = os.urandom(4)


def header(opcode: int, length: int, fin: bool, rsv: int) -> bytes:
    first = (128 if fin else 0) | rsv << 4 | opcode
    if length < 126:
        size = bytes([128 | length])
    elif length < 65_536:
        size = b"\xfe" + struct.pack(">H", length)
    else:
        size = b"\xff" + struct.pack(">Q", length)
    return bytes([first]) + size + MASK


def masked(data: bytes, mask: bytes) -> bytes:
    if not data:
        return data
    key = (mask * (len(data) // 4 + 1))[: len(data)]
    return (int.from_bytes(data, "big") ^ int.from_bytes(key, "big")).to_bytes(len(data), "big")
