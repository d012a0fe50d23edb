"""Which message may follow which: the conversation as a pure object, one a side.

No clock, no socket: a shell passes in what arrived and sends what comes out (in the manner of
python-websockets' sans-IO core).

    client                                server
    session.start  ─────────────────────► receive
                   ◄───────────────────── session.started    (before it, only `error`)
    or session.resume ──────────────────► receive, resume
                   ◄───────────────────── missed events, session.resumed
    audio, text, image, marker, ack ────► receive, receive_audio
                   ◄───────────────────── events, numbered without gaps
    session.end    ─────────────────────► receive            (after it, only ack, session.delete
                   ◄───────────────────── events              and texts of announced utterances)
                   ◄───────────────────── session.ended      (after it, nothing)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import Enum, auto
from typing import Any, TypeVar

from emotrace_protocol.errors import ConversationError, ErrorCode, ProtocolError
from emotrace_protocol.events import (
    Event,
    Failed,
    InputAck,
    SessionEnded,
    SessionResumed,
    SessionStarted,
    UnknownEvent,
)
from emotrace_protocol.messages import (
    Ack,
    Message,
    SessionDelete,
    SessionEnd,
    SessionResume,
    SessionStart,
    UtteranceText,
)

OPENINGS = ("session.start", "session.resume")
MAX_INVALID = 5
INVALID_WINDOW_S = 60.0

E = TypeVar("E", bound=Event)


class State(Enum):
    """Where a conversation stands."""

    CONNECTED = auto()  # nothing said yet
    STARTING = auto()  # session.start or session.resume is said, its answer is not
    OPEN = auto()
    ENDING = auto()  # session.end is said
    ENDED = auto()  # session.ended is said


class ServerConversation:
    """The server's side of one session.

    sent: events numbered so far. counts: the same by type. acknowledged: the highest sequence that
    the client acknowledged, -1 before.
    """

    def __init__(self) -> None:
        self.state = State.CONNECTED
        self.sent = 0
        self.counts: Counter[str] = Counter()
        self.acknowledged = -1
        self._fatal = False
        self._invalid_at: tuple[float, ...] = ()  # the last ones

    def receive(self, message: Message) -> None:
        """Takes note of a client's message. Raises ProtocolError if it may not come now."""
        if isinstance(message, SessionStart | SessionResume):
            if self.state is not State.CONNECTED:
                raise _already_started(message.type)
            self.state = State.STARTING
            return
        if self.state is State.CONNECTED:
            raise _not_started(message.type)
        if isinstance(message, Ack):
            self._acknowledge(message.sequence)
        elif self.state in (State.ENDING, State.ENDED):
            if not _may_follow_the_end(message):
                raise _already_ended(message.type)
        elif isinstance(message, SessionEnd | SessionDelete):
            self.state = State.ENDING

    def resume(self, sent: int, counts: Mapping[str, int], acknowledged: int) -> None:
        """The session goes on where an earlier connection broke. Raises ConversationError where no
        session.resume waits for an answer.

        sent, counts: events numbered before. acknowledged: the last that the client received.
        """
        if self.state is not State.STARTING or self.sent:
            raise ConversationError("no session.resume waits for an answer")
        self.sent = sent
        self.counts = Counter(counts)
        self.acknowledged = acknowledged

    def receive_audio(self) -> None:
        """Takes note of a binary message. Raises ProtocolError if it may not come now."""
        if self.state is State.CONNECTED:
            raise _not_started("audio")
        if self.state in (State.ENDING, State.ENDED):
            raise _already_ended("audio")

    def invalid(self, now_s: float) -> None:
        """Counts a `message_invalid`. Raises ProtocolError (too_many_errors) at 5 in 60 s.

        now_s: any clock that does not go back.
        """
        self._invalid_at = (*self._invalid_at, now_s)[-MAX_INVALID:]
        if len(self._invalid_at) == MAX_INVALID and now_s - self._invalid_at[0] < INVALID_WINDOW_S:
            raise ProtocolError(
                ErrorCode.TOO_MANY_ERRORS,
                f"{MAX_INVALID} invalid messages came within {INVALID_WINDOW_S:.0f} s.",
            )

    def weigh(self, error: ProtocolError, now_s: float) -> ProtocolError:
        """The error that a refused message is answered with.

        A second opening does no harm however wrong its content: it gets `already_started`.
        """
        if error.message_type in OPENINGS and self.state is not State.CONNECTED:
            return _already_started(error.message_type)
        if error.code is ErrorCode.MESSAGE_INVALID:
            try:
                self.invalid(now_s)
            except ProtocolError as last:
                return last
        return error

    def refuse(self, error: ProtocolError, now_s: float) -> Failed:
        """The event that answers a refused message; where it is `fatal`, close after sending it.

        A server that still owes events for what it accepted weighs first, and sends them before.
        """
        return self.number(Failed, **self.weigh(error, now_s).fields())

    def number(self, event_type: type[E], **fields: Any) -> E:
        """Builds the next event. Raises ConversationError if it may not be sent now.

        A pydantic ValidationError (a field is wrong) uses up no number.
        """
        self._check_may_send(event_type)
        event = event_type(sequence=self.sent, **fields)
        self.sent += 1
        self.counts[event.type] += 1
        if isinstance(event, SessionStarted | SessionResumed) and self.state is State.STARTING:
            self.state = State.OPEN
        elif isinstance(event, SessionEnded):
            self.state = State.ENDED
        elif isinstance(event, Failed):
            self._fatal = event.fatal
        return event

    def _acknowledge(self, sequence: int) -> None:
        if sequence >= self.sent:
            raise ProtocolError(
                ErrorCode.ACK_INVALID,
                f"Event {sequence} is acknowledged, and {self.sent} events were sent.",
                "sequence",
                message_type="ack",
            )
        self.acknowledged = max(self.acknowledged, sequence)

    def _check_may_send(self, event_type: type[Event]) -> None:
        name = event_type.__name__
        if self.state is State.ENDED:
            raise ConversationError(f"{name} after session.ended: nothing may follow it")
        if self._fatal and event_type is not SessionEnded:
            raise ConversationError(f"{name} after a fatal error: only session.ended may follow it")
        started = self.counts["session.started"] > 0
        if event_type is SessionStarted:
            if started or self.state is State.CONNECTED:
                raise ConversationError(f"{name} where no session.start waits for an answer")
        elif event_type is SessionResumed:
            if not started or self.state is not State.STARTING:
                raise ConversationError(f"{name} where no session.resume waits for an answer")
        elif event_type is not Failed and not started:
            raise ConversationError(f"{name} before session.started: only an error may precede it")


