"""Line: the connections of one session, one after another, as if they were one.

    events    socket ─► order, totals (ClientConversation) ─► the session
    messages  the session ─► Ring ─► socket, as far as FlowWindow allows

Where the server offers it, a connection that breaks is followed by another: the server sends the
events that were missed, then the client what the server has not. A task reads, and while the
connection is up another writes and a third acknowledges.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from random import Random

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from emotrace_clients.errors import (
    ConnectionLost,
    EmotraceError,
    ProtocolBroken,
    SessionFailed,
)
from emotrace_clients.flow import FlowWindow, second_bytes
from emotrace_clients.patience import Patience
from emotrace_clients.ring import Kept, Ring
from emotrace_clients.wording import counted
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
from emotrace_protocol.events import (
    Failed,
    InputAck,
    MarkerReached,
    ResumeInfo,
    SessionEnded,
    SessionResumed,
    SessionStarted,
)
from emotrace_protocol.messages import Ack, SessionResume, SessionStart, UtteranceText

ACK_EVERY_S = 1.0
ANSWER_TIMEOUT_S = 10.0

Dial = Callable[[], Awaitable[ClientConnection]]
Take = Callable[[ServerEvent], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class ConnectionChange:
    """The connection of a session broke (up is False), or is back and nothing was lost (True).

    message: a sentence for a person.
    """

    up: bool
    message: str


OnConnection = Callable[[ConnectionChange], object]


class Line:
    """dial: opens a further connection. take: gets every event that is not the line's own.

    changed: notified whenever a waiting sender or reader should look again. up: messages may go
    out. over: nothing more comes. failure: why it ended early, if it did.
    """

    def __init__(
        self,
        socket: ClientConnection,
        start: SessionStart,
        dial: Dial,
        take: Take,
        on_connection: OnConnection | None,
    ) -> None:
        self.conversation = ClientConversation()
        self.changed = asyncio.Condition()
        self.failure: EmotraceError | None = None
        self.up = False
        self.over = False
        self.ring = Ring()
        self._flow: FlowWindow | None = None
        self._socket = socket
        self._start = start
        self._dial = dial
        self._take = take
        self._on_connection = on_connection
        self._session = ""
        self._resume: ResumeInfo | None = None
        self._patience: Patience | None = None
        self._why = ""  # the last connection broke
        self._at_least_s = 0.0  # before the next attempt
        self._attempts = 0  # to go on with the session
        self._fatal: Failed | None = None  # told on this connection
        self._acknowledged = 0  # events
        self._closing = False
        self._living: asyncio.Task[None] | None = None
        self._writing: asyncio.Future[list[None]] | None = None

    def open(self) -> None:
        """Begins to live: says session.start, and reads."""
        self.conversation.start()
        self._living = asyncio.create_task(self._live())

    async def close(self) -> None:
        """Closes the connection, or gives up getting another."""
        self._closing = True
        if self._living is None:
            await self._socket.close()
            return
        if self._patience is not None:  # between two connections
            self._living.cancel()
        await self._socket.close()
        with suppress(asyncio.CancelledError):
            await self._living

    @property
    def piece_bytes(self) -> int:
        """The most audio that one message should carry. Raises RuntimeError before `open`."""
        if self._flow is None:
            raise RuntimeError("the session is not open")
        return self._flow.piece_bytes

    def has_room(self) -> bool:
        """Whether a piece of audio may be said now: the server has not enough to do already, or,
        while there is no connection, as much as may be kept is not yet kept."""
        if not self.ring.has_room(self.piece_bytes):
            return False
        return not self.up or (self.ring.following() is None and self._flow_has_room())

    async def say(self, message: Message) -> None:
        """Says a numbered message. Raises ConversationError where it may not come now.

        The words of an utterance go before sound that waits: the server may be waiting for them.
        """
        self.conversation.send(message)
        answers = isinstance(message, UtteranceText) and message.utterance is not None
        await self._put(self.ring.push(encode(message), overtakes=answers))

    async def say_audio(self, piece: bytes) -> str | None:
        """Says one piece; gives the flow window's marker that is to follow, if one is due."""
        self.conversation.send_audio()
        await self._put(self.ring.push(piece))
        return None if self._flow is None else self._flow.mark(self.ring.said_bytes)

    async def acknowledge(self, sequence: int) -> None:
        """Says an ack. While there is no connection it is not needed: session.resume tells more."""
        message = Ack(sequence=sequence)
        self.conversation.send(message)
        if self.up:
            with suppress(ConnectionClosed):
                await self._socket.send(encode(message))

    def lost(self, what: str, cure: str) -> ConnectionLost:
        """The error for a session that is over too early, with what of it is there."""
        events, audio_ms = self.conversation.received, self._safe_ms()
        if events:
            what += (
                f". {counted(events, 'event')} came; the sound from "
                f"{audio_ms / 1000:.1f} s on was not acknowledged, and estimates of it are missing"
            )
        return ConnectionLost(f"{what}. {cure}".rstrip(), events=events, audio_ms=audio_ms)

    def _safe_ms(self) -> int:
        safe = self.ring.safe_bytes if self._resume else self._flow.processed if self._flow else 0
        return safe * 1_000 // second_bytes(self._start.audio)

    def _flow_has_room(self) -> bool:
        return self._flow is not None and self._flow.has_room(self.ring.sent_bytes)

    async def _put(self, message: Kept) -> None:
        """Waits until a message went out, or there is no connection to wait for."""
        async with self.changed:
            self.changed.notify_all()
            await self.changed.wait_for(lambda: self.over or not self.up or message.went)
        if self.over and not message.went:
            raise self.failure or self.lost(
                "the session ended before this could be sent", "Start a new session."
            )

    async def _notify(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    async def _live(self) -> None:
        hello: Message | None = self._start
        try:
            while hello is not None:
                await self._use(hello)
                hello = await self._redial()
        except (ConversationError, ProtocolError) as error:
            self.failure = ProtocolBroken(
                f"the server does not keep to the protocol: {error}. "
                "Client and server may be of different versions."
            )
            await self._socket.close(CloseCode.PROTOCOL_ERROR)
        finally:
            if self.failure is None and self.conversation.state is not State.ENDED:
                self.failure = self.lost("the session was left before session.ended", "")
            self.over = True
            await self._notify()

    async def _use(self, hello: Message) -> None:
        """One connection, from its first message to its end."""
        self._fatal = None
        try:
            await self._socket.send(encode(hello))
            while True:
                async with asyncio.timeout(
                    ANSWER_TIMEOUT_S if self.conversation.resuming else None
                ):
                    text = await self._socket.recv()
                await self._hear(text)
        except ConnectionClosed:
            self._why = self._fatal.message if self._fatal else self._how_it_closed()
        except TimeoutError:
            self._why = f"session.resume was not answered within {ANSWER_TIMEOUT_S:.0f} s"
            self._socket.transport.abort()
        finally:
            self.up = False
            if self._writing is not None:
                self._writing.cancel()
                await asyncio.gather(self._writing, return_exceptions=True)
                self._writing = None
            await self._notify()

    async def _hear(self, text: str | bytes) -> None:
        if isinstance(text, bytes):
            raise ConversationError("a binary message came from the server")
        event = decode_event(text)
        if self.conversation.refuses(event):
            assert isinstance(event, Failed)
            self._refused(event)
            return
        self.conversation.receive(event)
        match event:
            case UnknownEvent():
                return
            case InputAck():
                self.ring.acknowledge(event.messages)
                await self._notify()
                return
            case MarkerReached() if self._flow is not None and self._flow.reach(event.id):
                await self._notify()
                return
            case SessionStarted():
                self._begin(event)
            case SessionResumed():
                self._go_on(event)
            case Failed() if event.fatal:
                self._fatal = event
                self._at_least_s = (event.retry_after_ms or 0) / 1_000
                if not (event.resume and self._resume):
                    self.failure = SessionFailed(event)
            case SessionEnded() if self._fatal is not None:
                self.failure = SessionFailed(self._fatal)
        await self._take(event)

    def _begin(self, started: SessionStarted) -> None:
        self._session, self._resume = started.session, started.resume
        audio_ms = started.limits.audio_queue_ms
        if self._resume is not None:
            audio_ms = min(audio_ms, self._resume.buffer_ms)
            self.ring = Ring(self._resume.buffer_ms * second_bytes(self._start.audio) // 1_000)
        self._flow = FlowWindow(self._start.audio, audio_ms)
        self._write()

    def _go_on(self, resumed: SessionResumed) -> None:
        assert self._resume is not None
        assert self._flow is not None
        self._resume = self._resume.model_copy(update={"token": resumed.token})
        self.ring.rewind(resumed.messages)
        self._flow.skip(self.ring.safe_bytes)
        self._patience = None
        self._write()
        self._tell(
            True, "The connection to the server is back, and the session goes on: nothing was lost."
        )

    def _refused(self, event: Failed) -> None:
        """The server does not take the session up, now or at all."""
        self._fatal = event
        self._at_least_s = (event.retry_after_ms or 0) / 1_000
        if not self.conversation.resuming:
            self.failure = SessionFailed(event)
        elif not (event.retryable or event.resume):
            self.failure = self.lost(
                f"the connection broke, and the session cannot be resumed: {event.message} "
                f"({event.code})".removesuffix("."),
                "Connect again for a new session.",
            )

    def _write(self) -> None:
        self.up = True
        tasks = [self._send_kept(self._socket)]
        if self._resume is not None:
            tasks.append(self._acknowledge_regularly(self._socket))
        self._writing = asyncio.gather(*tasks)

    async def _send_kept(self, socket: ClientConnection) -> None:
        with suppress(ConnectionClosed):  # whoever reads notices it, too
            while True:
                async with self.changed:
                    await self.changed.wait_for(self._may_send)
                message = self.ring.take()
                await socket.send(message.data)
                message.went = True
                await self._notify()

    def _may_send(self) -> bool:
        message = self.ring.following()
        return message is not None and (not message.is_audio or self._flow_has_room())

    async def _acknowledge_regularly(self, socket: ClientConnection) -> None:
        with suppress(ConnectionClosed):
            while True:
                async with self.changed:
                    await self.changed.wait_for(self._has_news)
                self._acknowledged = self.conversation.received
                await socket.send(encode(Ack(sequence=self._acknowledged - 1)))
                await asyncio.sleep(ACK_EVERY_S)

    def _has_news(self) -> bool:
        return self.conversation.received > self._acknowledged

    async def _redial(self) -> SessionResume | None:
        """A further connection and its first message; None: the session is over."""
        if self.failure is not None or self._closing or self.conversation.state is State.ENDED:
            return None
        if self._resume is None:
            self.failure = self.lost(
                f"the connection to the server was lost before session.ended ({self._why})",
                "Is the server still running? Its log says more; connect again for a new session.",
            )
            return None
        window_s = self._resume.window_ms / 1_000
        if self._patience is None:
            self._patience = Patience(window_s, time.monotonic(), Random())
            self._tell(
                False,
                f"The connection to the server broke ({self._why}). Trying to go on with the "
                f"session for {window_s:g} s; what is sent meanwhile is kept.",
            )
        while (pause_s := self._patience.pause_s(time.monotonic(), self._at_least_s)) is not None:
            await asyncio.sleep(pause_s)
            self._at_least_s = 0.0
            try:
                self._socket = await self._dial()
            except EmotraceError as error:
                self._why = str(error)
                continue
            self.conversation.resume()
            self._attempts += 1
            return SessionResume(
                session=self._session,
                token=self._resume.token,
                sequence=self.conversation.received,
                attempt=self._attempts,
            )
        self.failure = self.lost(
            f"the connection to the server broke, and none came in its place within "
            f"{window_s:g} s ({self._why})",
            "Once the server runs again, connect for a new session.",
        )
        return None

    def _tell(self, up: bool, message: str) -> None:
        if self._on_connection is not None:
            self._on_connection(ConnectionChange(up, message))

    def _how_it_closed(self) -> str:
        code, reason = self._socket.close_code, self._socket.close_reason
        if code is None or code == CloseCode.ABNORMAL_CLOSURE:
            return "without a close frame"
        return f"close code {code}{f', {reason}' if reason else ''}"
