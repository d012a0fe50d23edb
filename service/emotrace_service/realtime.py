"""A client of OpenAI's Realtime protocol, as a socket of a session: one path for all.

Until its first audio the client may configure its session; then a session.start is said for it, and
from there a Session serves it as it serves everybody, with the same limits. Messages are translated
on the way in (realtime_messages), events on the way out (realtime_events).
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from itertools import count

from emotrace_protocol.codec import decode_message, encode
from emotrace_protocol.errors import ErrorCode, ProtocolError
from emotrace_protocol.events import NOTICE
from emotrace_protocol.messages import Marker, SessionEnd, SessionStart, UtteranceEnd
from emotrace_protocol.order import ServerConversation
from emotrace_service.client_secrets import Issued
from emotrace_service.errors import Advised
from emotrace_service.listening import Socket, SocketClosed
from emotrace_service.opening import Plan, bundle_info, plan_session
from emotrace_service.realtime_config import (
    SessionConfig,
    left_out,
    merged,
    renamed,
    start_text,
    told,
    told_beta,
    without_hints,
)
from emotrace_service.realtime_events import Fields, RealtimeEvents
from emotrace_service.realtime_messages import (
    Append,
    BetaSessionUpdate,
    Clear,
    Commit,
    RealtimeMessage,
    SessionUpdate,
    event_id_of,
    read_message,
)
from emotrace_service.serving import Serving
from emotrace_service.session import Session

NORMAL = 1000
FIXED = "The configuration of a session is fixed from its first audio on: open another connection."
SPEAKING = "Somebody speaks: what was heard of an utterance cannot be taken back."


def plan_realtime(config: SessionConfig, serving: Serving) -> Plan:
    """What the session will be. Raises ProtocolError where the server cannot give it."""
    try:
        start, _ = decode_message(start_text(config))
        assert isinstance(start, SessionStart)
        return plan_session(
            start,
            serving.bundles,
            serving.settings,
            transcribes=serving.backend.transcribes(start.language),
        )
    except ProtocolError as error:
        raise renamed(error) from None


def session_object(name: str, config: SessionConfig, plan: Plan, *, beta: bool) -> Fields:
    """A session as Realtime clients know one; `emotrace` is what they would not know."""
    kind = {} if beta else {"object": "realtime.transcription_session"}
    return {
        "id": name,
        **kind,
        **(told_beta(config) if beta else told(config)),
        "emotrace": {
            "bundle": bundle_info(plan.bundle).model_dump(mode="json"),
            "labels": plan.bundle.labels.names,
            "label_sets": plan.label_sets,
            "modalities": [one.model_dump() for one in plan.modalities],
            "speaker": plan.speakers[0],
            "interim": plan.interim,
            "notice": NOTICE,
        },
    }


class RealtimeSocket:
    """The client, until its connection closes.

    issued: how its session is called and configured at first. beta: of the protocol. full: the
    server had no place for it.
    """

    def __init__(self, socket: Socket, serving: Serving, issued: Issued, *, beta: bool) -> None:
        self._socket = socket
        self._serving = serving
        self._config = issued.config
        self._left_out = issued.left_out
        self._name = issued.session
        self._caller = issued.caller
        self._beta = beta
        self._events = RealtimeEvents(secrets.token_hex(6), beta=beta)
        self._errors = ServerConversation()  # it counts messages that are none
        self._ready: deque[str | bytes] = deque()
        self._started: str | None = None
        self._awaited: dict[str, Callable[[], Fields | None]] = {}  # answers, by their markers
        self._markers = count()
        self._committed = 0  # utterances, at the last commit
        self._closed = False
        self.full = False

    async def run(self) -> None:
        """Serve the client until the end, whatever that is."""
        ends = self._serving.metrics.session_ends
        try:
            with self._serving.met():
                await self._configure()
        except ProtocolError as error:
            ends.labels("error").inc()
            with suppress(SocketClosed):
                await self._refuse(error)
                await self.close(error.code.kind.close or NORMAL)
        except SocketClosed:
            ends.labels("vanished").inc()
        else:
            await Session(self, self._serving, self._caller).run()

    async def _configure(self) -> None:
        """Until the first audio. Raises ProtocolError, SocketClosed."""
        idle_s = self._serving.settings.idle_no_audio_ms / 1_000
        try:
            async with asyncio.timeout(idle_s):
                await self._tell_session("session.created", beta=self._beta)
                await self._warn(self._left_out)
                while not self._ready:
                    await self._take(await self._socket.receive())
        except TimeoutError:
            cause = f"Nothing was heard for {idle_s:g} s."
            raise ProtocolError(ErrorCode.IDLE_NO_AUDIO, cause) from None

    async def receive(self) -> str | bytes:
        while not self._ready:
            await self._take(await self._socket.receive())
        return self._ready.popleft()

    async def send(self, text: str) -> None:
        said = json.loads(text)
        self.full |= said["sequence"] == 0 and said.get("code") == ErrorCode.CAPACITY
        if said["type"] == "marker.reached":
            await self._reply(self._awaited.pop(said["id"]))
        await self._say(*self._events.translate(said))

    async def close(self, code: int) -> None:
        """The first time counts."""
        if not self._closed:
            self._closed = True
            await self._socket.close(code)

    async def _take(self, data: str | bytes) -> None:
        """One message of the client. Raises SocketClosed, also where it was the last one."""
        try:
            await self._obey(read_message(data))
        except ProtocolError as error:
            last = error if error.code is ErrorCode.PURPOSE_PROHIBITED else None
            if error.code is ErrorCode.MESSAGE_INVALID:
                try:
                    self._errors.invalid(self._serving.clock())
                except ProtocolError as too_many:
                    last = too_many
            await self._refuse(last or error, event_id_of(data))
            if last is not None:
                await self.close(last.code.kind.close or NORMAL)
                raise SocketClosed from None

    async def _obey(self, message: RealtimeMessage) -> None:
        """Raises ProtocolError where it is refused."""
        if isinstance(message, Append):
            samples = message.samples()
            self._begin()
            self._ready.append(samples)
        elif isinstance(message, SessionUpdate):
            await self._update(message.session, "session.updated", beta=False)
        elif isinstance(message, BetaSessionUpdate):
            given = message.session.general()
            await self._update(given, "transcription_session.updated", beta=True)
        elif isinstance(message, Clear):
            await self._when_understood(partial(self._cleared, message.event_id))
        elif isinstance(message, Commit):
            if self._started is not None:
                self._ready.append(encode(UtteranceEnd()))
            await self._when_understood(partial(self._commit, message.event_id))
        else:
            self._begin()
            self._ready.append(encode(SessionEnd()))

    def _begin(self) -> None:
        """The configuration holds from here on."""
        if self._started is None:
            self._started = start_text(self._config)
            self._events.manual = self._config.audio.input.turn_detection is None
            self._ready.append(self._started)

    async def _update(self, given: SessionConfig, answer: str, *, beta: bool) -> None:
        config = merged(self._config, given)
        plan_realtime(config, self._serving)
        if self._started is not None and start_text(config) != self._started:
            raise Advised(ErrorCode.CONFIG_INVALID, FIXED, "session")
        self._config = without_hints(config)
        await self._tell_session(answer, beta=beta)
        await self._warn(left_out(given))

    async def _tell_session(self, kind: str, *, beta: bool) -> None:
        plan = plan_realtime(self._config, self._serving)
        session = session_object(self._name, self._config, plan, beta=beta)
        await self._answer(self._events.event(kind, session=session))

    async def _warn(self, left_out: Iterable[tuple[str, str]]) -> None:
        for param, why in left_out:
            await self._answer(
                self._events.event(
                    "emotrace.warning", code="field_ignored", message=why, param=param
                )
            )

    async def _when_understood(self, answer: Callable[[], Fields | None]) -> None:
        """Answer when all that came before is understood: what is there to commit, or to clear?"""
        if self._started is None:
            await self._reply(answer)
            return
        marker = f"answer {next(self._markers)}"
        self._awaited[marker] = answer
        self._ready.append(encode(Marker(id=marker)))

    async def _reply(self, answer: Callable[[], Fields | None]) -> None:
        event = answer()
        if event is not None:
            await self._answer(event)

    def _cleared(self, event_id: str | None) -> Fields:
        if self._events.speaking:
            return self._events.error(
                Advised(ErrorCode.MESSAGE_INVALID, SPEAKING, "type"), event_id
            )
        return self._events.event("input_audio_buffer.cleared")

    def _commit(self, event_id: str | None) -> Fields | None:
        """Nothing more to say where there was something: its item is told already."""
        before, self._committed = self._committed, self._events.committed
        return self._events.empty(event_id) if self._committed == before else None

    async def _refuse(self, error: ProtocolError, event_id: str | None = None) -> None:
        self._serving.metrics.refusals.labels(error.code.value).inc()
        self.full |= error.code is ErrorCode.CAPACITY
        await self._answer(self._events.error(error, event_id))

    async def _answer(self, event: Fields) -> None:
        """An event that no session said. Raises SocketClosed, also where the client reads nothing:
        its next message would wait for this one to go."""
        try:
            async with asyncio.timeout(self._serving.settings.send_timeout_ms / 1_000):
                await self._say(event)
        except TimeoutError:
            raise SocketClosed from None

    async def _say(self, *events: Fields) -> None:
        for event in events:
            await self._socket.send(json.dumps(event, ensure_ascii=False, separators=(",", ":")))