class ClientConversation:
    """The client's side of one session: what it may send, and whether the server keeps the order.

    It outlives a connection: see `resume`. received: events so far. counts: the same by type.
    messages: numbered messages so far, all but session.start, session.resume and acks. resuming:
    session.resumed is waited for. `state` is ENDED once session.ended came.
    """

    def __init__(self) -> None:
        self.state = State.CONNECTED
        self.received = 0
        self.counts: Counter[str] = Counter()
        self.messages = 0
        self.resuming = False
        self._fatal = False

    def start(self) -> None:
        """session.start is being sent. Raises ConversationError the second time."""
        if self.state is not State.CONNECTED:
            raise ConversationError("a session starts once: open another connection")
        self.state = State.STARTING

    def resume(self) -> None:
        """session.resume is being sent, on a further connection. Raises ConversationError where
        there is nothing to resume."""
        if self.state not in (State.OPEN, State.ENDING):
            raise ConversationError("only a session that started, and did not end, is resumed")
        self.resuming = True
        self._fatal = False

    def refuses(self, event: Event) -> bool:
        """Whether an event refuses session.resume, or says that another connection goes on with the
        session. It is of the connection, and has no number in the session."""
        return (
            isinstance(event, Failed)
            and event.fatal
            and event.sequence != self.received
            and (self.resuming or event.code is ErrorCode.TAKEN_OVER)
        )

    def send(self, message: Message) -> None:
        """Any message is said: now, or once the session is resumed. Raises ConversationError if the
        server would refuse it."""
        if isinstance(message, SessionStart):
            self.start()
            return
        if isinstance(message, SessionResume):
            self.resume()
            return
        if isinstance(message, Ack) and self.state is not State.CONNECTED:
            if message.sequence >= self.received:
                raise ConversationError(f"ack of event {message.sequence}, which has not come")
            return
        self._check_may_send(message.type, after_end=_may_follow_the_end(message))
        self.messages += 1
        if isinstance(message, SessionEnd | SessionDelete):
            self.state = State.ENDING

    def send_audio(self) -> None:
        """A binary message is said. Raises ConversationError if the server would refuse it."""
        self._check_may_send("audio")
        self.messages += 1

    def receive(self, event: Event) -> None:
        """Takes note of an event. Raises ConversationError if the server broke the order."""
        if self.state is State.ENDED:
            raise ConversationError(f"{event.type} came after session.ended")
        if event.sequence != self.received:
            raise ConversationError(
                f"event {event.sequence} ({event.type}) came where {self.received} was due: "
                "events were lost, doubled or reordered"
            )
        self._check_may_come(event)
        self.received += 1
        self.counts[event.type] += 1
        if isinstance(event, SessionStarted) and self.state is State.STARTING:
            self.state = State.OPEN
        elif isinstance(event, SessionEnded):
            self._check_totals(event)
            self.state = State.ENDED
        elif isinstance(event, SessionResumed):
            self.resuming = False
        elif isinstance(event, Failed):
            self._fatal = event.fatal and not self.resuming  # it ended an earlier connection

    def _check_may_send(self, what: str, *, after_end: bool = False) -> None:
        if self.state is State.CONNECTED:
            raise ConversationError(f"{what} before session.start")
        if self.state is State.ENDED or (self.state is State.ENDING and not after_end):
            raise ConversationError(f"{what} after the session's end")

    def _check_may_come(self, event: Event) -> None:
        started = self.counts["session.started"] > 0
        if isinstance(event, SessionStarted):
            if started or self.state is State.CONNECTED:
                raise ConversationError("session.started came twice, or without a session.start")
        elif not started and not isinstance(event, (Failed, UnknownEvent)):
            raise ConversationError(f"{event.type} came before session.started")
        if self._fatal and not isinstance(event, (SessionEnded, UnknownEvent)):
            raise ConversationError(f"{event.type} came after a fatal error")
        if isinstance(event, SessionResumed) and not self.resuming:
            raise ConversationError("session.resumed came without a session.resume")
        if isinstance(event, (InputAck, SessionResumed)) and event.messages > self.messages:
            raise ConversationError(
                f"{event.type} tells of {event.messages} messages, and {self.messages} were said"
            )

    def _check_totals(self, ended: SessionEnded) -> None:
        totals = ended.totals
        for name, said, counted in (
            ("events", totals.events, self.received),
            ("finals", totals.finals, self.counts["emotion.final"]),
            ("revisions", totals.revisions, self.counts["emotion.revised"]),
            ("rejected utterances", totals.rejected, self.counts["speech.rejected"]),
        ):
            if said != counted:
                raise ConversationError(f"the server sent {said} {name} and {counted} came")


def _may_follow_the_end(message: Message) -> bool:
    """The last utterance is announced after session.end, and its words come after that."""
    if isinstance(message, UtteranceText):
        return message.utterance is not None
    return isinstance(message, SessionDelete)


def _not_started(what: str) -> ProtocolError:
    return ProtocolError(
        ErrorCode.NOT_STARTED, f"{what} came before session.start.", message_type=what
    )


def _already_started(what: str) -> ProtocolError:
    return ProtocolError(
        ErrorCode.ALREADY_STARTED, f"{what} came where a session had begun; it was ignored."
    )


def _already_ended(what: str) -> ProtocolError:
    return ProtocolError(
        ErrorCode.ALREADY_ENDED,
        f"{what} came after session.end; it was ignored.",
        message_type=what,
    )
