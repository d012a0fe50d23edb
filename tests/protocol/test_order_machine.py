"""A state machine: two conversations joined by queues never disagree, whatever is in flight."""

from __future__ import annotations

from collections import deque
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from emotrace_protocol import (
    ClientConversation,
    ConversationError,
    ErrorCode,
    Event,
    Message,
    ProtocolError,
    ServerConversation,
    State,
    decode_event,
    decode_message,
    encode,
)
from emotrace_protocol.events import Heartbeat, MarkerReached, SessionEnded, SessionStarted
from emotrace_protocol.messages import Ack, Marker, SessionEnd, SessionStart, UtteranceText

ACKS = st.integers(0, 20).map(lambda sequence: Ack(sequence=sequence))
MESSAGES = st.one_of(
    st.just(SessionStart()),
    st.just(Marker(id="m")),
    st.just(UtteranceText(text="t", utterance=0)),
    st.just(UtteranceText(text="t", speaker="A")),
    st.just(SessionEnd()),
    ACKS,
)
AUDIO = b"\0\0"


class Session(RuleBasedStateMachine):
    """Both sides, with text in flight in both directions.

    The client sends what its own conversation allows; then the server must accept all of it.
    The server sends what its own conversation allows; then the client must accept all of it.
    """

    started: dict[str, Any]

    def __init__(self) -> None:
        super().__init__()
        self.client = ClientConversation()
        self.server = ServerConversation()
        self.to_server: deque[str | bytes] = deque()
        self.to_client: deque[str] = deque()
        self.rude: set[str | bytes] = set()
        self.now_s = 0.0

    def server_sends(self, event: Event) -> None:
        self.to_client.append(encode(event))

    @rule(message=MESSAGES)
    def client_sends(self, message: Message) -> None:
        try:
            self.client.send(message)
        except ConversationError:
            return
        self.to_server.append(encode(message))

    @rule()
    def client_sends_audio(self) -> None:
        try:
            self.client.send_audio()
        except ConversationError:
            return
        self.to_server.append(AUDIO)

    @rule(text=st.sampled_from(["x", '{"type":"new"}', '{"type":"session.start","audio":1}']))
    def client_is_rude(self, text: str) -> None:
        self.rude.add(text)
        self.to_server.append(text)

    @precondition(lambda self: self.to_server and self.server.state is not State.ENDED)
    @rule(wait_s=st.floats(0, 30))
    def server_reads(self, wait_s: float) -> None:
        self.now_s += wait_s
        item = self.to_server.popleft()
        try:
            if isinstance(item, bytes):
                self.server.receive_audio()
            else:
                self.server.receive(decode_message(item)[0])
        except ProtocolError as error:
            if item not in self.rude:
                raise AssertionError("the client kept the order and was refused") from error
            try:
                self.server_sends(self.server.refuse(error, self.now_s))
            except ConversationError:
                assert self.server.state is not State.ENDED  # a fatal error has been sent

    @rule(event=st.sampled_from(["start", "beat", "marker", "fatal", "end"]))
    def server_speaks(self, event: str) -> None:
        totals = {
            "audio_ms": 0,
            "audio_bytes": 0,
            "messages": 0,
            "utterances": 0,
            "finals": self.server.counts["emotion.final"],
            "revisions": self.server.counts["emotion.revised"],
            "failed": 0,
            "events": self.server.sent + 1,
        }
        try:
            match event:
                case "start":
                    sent: Event = self.server.number(SessionStarted, **self.started)
                case "beat":
                    sent = self.server.number(Heartbeat, audio_ms=0)
                case "marker":
                    sent = self.server.number(MarkerReached, id="m", audio_ms=0)
                case "fatal":
                    error = ProtocolError(ErrorCode.INTERNAL, "It broke.")
                    sent = self.server.refuse(error, self.now_s)
                case _:
                    sent = self.server.number(SessionEnded, reason="client", totals=totals)
        except ConversationError:
            return
        self.server_sends(sent)

    @precondition(lambda self: self.to_client)
    @rule()
    def client_reads(self) -> None:
        self.client.receive(decode_event(self.to_client.popleft()))

    @invariant()
    def nothing_is_lost(self) -> None:
        assert self.client.received + len(self.to_client) == self.server.sent

    @invariant()
    def an_ended_client_has_read_all(self) -> None:
        if self.client.state is State.ENDED:
            assert self.client.received == self.server.sent
            assert self.client.counts == self.server.counts


def test_both_sides_agree(started_fields: dict[str, Any]) -> None:
    machine = type("StartedSession", (Session,), {"started": started_fields})
    run_state_machine_as_test(machine)
