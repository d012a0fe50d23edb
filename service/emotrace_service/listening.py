"""The task that reads a session's socket, whatever the rest of the session is doing. Only a client
that does not read is not read either."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from emotrace_models.types import Transcript
from emotrace_protocol.codec import MAX_MESSAGE_BYTES, decode_message
from emotrace_protocol.errors import ErrorCode, ProtocolError, WarningCode
from emotrace_protocol.events import Failed
from emotrace_protocol.messages import (
    Ack,
    Image,
    Marker,
    Message,
    SessionDelete,
    SessionEnd,
    UtteranceEnd,
    UtteranceText,
)
from emotrace_protocol.order import ServerConversation
from emotrace_service.notices import Notices, warn_wordless
from emotrace_service.opening import Plan
from emotrace_service.pacing import Bucket
from emotrace_service.queues import Audio, Finish, Inlet, Said
from emotrace_service.receipts import Receipts
from emotrace_service.settings import Settings
from emotrace_service.texts import ClientTexts, Offered

MAX_SHOWN_FIELDS = 8
MESSAGES_A_SECOND, MESSAGES_AT_ONCE = 1_000.0, 4_096.0  # docs/decisions/0025
EXPIRING_S = 60.0  # a client is told so long before its session ends for its length


class SocketClosed(Exception):
    """The client is gone. said_so: it closed on purpose, rather than being lost."""

    def __init__(self, *, said_so: bool = False) -> None:
        super().__init__()
        self.said_so = said_so


class Socket(Protocol):
    """A websocket that has been accepted."""

    async def receive(self) -> str | bytes:
        """The next message. Raises SocketClosed."""

    async def send(self, text: str) -> None:
        """Raises SocketClosed."""

    async def close(self, code: int) -> None:
        """Send a close frame, if it can be sent."""


class Listener:
    """Puts what comes into the inlet, in order. Words for an utterance go past it, to `texts`:
    the utterance at the head of the queue may be waiting for them.

    room: waits where too much waits to be sent. confirm: called for every message. note: called
    with the number of each, and what it was; empty: it had no effect; gives why that is not
    recorded any more. age_s: of the session before this connection. acks: taken in so far. heard:
    when audio came last, or the session began. deleted: is set once the client wants nothing to be
    kept; after that nothing more is taken in.
    """

    def __init__(
        self,
        socket: Socket,
        plan: Plan,
        conversation: ServerConversation,
        inlet: Inlet,
        texts: ClientTexts,
        notices: Notices,
        receipts: Receipts,
        settings: Settings,
        clock: Callable[[], float],
        room: Callable[[], Awaitable[None]],
        confirm: Callable[[], None],
        note: Callable[[int, bytes | str], str | None],
        age_s: float,
    ) -> None:
        self._socket = socket
        self._plan = plan
        self._conversation = conversation
        self._inlet = inlet
        self._texts = texts
        self._notices = notices
        self._receipts = receipts
        self._settings = settings
        self._clock = clock
        self._room = room
        self._confirm = confirm
        self._note = note
        self._active = self.heard = clock()
        self._idle_timer: asyncio.TimerHandle | None = None
        self._began = self._active - age_s
        self._expiring: asyncio.Task[None] | None = None
        self._pace = Bucket(MESSAGES_A_SECOND, MESSAGES_AT_ONCE, self._active)
        self._pressed = False  # the client knows that it is ahead
        self.acks = 0
        self.deleted = asyncio.Event()

    async def run(self) -> None:
        """Ends by being cancelled, or with SocketClosed."""
        self._watch_idle()
        self._expiring = asyncio.create_task(self._expire())
        try:
            while True:
                await self._room()
                data = await self._socket.receive()
                self._confirm()
                finish = self._inlet.finish
                if self.deleted.is_set() or (finish is not None and finish.error is not None):
                    continue
                if not self._pace.take(self._clock()):
                    cause = f"More than {MESSAGES_A_SECOND:.0f} messages came in a second."
                    self._finish(ProtocolError(ErrorCode.RATE_LIMITED, cause))
                elif isinstance(data, bytes):
                    await self._hear(data)
                else:
                    await self._read(data)
        finally:
            self._expiring.cancel()
            if self._idle_timer is not None:
                self._idle_timer.cancel()

    @property
    def age_s(self) -> float:
        """Of the session."""
        return self._clock() - self._began

    async def _expire(self) -> None:
        """Ends a session that has lasted long enough, and says so before."""
        longest_s = self._settings.max_session_ms / 1_000
        await asyncio.sleep(max(0.0, longest_s - EXPIRING_S - self.age_s))
        await self._notices.warn(
            WarningCode.SESSION_EXPIRING,
            f"The session ends in {max(0.0, longest_s - self.age_s):.0f} s.",
        )
        await asyncio.sleep(max(0.0, longest_s - self.age_s))
        cause = f"The session has lasted {longest_s / 3_600:.3g} h, as long as one may."
        self._finish(ProtocolError(ErrorCode.SESSION_EXPIRED, cause))

    def _watch_idle(self) -> None:
        """Looks again when the session would be idle: a timer a message costs more than it."""
        if self._inlet.finish is not None:
            return
        idle_s = self._settings.idle_no_audio_ms / 1_000
        left_s = self._active + idle_s - self._clock()
        if left_s > 0:
            loop = asyncio.get_running_loop()
            self._idle_timer = loop.call_later(left_s, self._watch_idle)
        else:
            cause = f"Nothing was heard for {idle_s:g} s."
            self._finish(ProtocolError(ErrorCode.IDLE_NO_AUDIO, cause))

    def _finish(self, error: ProtocolError) -> None:
        self._inlet.put(Finish(self._clock(), error))

    async def _hear(self, data: bytes) -> None:
        arrival = self._clock()
        number = self._receipts.take()
        if number is None:
            return
        try:
            self._conversation.receive_audio()
            if len(data) > MAX_MESSAGE_BYTES:
                raise ProtocolError(
                    ErrorCode.MESSAGE_TOO_LARGE, f"The message is over {MAX_MESSAGE_BYTES} bytes."
                )
            if data:
                self._inlet.put(Audio((data,), arrival, (number,)))
                self._active = self.heard = arrival
                await self._press()
            else:
                self._receipts.done(number)
            await self._keep(number, data)
        except ProtocolError as error:
            await self._refuse(error, number)

    async def _read(self, text: str) -> None:
        arrival = self._clock()
        try:
            message, unknown = decode_message(text)
        except ProtocolError as error:
            refused = self._receipts.take()
            if refused is not None:  # else it was said again, and was refused already
                await self._refuse(error, refused)
            return
        number = None
        if isinstance(message, Ack):
            self.acks += 1
        elif (number := self._receipts.take()) is None:
            return
        try:
            self._conversation.receive(message)
            await warn_unknown(self._notices, unknown)
            if number is not None:
                effect = await self._obey(message, number, arrival, len(text))
                await self._keep(number, text if effect else "")
        except ProtocolError as error:
            await self._refuse(error, number)

    async def _keep(self, number: int, data: bytes | str) -> None:
        fault = self._note(number, data)
        if fault is not None:
            await self._notices.warn_once(WarningCode.RECORDING_LOST, fault)

    async def _refuse(self, error: ProtocolError, number: int | None) -> None:
        weighed = self._conversation.weigh(error, self._clock())
        if weighed.code.kind.fatal:
            self._finish(weighed)
            return
        async with self._notices.step():
            if number is not None:
                self._receipts.done(number)
                self._note(number, "")
            await self._notices.emit(Failed, **weighed.fields())

    async def _obey(self, message: Message, number: int, arrival: float, size: int) -> bool:
        """Whether it has an effect. Raises ProtocolError."""
        if isinstance(message, SessionDelete):
            self.deleted.set()
        elif isinstance(message, SessionEnd):
            self._inlet.put(Finish(arrival))
        elif isinstance(message, UtteranceText) and message.utterance is not None:
            self._active = arrival
            async with self._notices.step():
                self._receipts.done(number)
                return await self._offer(message, message.utterance)
        elif isinstance(message, UtteranceText | UtteranceEnd | Image | Marker):
            if isinstance(message, UtteranceText):
                self._active = arrival
            self._inlet.put(Said(message, arrival, number, size))
        return True

    async def _offer(self, message: UtteranceText, index: int) -> bool:
        """Whether the words came in time. Raises ProtocolError."""
        if not self._plan.words:
            await warn_wordless(self._notices)
            return True
        offered = self._texts.offer(index, Transcript(message.text, "client", message.language))
        if offered is Offered.UNKNOWN:
            cause = f"Utterance {index} was not announced."
            raise ProtocolError(ErrorCode.UTTERANCE_UNKNOWN, cause, "utterance", utterance=index)
        if offered is Offered.LATE:
            await self._notices.warn(
                WarningCode.TEXT_LATE,
                f"The words for utterance {index} came after it was decided on; they were ignored.",
                "utterance",
            )
        return offered is Offered.TAKEN

    async def _press(self) -> None:
        """Warn once each time that the client gets ahead."""
        if not self._inlet.half_full:
            self._pressed = False
        elif not self._pressed:
            self._pressed = True
            await self._notices.warn(
                WarningCode.BACKPRESSURE,
                f"{self._inlet.queued_ms:.0f} ms of audio wait. Audio that comes faster than time "
                f"is refused at {self._settings.audio_queue_ms} ms.",
            )


async def warn_unknown(notices: Notices, unknown: tuple[str, ...]) -> None:
    """unknown: names of fields that this version does not know."""
    if unknown:
        shown = ", ".join(unknown[:MAX_SHOWN_FIELDS])
        await notices.warn(
            WarningCode.FIELD_UNKNOWN,
            f"Fields that this server does not know were ignored: {shown}.",
            unknown[0],
        )
