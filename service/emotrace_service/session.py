"""One connection: listen, understand, send; three tasks joined by two bounded queues.

    socket -> listen -> Inlet -> understand -> Outlet -> send -> socket

A session may outlive its connection: then it commits what it knows with the events that tell of it
(emotrace_service.session_store), and another connection goes on from there.

Whatever ends a session, what was taken in before is understood first; then come the error, if there
is one, `session.ended` with totals, and the close frame. Only a client that is gone or does not
read gets nothing more.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from contextlib import suppress

from emotrace_protocol import events
from emotrace_protocol.errors import ErrorCode, ProtocolError, WarningCode
from emotrace_protocol.messages import Record, SessionResume, SessionStart
from emotrace_protocol.order import ServerConversation, State
from emotrace_service.brownout import MEANINGS
from emotrace_service.continuity import Continuity
from emotrace_service.endings import (
    DELETED,
    LOST,
    NORMAL,
    TAKEN_OVER,
    VANISHED,
    Deleted,
    close_code_of,
    leaves,
    reason_of,
    unless,
)
from emotrace_service.errors import EngineClosed, place
from emotrace_service.greeting import Greeting
from emotrace_service.identity import Caller
from emotrace_service.intake import Intake
from emotrace_service.listening import Socket, SocketClosed, warn_unknown
from emotrace_service.opening import Plan, plan_session, started_fields
from emotrace_service.queues import Finish, Outlet, SlowConsumer
from emotrace_service.recorder import consent_digest
from emotrace_service.serving import Serving
from emotrace_service.session_store import Resumed, TakenOver, Told
from emotrace_service.understanding import Understanding
from emotrace_service.witness import Witness
from emotrace_service.work import Work, begin

CLOSE_TIMEOUT_S = 1.0


class Session:
    """One connection, from its first message to the close frame.

    caller: who was let in already, by a header; None: the first message says who it is.
    """

    def __init__(self, socket: Socket, serving: Serving, caller: Caller | None = None) -> None:
        self._socket = socket
        self._caller = caller
        self._serving = serving
        self._settings = serving.settings
        self._clock = serving.clock
        self._name = secrets.token_hex(8)
        self._log = serving.log.bind(session=self._name)
        self._witness = Witness(serving.observers, self._name)
        self._conversation = ServerConversation()
        self._greeting = Greeting(socket, self._conversation, serving.metrics, self._clock)
        self._outlet = Outlet(self._conversation, serving.metrics, self._settle, self._made)
        self._came = self._clock()
        self._continuity = Continuity(serving.store)
        self._work: Work | None = None
        self._bundle: str | None = None
        self._telling: set[asyncio.Task[None]] = set()
        self._level: int | None = 0  # of what is left out, as the client knows it
        self._moves = False
        self._left_for: str | None = None
        self._close_code = NORMAL

    async def run(self) -> None:
        """Serve the client until the end, whatever that is."""
        end = VANISHED
        begun = self._clock()
        try:
            with self._serving.met():
                opening, unknown = await self._greeting.run(self._settings.start_timeout_ms)
            again = opening.session if isinstance(opening, SessionResume) else None
            with self._serving.admitted(self, again=again):
                end = await self._open(opening, unknown)
        except ProtocolError as error:
            end = "error"
            self._witness.refused(error.code, self._key)
            await self._refuse(error)
        except SocketClosed:
            pass
        except Exception as fault:
            end = "error"
            self._close_code = close_code_of(ErrorCode.INTERNAL)
            self._log.error("session broke", error=type(fault).__name__, place=place(fault))
        self._serving.metrics.session_ends.labels(end).inc()
        self._witness.ended(end, self._figures())
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

    async def _open(self, opening: SessionStart | SessionResume, unknown: tuple[str, ...]) -> str:
        """A session that begins, or goes on; gives how it ended. Raises ProtocolError."""
        if isinstance(opening, SessionResume):
            resumed = await self._continuity.resume(opening)
            self._go_on(opening, resumed)
            if resumed.snapshot.over:
                return await self._repeat_end(resumed)
            start = resumed.snapshot.start
            self._caller = self._serving.door.named(resumed.snapshot.caller)
        else:
            resumed, start = None, opening
            if start.record is not None:  # of what was agreed to nobody keeps more
                digest = consent_digest(start.record.consent)
                start = start.model_copy(update={"record": Record(consent=digest)})
            if self._caller is None:
                self._caller = await self._serving.door.caller(start.token)
        understood_by = None if resumed is None else resumed.snapshot.understood.bundle
        plan = plan_session(
            start,
            self._serving.shelf.for_dialogue(understood_by),
            self._settings,
            transcribes=self._serving.backend.transcribes(start.language),
            shadow=self._serving.shadow_of(self._name),
        )
        self._bundle = plan.bundle.edition
        # Whatever bundle it goes on with later, its client was told these.
        start = start.model_copy(update={"labels": plan.bundle.labels.names})
        if start.resume and resumed is None:
            await self._continuity.begin(self._name)
        try:
            with self._serving.door.entered(self._caller, again=resumed is not None):
                return await self._serve(start, plan, unknown, resumed)
        finally:
            await self._continuity.leave()

    def _go_on(self, message: SessionResume, resumed: Resumed) -> None:
        self._name = message.session
        self._log = self._serving.log.bind(session=self._name)
        self._witness = Witness(self._serving.observers, self._name)
        snapshot = resumed.snapshot
        self._conversation.resume(snapshot.sent, snapshot.counts, message.sequence - 1)

    @property
    def _key(self) -> str | None:
        """Name of the caller's."""
        return None if self._caller is None else self._caller.name

    def _figures(self) -> dict[str, int]:
        """Of the session so far, for the audit log."""
        if self._work is None:
            return {}
        understanding = self._work.understanding
        return {
            "audio_ms": understanding.taken_ms,
            "utterances": understanding.utterances,
            "finals": self._conversation.counts["emotion.final"],
            "failed": understanding.failed,
            "events": self._conversation.sent,
        }

    @property
    def moves(self) -> bool:
        """Whether another server can go on with it, and it is not on its way there already."""
        return self._work is not None and self._continuity.moves and not self._moves

    def go_away(self, why: str) -> None:
        """Finish what was taken in and say why; or, where another server can go on with the
        session, leave it there."""
        if self._work is None:
            self._left_for = why  # once it has begun
            return
        finish = Finish(self._clock(), ProtocolError(ErrorCode.GOING_AWAY, why))
        if self._continuity.moves:
            self._moves = True
            self._work.inlet.cut(finish)  # the client says it again, elsewhere
        else:
            self._work.inlet.put(finish)

    @property
    def name(self) -> str:
        return self._name

    @property
    def active(self) -> float:
        """When the client was heard last, or came."""
        return self._came if self._work is None else self._work.listener.heard

    @property
    def bundle(self) -> str | None:
        return self._bundle

    def degrade(self, level: int) -> None:
        """The server leaves out more than before, or less."""
        if self._conversation.state in (State.OPEN, State.ENDING):
            told = asyncio.create_task(self._tell_level())
            self._telling.add(told)
            told.add_done_callback(self._telling.discard)

    async def _tell_level(self) -> None:
        """What is left out, unless the client knows it."""
        level = self._serving.level
        if level != self._level:
            self._level = level
            with suppress(TakenOver):
                meaning = MEANINGS[level]
                await self._outlet.emit(events.ServiceDegraded, level=level, message=meaning)

    async def _refuse(self, error: ProtocolError) -> None:
        """The session does not begin, or not go on here."""
        self._close_code = close_code_of(error.code)
        with suppress(SocketClosed, TimeoutError):
            async with asyncio.timeout(self._settings.send_timeout_ms / 1_000):
                await self._greeting.tell(error)

    async def _serve(
        self, start: SessionStart, plan: Plan, unknown: tuple[str, ...], resumed: Resumed | None
    ) -> str:
        """The open session; gives how it ended."""
        work = self._work = begin(
            self._socket,
            self._serving,
            self._conversation,
            self._outlet,
            self._log,
            start,
            plan,
            None if resumed is None else resumed.snapshot,
            self._greeting.messages,
            keeps=self._continuity.keeps,
            confirm=self._continuity.confirm,
            note=self._witness.note,
        )
        if self._left_for is not None:
            self.go_away(self._left_for)
        end = LOST if self._continuity.keeps else VANISHED
        try:
            opened = (work.start, plan.bundle, self._settings.profile, plan.live, self._key)
            recording = await self._witness.opened(*opened, again=resumed is not None)
            async with asyncio.TaskGroup() as group:
                sending = group.create_task(self._send(work.understanding))
                await self._greet(work, plan, unknown, resumed, recording)
                listening = group.create_task(work.listener.run())
                watching = group.create_task(self._continuity.watch())
                understood = group.create_task(self._understand(work))
                await sending
                listening.cancel()
                watching.cancel()
                end = await understood
        except* SocketClosed as gone:
            if any(one.said_so for one in leaves(gone)):
                end = VANISHED
                await self._continuity.forget()
        except* SlowConsumer:
            end = "error"
            self._close_code = close_code_of(ErrorCode.SLOW_CONSUMER)
            self._serving.metrics.refusals.labels(ErrorCode.SLOW_CONSUMER.value).inc()
        except* TakenOver:
            end = TAKEN_OVER
            await self._refuse(
                ProtocolError(ErrorCode.TAKEN_OVER, "The session goes on elsewhere.")
            )
        # Where the client left at once, or had ended the session before, it is not done yet.
        if work.listener.deleted.is_set():
            with suppress(TakenOver):
                end = DELETED if await self._forget() is None else end
        return end

    async def _greet(
        self,
        work: Work,
        plan: Plan,
        unknown: tuple[str, ...],
        resumed: Resumed | None,
        recording: str | None,
    ) -> None:
        """What comes before all else, kept together. Raises TakenOver."""
        notices = work.understanding.notices
        async with self._outlet.step():
            if resumed is None:
                await self._outlet.emit(
                    events.SessionStarted,
                    **started_fields(self._name, plan, self._settings),
                    resume=self._continuity.info,
                    recording=None if recording is None else events.RecordingInfo(token=recording),
                )
                if why := plan.interim_refused:
                    await notices.warn(WarningCode.INTERIM_SKIPPED, why, "interim")
            else:
                if self._conversation.counts["service.degraded"]:
                    self._level = None  # elsewhere it may have been another
                through = work.receipts.through
                await self._outlet.go_on(resumed.events, through, resumed.lease.token)
                if resumed.snapshot.understood.bundle not in (None, plan.bundle.key):
                    changed = f"It is {plan.bundle.name!r} {plan.bundle.version} now."
                    await notices.warn(WarningCode.MODEL_CHANGED, changed, "bundle")
            await warn_unknown(notices, unknown)
            await self._tell_level()
        sound, again = plan.audio, resumed is not None
        self._log.info("session open", channels=sound.channels, rate=sound.sample_rate, again=again)

    async def _forget(self) -> ProtocolError | None:
        """Whatever is kept of the session. Gives why that cannot be done now. Raises TakenOver."""
        recorded = await self._witness.forget()
        return await self._continuity.erase() or recorded

    async def _repeat_end(self, resumed: Resumed) -> str:
        """The session is over, and its client has not received how it ended."""
        for event in resumed.events:
            async with asyncio.timeout(self._settings.send_timeout_ms / 1_000):
                await self._socket.send(event.text)
        await self._continuity.leave()
        return LOST

    def _made(self, event: events.Event) -> None:
        self._witness.told(event)

    async def _settle(self, told: Sequence[Told]) -> None:
        """Events are about to be sent: they are kept first, and posted. Raises TakenOver."""
        await self._keep(told)
        self._witness.post(told)

    async def _keep(self, told: Sequence[Told]) -> None:
        """Raises TakenOver."""
        work = self._work
        if work is None:
            return
        kept = await self._continuity.commit(
            lambda: work.snapshot(self._key), told, self._conversation.acknowledged
        )
        if not kept:
            self._log.warning("session cannot be resumed any more")
            message = "What keeps the sessions does not answer."
            await work.understanding.notices.warn(WarningCode.RESUME_LOST, message)

    async def _send(self, understanding: Understanding) -> None:
        async def heartbeat() -> None:
            await self._outlet.emit(events.Heartbeat, audio_ms=understanding.audio_ms)

        await self._outlet.run(
            self._socket.send,
            send_timeout_s=self._settings.send_timeout_ms / 1_000,
            heartbeat_s=self._settings.heartbeat_ms / 1_000,
            heartbeat=heartbeat,
        )

    async def _understand(self, work: Work) -> str:
        """All that comes in, then the end. Gives how the session ended. Raises TakenOver."""
        understanding = work.understanding
        reason, leaving = "client", False
        try:
            intake = Intake(
                work,
                self._outlet,
                self._serving.metrics,
                keeps=lambda: self._continuity.keeps,
                moves=lambda: self._moves,
                clock=self._clock,
            )
            error = await unless(work.listener.deleted, intake.run())
            leaving = self._moves and error is not None
        except TakenOver:
            raise
        except Deleted:
            await understanding.close()
            error = await self._forget()
            reason = DELETED
        except EngineClosed:
            error = ProtocolError(ErrorCode.GOING_AWAY, "The server is stopping.")
            leaving = self._continuity.moves
        except Exception as fault:
            self._log.error("session failed", error=type(fault).__name__, place=place(fault))
            error = ProtocolError(ErrorCode.INTERNAL, "The session failed.")
        finally:
            await understanding.close()
        if error is not None:
            reason = reason_of(error.code)
            self._close_code = close_code_of(error.code)
            if leaving:
                await self._outlet.leave(error)
                return reason
        await self._outlet.end(error, reason, work.totals)
        return reason
