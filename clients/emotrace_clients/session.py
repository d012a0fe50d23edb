"""One session as a client sees it: send audio and text, read typed events.

A task of its own reads the socket, checks the order (ClientConversation), and puts events into a
bounded buffer. When the buffer is full it stops reading: the server then waits, and in the end cuts
off a client that never reads (`slow_consumer`). In the other direction `send_audio` waits while as
much audio is under way as the server should hold (FlowWindow).
"""

from __future__ import annotations

import asyncio
import base64
from collections import deque
from collections.abc import AsyncIterator

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from emotrace_clients.errors import (
    ConnectionLost,
    EmotraceError,
    EventsUnread,
    ProtocolBroken,
    SessionFailed,
)
from emotrace_clients.flow import PREFIX, FlowWindow
from emotrace_clients.samples import Samples, wire_bytes
from emotrace_protocol import (
    ClientConversation,
    ConversationError,
    Message,
    ProtocolError,
    ServerEvent,
    State,
    UnknownEvent,
    decode_event,
    encode,
)
from emotrace_protocol.events import Failed, MarkerReached, SessionEnded, SessionStarted, Totals
from emotrace_protocol.messages import Ack, Image, Marker, SessionEnd, SessionStart, UtteranceText


class Session:
    """A running session. `connect` makes it.

    totals: what the server counted, once session.ended has been read from the socket. Iterating
    gives events up to and including session.ended; unknown events of a newer server, and the echoes
    of the flow window's markers, are counted and left out.
    """

    def __init__(self, socket: ClientConnection, start: SessionStart, event_buffer: int) -> None:
        self.totals: Totals | None = None
        self._socket = socket
        self._start = start
        self._started: SessionStarted | None = None
        self._flow: FlowWindow | None = None
        self._conversation = ClientConversation()
        self._events: deque[ServerEvent] = deque()
        self._event_buffer = event_buffer
        self._changed = asyncio.Condition()
        self._markers: dict[str, asyncio.Future[MarkerReached]] = {}
        self._failure: EmotraceError | None = None
        self._finished = False
        self._was_read = False
        self._closing = False
        self._receiving: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Says session.start and waits for session.started. `connect` calls it.

        Raises SessionFailed where the server refuses, ConnectionLost where it goes away.
        """
        self._conversation.start()
        await self._send(encode(self._start))
        self._receiving = asyncio.create_task(self._receive())
        async with self._changed:
            await self._changed.wait_for(lambda: self._started or self._finished)
        if self._started is None:
            raise self._failure or self._lost()

    @property
    def started(self) -> SessionStarted:
        """What the server runs with. Raises RuntimeError before `open`."""
        if self._started is None:
            raise RuntimeError("the session is not open")
        return self._started

    async def close(self) -> None:
        """Closes the connection, ended or not. What the server has not yet answered is lost."""
        async with self._changed:
            self._closing = True  # whatever still comes is read and dropped: no full buffer stalls
            self._changed.notify_all()
        await self._socket.close()
        if self._receiving is not None:
            await self._receiving

    async def send_audio(self, samples: Samples) -> None:
        """Sends bytes in the declared format, or an array (see `wire_bytes`), in order.

        Any length, a whole recording too: waits while the server has enough to do. Raises
        EventsUnread where more events wait than the buffer holds and nobody has begun to read them.
        """
        data = memoryview(wire_bytes(samples, self._start.audio)).cast("B")
        flow = self._flow
        if flow is None:
            raise RuntimeError("the session is not open")
        for at in range(0, len(data), flow.piece_bytes):
            await self._await_room(flow)
            self._conversation.send_audio()
            piece = data[at : at + flow.piece_bytes]
            await self._send(piece)
            if (marker := flow.send(len(piece))) is not None:
                await self._say(Marker(id=marker))

    async def send_text(
        self,
        text: str,
        *,
        utterance: int | None = None,
        speaker: str | None = None,
        language: str | None = None,
    ) -> None:
        """Sends the words of an announced utterance, or a speaker's turn without audio."""
        await self._say(
            UtteranceText(text=text, utterance=utterance, speaker=speaker, language=language)
        )

    async def send_image(self, jpeg: bytes, *, speaker: str) -> None:
        """Sends one webcam frame of a speaker, taken where the audio now is: a few a second.

        jpeg: an encoded JPEG of at most 512 KiB; pydantic.ValidationError where it is larger.
        """
        await self._say(Image(speaker=speaker, jpeg=base64.b64encode(jpeg).decode("ascii")))

    async def marker(self, id: str) -> MarkerReached:
        """Waits until everything sent before has been processed. The echo is also an event.

        Raises EventsUnread where the buffer fills up before: then read events in another task.
        Raises ValueError for an id that is waited for, or that the flow window uses (`flow-...`).
        """
        if id in self._markers or id.startswith(PREFIX):
            raise ValueError(f"marker {id!r} is in use: give each its own id")
        reached: asyncio.Future[MarkerReached] = asyncio.get_running_loop().create_future()
        self._markers[id] = reached
        try:
            await self._say(Marker(id=id))
            self._check_being_read()
            return await reached
        finally:
            del self._markers[id]

    async def ack(self, sequence: int) -> None:
        """Tells the server that events up to `sequence` have arrived."""
        await self._say(Ack(sequence=sequence))

    async def end(self) -> None:
        """Says that no more audio comes. Then read events until session.ended."""
        await self._say(SessionEnd())

    def __aiter__(self) -> AsyncIterator[ServerEvent]:
        return self

    async def __anext__(self) -> ServerEvent:
        """The next event. After the last: stops, or raises what ended the session early."""
        self._was_read = True
        async with self._changed:
            await self._changed.wait_for(lambda: self._events or self._finished)
            if self._events:
                event = self._events.popleft()
                self._changed.notify_all()
                return event
        if self._failure is not None:
            raise self._failure
        raise StopAsyncIteration

    async def _say(self, message: Message) -> None:
        if self._failure is not None:
            raise self._failure
        self._conversation.send(message)
        await self._send(encode(message))

    async def _send(self, data: str | memoryview) -> None:
        try:
            await self._socket.send(data)
        except ConnectionClosed:
            if self._receiving is not None:
                await self._receiving  # its last events say why
            raise self._failure or self._lost() from None

    async def _await_room(self, flow: FlowWindow) -> None:
        """Raises what ended the session, if anything did."""

        def may_go_on() -> bool:
            return self._finished or self._is_stuck() or (self._has_room() and flow.has_room())

        await asyncio.sleep(0)  # a reader that was created just now begins
        async with self._changed:
            await self._changed.wait_for(may_go_on)
        if self._failure is not None:
            raise self._failure
        self._check_being_read()

    def _has_room(self) -> bool:
        return len(self._events) < self._event_buffer

    def _is_stuck(self) -> bool:
        """Whether what waits for an event would wait for ever: nobody has begun to read."""
        return not self._has_room() and not self._was_read

    def _check_being_read(self) -> None:
        if self._is_stuck():
            raise self._unread()

    def _unread(self) -> EventsUnread:
        return EventsUnread(
            f"{self._event_buffer} events wait and nobody reads them: iterate over the session in "
            "another task (or thread) while you send, or connect with a larger event_buffer"
        )

    async def _receive(self) -> None:
        try:
            async for text in self._socket:
                await self._take(text)
        except ConnectionClosed:
            pass  # how it ended is judged below
        except (ConversationError, ProtocolError) as error:
            self._failure = ProtocolBroken(
                f"the server does not keep to the protocol: {error}. "
                "Client and server may be of different versions."
            )
            await self._socket.close(1002)
        finally:
            await self._finish()

    async def _take(self, text: str | bytes) -> None:
        if isinstance(text, bytes):
            raise ConversationError("a binary message came from the server")
        event = decode_event(text)
        self._conversation.receive(event)
        if isinstance(event, UnknownEvent):
            return
        if isinstance(event, SessionStarted):
            self._started = event
            self._flow = FlowWindow(self._start.audio, event.limits.audio_queue_ms)
        elif isinstance(event, Failed) and event.fatal:
            self._failure = SessionFailed(event)
        elif isinstance(event, SessionEnded):
            self.totals = event.totals
        async with self._changed:
            if isinstance(event, MarkerReached) and self._flow and self._flow.reach(event.id):
                self._changed.notify_all()
                return
            if self._is_stuck():
                self._fail_markers(self._unread())
                self._changed.notify_all()
            await self._changed.wait_for(lambda: self._has_room() or self._closing)
            if not self._closing:
                self._events.append(event)
            self._changed.notify_all()
        if isinstance(event, MarkerReached):
            waiting = self._markers.get(event.id)
            if waiting is not None and not waiting.done():
                waiting.set_result(event)

    def _fail_markers(self, error: EmotraceError) -> None:
        for waiting in self._markers.values():
            if not waiting.done():
                waiting.set_exception(error)

    async def _finish(self) -> None:
        if self._failure is None and self._conversation.state is not State.ENDED:
            self._failure = self._lost()
        self._fail_markers(
            self._failure or ConnectionLost("the session ended before the marker came back")
        )
        async with self._changed:
            self._finished = True
            self._changed.notify_all()

    def _lost(self) -> ConnectionLost:
        code, reason = self._socket.close_code, self._socket.close_reason
        if code is None or code == CloseCode.ABNORMAL_CLOSURE:
            said = "without a close frame"
        else:
            said = f"close code {code}{f', {reason}' if reason else ''}"
        return ConnectionLost(
            f"the connection to the server was lost before session.ended ({said}). "
            "Is the server still running? Its log says more; connect again for a new session."
        )
