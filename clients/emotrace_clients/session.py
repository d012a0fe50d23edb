"""One session as a client sees it: send audio and text, read typed events.

The connections are the Line's. Events wait in a bounded buffer; when it is full the line is not
read: the server then waits, and in the end cuts off a client that never reads (`slow_consumer`). In
the other direction `send_audio` waits while as much audio is under way as the server should hold,
or, while there is no connection, as much is kept as was agreed.
"""

from __future__ import annotations

import asyncio
import base64
from collections import deque
from collections.abc import AsyncIterator, Callable

from websockets.asyncio.client import ClientConnection

from emotrace_clients.errors import ConnectionLost, EmotraceError, EventsUnread
from emotrace_clients.flow import PREFIX
from emotrace_clients.line import Dial, Line, OnConnection
from emotrace_clients.samples import Samples, wire_bytes
from emotrace_clients.wording import counted
from emotrace_protocol import Message, ServerEvent
from emotrace_protocol.events import MarkerReached, SessionEnded, SessionStarted, Totals
from emotrace_protocol.messages import (
    Image,
    Marker,
    SessionDelete,
    SessionEnd,
    SessionStart,
    UtteranceText,
)


class Session:
    """A running session. `connect` makes it.

    totals: what the server counted, once session.ended has been read from the socket. Iterating
    gives events up to and including session.ended, over as many connections as it takes; unknown
    events of a newer server, `input.ack`, and the echoes of the flow window's markers, are counted
    and left out.
    """

    def __init__(
        self,
        socket: ClientConnection,
        start: SessionStart,
        event_buffer: int,
        dial: Dial,
        on_connection: OnConnection | None,
    ) -> None:
        self.totals: Totals | None = None
        self._line = Line(socket, start, dial, self._take, on_connection)
        self._changed = self._line.changed
        self._start = start
        self._started: SessionStarted | None = None
        self._events: deque[ServerEvent] = deque()
        self._event_buffer = event_buffer
        self._markers: dict[str, asyncio.Future[MarkerReached]] = {}
        self._was_read = False
        self._closing = False

    def __repr__(self) -> str:
        if self._started is None:
            return "<Session: not started>"
        line, bundle = self._line, self._started.bundle
        state = "over" if line.over else "open" if line.up else "reconnecting"
        return (
            f"<Session {self._started.session}: {state}, bundle {bundle.name} {bundle.version}, "
            f"speakers {', '.join(self._started.speakers)}, "
            f"{counted(line.conversation.received, 'event')}>"
        )

    async def open(self) -> None:
        """Says session.start and waits for session.started. `connect` calls it.

        Raises SessionFailed where the server refuses, ConnectionLost where it goes away.
        """
        self._line.open()
        async with self._changed:
            await self._changed.wait_for(lambda: self._started or self._line.over)
        if self._started is None:
            raise self._ended_early()

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
        await self._line.close()

    async def send_audio(self, samples: Samples) -> None:
        """Sends bytes in the declared format, or an array (see `wire_bytes`), in order.

        Any length, a whole recording too: waits while the server has enough to do. Raises
        EventsUnread where more events wait than the buffer holds and nobody has begun to read them.
        """
        data = memoryview(wire_bytes(samples, self._start.audio)).cast("B")
        size = self._line.piece_bytes
        for at in range(0, len(data), size):
            await asyncio.sleep(0)  # a reader that was created just now begins
            await self._await_room(lambda: self._has_room() and self._line.has_room())
            self._check_being_read()
            marker = await self._line.say_audio(bytes(data[at : at + size]))
            if marker is not None:
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
            async with self._changed:
                await self._changed.wait_for(lambda: reached.done() or self._line.over)
            if not reached.done():
                raise self._ended_early()
            return reached.result()
        finally:
            del self._markers[id]

    async def ack(self, sequence: int) -> None:
        """Tells the server that events up to `sequence` have arrived. A session that can be resumed
        does so by itself."""
        self._check_failure()
        await self._line.acknowledge(sequence)

    async def end(self) -> None:
        """Says that no more audio comes. Then read events until session.ended."""
        await self._say(SessionEnd())

    async def delete(self) -> None:
        """Ends the session at once, and has the server forget all of it: what is being computed is
        broken off. Then read events until session.ended, whose reason is `deleted`."""
        await self._say(SessionDelete())

    def __aiter__(self) -> AsyncIterator[ServerEvent]:
        return self

    async def __anext__(self) -> ServerEvent:
        """The next event. After the last: stops, or raises what ended the session early."""
        self._was_read = True
        async with self._changed:
            await self._changed.wait_for(lambda: self._events or self._line.over)
            if self._events:
                event = self._events.popleft()
                self._changed.notify_all()
                return event
        self._check_failure()
        raise StopAsyncIteration

    async def _say(self, message: Message) -> None:
        self._check_failure()
        await self._await_room(lambda: self._line.ring.has_room(0))
        await self._line.say(message)

    async def _await_room(self, has_room: Callable[[], bool]) -> None:
        """Raises what ended the session, if anything did."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._line.over or self._is_stuck() or has_room())
        self._check_failure()

    def _check_failure(self) -> None:
        if self._line.failure is not None:
            raise self._line.failure

    def _ended_early(self) -> EmotraceError:
        return self._line.failure or ConnectionLost("the session ended before the answer came")

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

    async def _take(self, event: ServerEvent) -> None:
        """An event of the line, in order."""
        if isinstance(event, SessionStarted):
            self._started = event
        elif isinstance(event, SessionEnded):
            self.totals = event.totals
        async with self._changed:
            if self._is_stuck():
                for waiting in self._markers.values():
                    if not waiting.done():
                        waiting.set_exception(self._unread())
                self._changed.notify_all()
            await self._changed.wait_for(lambda: self._has_room() or self._closing)
            if not self._closing:
                self._events.append(event)
            if isinstance(event, MarkerReached):
                waiting_for = self._markers.get(event.id)
                if waiting_for is not None and not waiting_for.done():
                    waiting_for.set_result(event)
            self._changed.notify_all()
