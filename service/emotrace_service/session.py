"""One connection: listen, understand, send; three tasks joined by two bounded queues.

    socket -> listen -> Inlet -> understand -> Outlet -> send -> socket

Whatever ends a session, what was taken in before is understood first; then come the error, if there
is one, `session.ended` with totals, and the close frame. Only a client that is gone or does not
read gets nothing more.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from typing import Any

from emotrace_protocol import events
from emotrace_protocol.codec import decode_message, encode
from emotrace_protocol.errors import ErrorCode, ProtocolError, WarningCode
from emotrace_protocol.messages import Image, Marker, Message, SessionStart, UtteranceText
from emotrace_protocol.order import ServerConversation
from emotrace_service.brownout import MEANINGS, PICTURELESS_LEVEL
from emotrace_service.errors import EngineClosed, place
from emotrace_service.listening import Listener, Socket, SocketClosed, warn_unknown
from emotrace_service.notices import Notices
from emotrace_service.opening import Plan, plan_session, started_fields
from emotrace_service.pcm import SAMPLE_BYTES
from emotrace_service.queues import Audio, Finish, Inlet, Outlet, SlowConsumer
from emotrace_service.serving import Serving
from emotrace_service.texts import ClientTexts
from emotrace_service.understanding import Understanding

INTERIM_SHARE = 0.6  # of the machine: where more is used, interim estimates are left out
BEHIND_MS = 500  # where more audio waits, interim estimates are left out
CLOSE_TIMEOUT_S = 1.0
NORMAL = 1000
VANISHED = "vanished"


class Session:
    """From the first message to the close frame."""

    def __init__(self, socket: Socket, serving: Serving) -> None:
        self._socket = socket
        self._serving = serving
        self._settings = serving.settings
        self._clock = serving.clock
        self._name = secrets.token_hex(8)
        self._log = serving.log.bind(session=self._name)
        self._conversation = ServerConversation()
        self._outlet = Outlet(self._conversation, serving.metrics)
        self._notices = Notices(self._outlet.emit)
        self._came = self._clock()
        self._inlet: Inlet | None = None
        self._listener: Listener | None = None
        self._telling: set[asyncio.Task[None]] = set()
        self._early_messages = 0
        self._close_code = NORMAL

    async def run(self) -> None:
        """Serve the client until the end, whatever that is."""
        end = VANISHED
        begun = self._clock()
        try:
            with self._serving.admitted(self):
                start, unknown = await self._receive_start()
                transcribes = self._serving.backend.transcribes(start.language)
                plan = plan_session(
                    start, self._serving.bundles, self._settings, transcribes=transcribes
                )
                end = await self._serve(plan, unknown)
        except ProtocolError as error:
            end = "error"
            await self._refuse(error)
        except SocketClosed:
            pass
        except Exception as fault:
            end = "error"
            self._close_code = _close_code(ErrorCode.INTERNAL)
            self._log.error("session broke", error=type(fault).__name__, place=place(fault))
        self._serving.metrics.session_ends.labels(end).inc()
        with suppress(SocketClosed, TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._socket.close(self._close_code)
        self._log.info(
            "session over",
            end=end,
            code=self._close_code,
            seconds=round(self._clock() - begun, 3),
            events=self._conversation.sent,
        )

    def go_away(self) -> None:
        """The server stops: finish what was taken in, and say so."""
        if self._inlet is not None:
            error = ProtocolError(ErrorCode.GOING_AWAY, "The server is stopping.")
            self._inlet.put(Finish(self._clock(), error))

    @property
    def active(self) -> float:
        """When the client was heard last, or came."""
        return self._came if self._listener is None else self._listener.heard

    def degrade(self, level: int) -> None:
        """The server leaves out more than before, or less."""
        if self._inlet is not None:
            told = asyncio.create_task(
                self._outlet.emit(events.ServiceDegraded, level=level, message=MEANINGS[level])
            )
            self._telling.add(told)
            told.add_done_callback(self._telling.discard)

    async def _receive_start(self) -> tuple[SessionStart, tuple[str, ...]]:
        """A session.start, and the names of its unknown fields. Raises ProtocolError."""
        timeout_ms = self._settings.start_timeout_ms
        try:
            async with asyncio.timeout(timeout_ms / 1_000):
                while True:
                    data = await self._socket.receive()
                    self._early_messages += 1
                    try:
                        if isinstance(data, bytes):
                            self._conversation.receive_audio()  # raises: nothing has started
                            continue
                        message, unknown = decode_message(data)
                        self._conversation.receive(message)
                    except ProtocolError as error:
                        weighed = self._conversation.weigh(error, self._clock())
                        if weighed.code.kind.fatal:
                            raise weighed from None
                        await self._send_now(events.Failed, **weighed.fields())
                        continue
                    if isinstance(message, SessionStart):
                        return message, unknown
        except TimeoutError:
            raise ProtocolError(
                ErrorCode.START_TIMEOUT, f"No session.start came within {timeout_ms} ms."
            ) from None

    async def _refuse(self, error: ProtocolError) -> None:
        """The session does not begin."""
        self._close_code = _close_code(error.code)
        with suppress(SocketClosed, TimeoutError):
            async with asyncio.timeout(self._settings.send_timeout_ms / 1_000):
                await self._send_now(events.Failed, **error.fields())

    async def _send_now(self, event_type: type[events.Event], **fields: Any) -> None:
        """Where no send task runs yet."""
        event = self._conversation.number(event_type, **fields)
        if isinstance(event, events.Failed):
            self._serving.metrics.refusals.labels(str(event.code)).inc()
        await self._socket.send(encode(event))

    async def _serve(self, plan: Plan, unknown: tuple[str, ...]) -> str:
        """The open session; gives how it ended."""
        step_bytes = SAMPLE_BYTES[plan.audio.encoding] * plan.audio.channels
        inlet = Inlet(step_bytes * plan.audio.sample_rate, self._settings.audio_queue_ms)
        texts = ClientTexts()
        understanding = Understanding(
            plan,
            self._serving.backend,
            texts,
            self._notices,
            metrics=self._serving.metrics,
            log=self._log,
            clock=self._clock,
            busy=lambda: self._serving.level > 0 or inlet.queued_ms > BEHIND_MS,
            crowded=lambda: self._serving.share > INTERIM_SHARE,
            blind=lambda: self._serving.level >= PICTURELESS_LEVEL,
        )
        listener = Listener(
            self._socket,
            plan,
            self._conversation,
            inlet,
            texts,
            self._notices,
            self._settings,
            self._clock,
        )
        self._inlet, self._listener = inlet, listener
        await self._outlet.emit(
            events.SessionStarted,
            **started_fields(self._name, plan, self._settings),
        )
        await warn_unknown(self._notices, unknown)
        if plan.interim_refused is not None:
            await self._notices.warn(WarningCode.INTERIM_SKIPPED, plan.interim_refused, "interim")
        self._log.info("session open", channels=plan.audio.channels, rate=plan.audio.sample_rate)
        end = VANISHED
        try:
            async with asyncio.TaskGroup() as group:
                listening = group.create_task(listener.run())
                understood = group.create_task(self._understand(inlet, understanding, listener))
                await self._send(understanding)
                listening.cancel()
                end = await understood
        except* SocketClosed:
            pass
        except* SlowConsumer:
            end = "error"
            self._close_code = _close_code(ErrorCode.SLOW_CONSUMER)
            self._serving.metrics.refusals.labels(ErrorCode.SLOW_CONSUMER.value).inc()
        return end

    async def _send(self, understanding: Understanding) -> None:
        async def heartbeat() -> None:
            await self._outlet.emit(events.Heartbeat, audio_ms=understanding.audio_ms)

        await self._outlet.run(
            self._socket.send,
            send_timeout_s=self._settings.send_timeout_ms / 1_000,
            heartbeat_s=self._settings.heartbeat_ms / 1_000,
            heartbeat=heartbeat,
        )

    async def _understand(
        self, inlet: Inlet, understanding: Understanding, listener: Listener
    ) -> str:
        """All that comes in, then the end. Gives how the session ended."""
        try:
            error = await self._process(inlet, understanding)
        except EngineClosed:
            error = ProtocolError(ErrorCode.GOING_AWAY, "The server is stopping.")
        except Exception as fault:
            self._log.error("session failed", error=type(fault).__name__, place=place(fault))
            error = ProtocolError(ErrorCode.INTERNAL, "The session failed.")
        finally:
            await understanding.close()
        reason = "client" if error is None else _reason(error.code)
        if error is not None:
            self._close_code = _close_code(error.code)
        counts = self._conversation.counts

        def totals() -> events.Totals:
            return events.Totals(
                audio_ms=understanding.taken_ms,
                audio_bytes=listener.audio_bytes,
                messages=self._early_messages + listener.messages,
                utterances=understanding.utterances,
                finals=counts["emotion.final"],
                revisions=counts["emotion.revised"],
                rejected=counts["speech.rejected"],
                failed=understanding.failed,
                events=self._conversation.sent + 1,
            )

        await self._outlet.end(error, reason, totals)
        return reason

    async def _process(self, inlet: Inlet, understanding: Understanding) -> ProtocolError | None:
        """Until nothing more comes; gives why, unless the client wished it."""
        error: ProtocolError | None = None
        while True:
            queued_s = inlet.queued_ms / 1_000
            item = await inlet.get()
            if isinstance(item, Finish):
                error = item.error
                break
            try:
                if isinstance(item, Audio):
                    self._serving.metrics.queued_audio.observe(queued_s)
                    await understanding.hear(item.messages, item.arrival)
                else:
                    await _obey(item.message, item.arrival, understanding)
            except ProtocolError as refused:
                error = refused
                inlet.put(Finish(item.arrival, error))
                break
        try:
            await understanding.flush(item.arrival)
        except ProtocolError as refused:
            error = error or refused
        return error


async def _obey(message: Message, arrival: float, understanding: Understanding) -> None:
    if isinstance(message, Marker):
        await understanding.reach_marker(message.id)
    elif isinstance(message, UtteranceText):
        await understanding.say(message, arrival)
    elif isinstance(message, Image):
        await understanding.see(message)


def _reason(code: ErrorCode) -> str:
    if code in (ErrorCode.IDLE_NO_AUDIO, ErrorCode.IDLE_NO_SPEECH):
        return "idle"
    return "going_away" if code is ErrorCode.GOING_AWAY else "error"


def _close_code(code: ErrorCode) -> int:
    return code.kind.close or NORMAL
