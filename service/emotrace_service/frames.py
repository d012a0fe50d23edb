"""Limits of websocket frames, below the messages that a session sees.

A fragment without bytes counts towards no limit of size, and a ping is answered before any message
is read: without limits of their own, a client could send both for ever. What the kernel hands over
at once may hold tens of thousands of messages, each of which takes many times its size once it is
parsed: so it is parsed by the piece, as the session takes what came before.
"""

from __future__ import annotations

from asyncio.transports import BaseTransport
from typing import Any

from uvicorn._types import ASGIReceiveEvent, ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame, Opcode
from websockets.server import ServerProtocol

from emotrace_service.pacing import Bucket

SMALL_BYTES = 64  # larger fragments are bounded by the message's size
MAX_SMALL_FRAGMENTS = 1_024  # of one message
PIECE_BYTES = 4_096  # are parsed at once
MAX_WRITTEN_BYTES = 16 * 1024  # wait for the kernel: what the session has, it counts
CONTROLS_A_SECOND, CONTROLS_AT_ONCE = 10.0, 100.0  # pings and pongs that nobody asked for


class Connection(ServerProtocol):
    """A client may leave within a message: the library takes that for an error, and RFC 6455 (5.4)
    lets control frames stand between fragments."""

    def recv_frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.CLOSE:
            self.current_size = None
        super().recv_frame(frame)


class BoundedFrames(WebSocketsSansIOProtocol):
    """uvicorn's websocket, which closes with 1008 where frames come beyond these limits."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.conn = Connection(max_size=self.config.ws_max_size, logger=self.conn.logger)
        self._small_fragments = 0
        self._controls = Bucket(CONTROLS_A_SECOND, CONTROLS_AT_ONCE, self.loop.time())
        self.unparsed = bytearray()  # waits until the session has taken what was before

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(MAX_WRITTEN_BYTES)

    def data_received(self, data: bytes) -> None:
        self.unparsed += data
        self._parse()

    async def receive(self) -> ASGIReceiveEvent:
        message = await super().receive()
        if self.unparsed and not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()
            self.loop.call_soon(self._go_on)  # after the session has had its turn
        return message

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        if self.close_sent:
            self._parse()  # nobody takes messages any more: only the client's close frame counts

    async def run_asgi(self) -> None:
        await super().run_asgi()
        if not self.writable.is_set():  # the client reads nothing, and what waits would wait on
            self.transport.abort()

    def _parse(self) -> None:
        """Until a message is whole, or all is parsed."""
        while self.unparsed and not self.read_paused and not self.transport.is_closing():
            piece = bytes(self.unparsed[:PIECE_BYTES])
            del self.unparsed[:PIECE_BYTES]
            super().data_received(piece)

    def _go_on(self) -> None:
        self.read_paused = False
        self._parse()
        if not self.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()

    def handle_cont(self, event: Frame) -> None:
        if len(event.data) < SMALL_BYTES:
            self._small_fragments += 1
        if self._small_fragments > MAX_SMALL_FRAGMENTS:
            self._refuse(f"more than {MAX_SMALL_FRAGMENTS} small fragments of a message")
            return
        super().handle_cont(event)
        if event.fin:
            self._small_fragments = 0

    def handle_ping(self) -> None:
        if self._controls.take(self.loop.time()):
            super().handle_ping()
        else:
            self._refuse("too many pings")

    def handle_pong(self, event: Frame) -> None:
        if self.pending_ping_payload == event.data or self._controls.take(self.loop.time()):
            super().handle_pong(event)
        else:
            self._refuse("too many pongs")

    def _refuse(self, reason: str) -> None:
        if not self.close_sent and not self.transport.is_closing():
            self.conn.fail(CloseCode.POLICY_VIOLATION, reason)
            self.handle_parser_exception()
