"""A state machine of the whole protocol against a live server: any order of good and bad messages,
broken connections and resumed sessions. A model foretells every answer that does not rest on sound.

The model knows the session's state, which refusals it has earned and in which order, and all that
it has said. What arrives must keep the order of the protocol (ClientConversation), and at every
marker, and at the end, nothing may be missing, doubled or out of turn.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from live import LiveServer, demo_pcm, live_server
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from emotrace_protocol import ClientConversation, decode_event
from emotrace_protocol.events import (
    Event,
    Failed,
    MarkerReached,
    ResumeInfo,
    SessionEnded,
    SessionResumed,
    SessionStarted,
)
from emotrace_protocol.messages import (
    Ack,
    Marker,
    Message,
    SessionEnd,
    SessionResume,
    SessionStart,
    UtteranceEnd,
    UtteranceText,
)

WAIT_S = 60.0
MOST_INVALID = 3  # of a session: the fifth in a minute ends it
FORMAT, DEMO = demo_pcm(12.0)
STEP = 2 * FORMAT.channels

# What is said before any session, and how that ends: the code of the error, and of the close.
DOOMED = {
    b"\0\0": ("not_started", 4400),
    '{"type":"marker","id":"m"}': ("not_started", 4400),
    '{"type":"session.end"}': ("not_started", 4400),
    '{"type":"session.start","audio":{"channels":0}}': ("audio_format_unsupported", 4415),
    '{"type":"session.start","speakers":["a","b"]}': ("config_invalid", 4422),
    '{"type":"session.start","protocol_version":2}': ("protocol_unsupported", 4422),
    '{"type":"session.start","bundle":"none"}': ("bundle_unknown", 4422),
    '{"type":"session.start","labels":["a","b"]}': ("labels_mismatch", 4422),
    '{"type":"session.start","purpose":"Recruitment"}': ("purpose_prohibited", 4403),
}
# What is refused in a session, which goes on.
BAD = {
    '{"type":"new"}': "type_unknown",
    '{"type":"session.start"}': "already_started",
    '{"type":"session.start","audio":7}': "already_started",
    '{"type":"utterance.text","text":"x","utterance":1000000}': "utterance_unknown",
    '{"type":"image","speaker":"Nobody","jpeg":"/9j/"}': "speaker_unknown",
    '{"type":"utterance.text","text":"' + "x" * 5_000 + '","speaker":"A"}': "text_too_long",
    '{"type":"marker","id":"' + "x" * 70_000 + '"}': "message_too_large",
}
# What is refused when its turn has come, after the sound before it; all else is refused at once.
LATER = {"speaker_unknown"}
INVALID = [
    "not JSON",
    "[]",
    '{"type":"marker"}',
    '{"type":"marker","id":1}',
    '{"type":"marker","id":"a","id":"b"}',
    '{"type":"ack","sequence":-1}',
    '{"type":"marker","id":"\\ud800"}',
    '{"a":' * 30 + "1" + "}" * 30,
]


def in_order(codes: list[str]) -> tuple[list[str], list[str]]:
    """Of each kind: those that are refused at once, and those that wait for their turn."""
    return [code for code in codes if code not in LATER], [code for code in codes if code in LATER]


class Protocol(RuleBasedStateMachine):
    """said: every message with a number, in order. earned: codes of the errors that must come."""

    server: LiveServer

    def __init__(self) -> None:
        super().__init__()
        self.connection = ExitStack()
        self.socket: ClientConnection | None = None
        self.talk = ClientConversation()
        self.session, self.token = "", ""
        self.said: list[str | bytes] = []
        self.earned: list[str] = []
        self.refused: list[str] = []
        self.reached: list[str] = []
        self.markers: list[str] = []
        self.audio_bytes = self.invalid = self.breaks = self.acks = 0
        self.ended: SessionEnded | None = None

    def connected(self) -> AbstractContextManager[ClientConnection]:
        return connect(self.server.stream_url, compression=None, max_size=None)

    @initialize()
    def start(self) -> None:
        self.socket = self.connection.enter_context(self.connected())
        opening = SessionStart(audio=FORMAT, resume=True, interim=False)
        self.talk.send(opening)
        self.socket.send(opening.model_dump_json())
        started = self.hear()
        assert isinstance(started, SessionStarted)
        assert isinstance(started.resume, ResumeInfo)
        self.session, self.token = started.session, started.resume.token

    def hear(self) -> Event:
        assert self.socket is not None
        event = decode_event(str(self.socket.recv(WAIT_S)))
        self.talk.receive(event)
        if isinstance(event, Failed):
            self.refused.append(str(event.code))
        elif isinstance(event, MarkerReached):
            self.reached.append(event.id)
        elif isinstance(event, SessionEnded):
            self.ended = event
        return event

    def say(self, message: Message | str | bytes) -> None:
        """With a number, unless it is an ack. The conversation knows what is allowed only."""
        assert self.socket is not None
        if isinstance(message, Ack):
            self.acks += 1
            self.socket.send(message.model_dump_json())
            return
        if isinstance(message, Message):
            self.talk.send(message)
            message = message.model_dump_json()
        elif isinstance(message, bytes):
            self.talk.send_audio()
        else:
            self.talk.messages += 1
        self.said.append(message)
        self.socket.send(message)

    @rule(steps=st.integers(0, 20_000), odd=st.booleans())
    def audio(self, steps: int, odd: bool) -> None:
        at = self.audio_bytes % (len(DEMO) // 2)
        piece = DEMO[at : at + steps * STEP + odd]
        self.audio_bytes += len(piece)
        self.say(piece)

    @rule(
        text=st.text(max_size=20).filter(lambda text: "\0" not in text),  # beside a word
        speaker=st.sampled_from("AB"),
    )
    def a_turn_of_words(self, text: str, speaker: str) -> None:
        self.say(UtteranceText(text=f"well {text}", speaker=speaker))

    @rule()
    def cut(self) -> None:
        self.say(UtteranceEnd())

    @rule(back=st.integers(0, 5))
    def ack(self, back: int) -> None:
        self.say(Ack(sequence=max(0, self.talk.received - 1 - back)))

    @rule(bad=st.sampled_from(sorted(BAD)))
    def refused_message(self, bad: str) -> None:
        self.earned.append(BAD[bad])
        self.say(bad)

    @precondition(lambda self: self.invalid < MOST_INVALID)
    @rule(text=st.sampled_from(INVALID))
    def invalid_message(self, text: str) -> None:
        self.invalid += 1
        self.earned.append("message_invalid")
        self.say(text)

    @rule()
    def ack_of_the_future(self) -> None:
        """Like every ack it is not said again, so it is waited for."""
        self.earned.append("ack_invalid")
        self.say(Ack(sequence=10**6))
        self.marker()

    @rule()
    def marker(self) -> None:
        """When it is reached, everything said before has been answered."""
        name = f"m{len(self.markers)}"
        self.markers.append(name)
        self.say(Marker(id=name))
        while not (self.reached and self.reached[-1] == name):
            self.hear()
        assert self.reached == self.markers
        assert in_order(self.refused) == in_order(self.earned)

    @rule(politely=st.booleans(), unread=st.booleans())
    def the_connection_breaks_and_the_session_goes_on(self, politely: bool, unread: bool) -> None:
        """politely: with a FIN. unread: events are lost that were on the way."""
        assert self.socket is not None
        self.breaks += 1
        if not unread:
            self.marker()
        if not politely:
            linger = struct.pack("ii", 1, 0)
            self.socket.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.socket.close_socket()
        self.connection.close()
        self.resume()

    def resume(self) -> None:
        self.socket = self.connection.enter_context(self.connected())
        message = SessionResume(session=self.session, token=self.token, sequence=self.talk.received)
        self.talk.send(message)
        self.socket.send(message.model_dump_json())
        while not isinstance(event := self.hear(), SessionResumed):
            pass
        self.token = event.token
        for said in self.said[event.messages :]:
            self.socket.send(said)

    @rule(session=st.booleans())
    def somebody_guesses(self, session: bool) -> None:
        """Another connection learns nothing, and changes nothing."""
        names = (self.session, "guess") if session else ("0" * 16, self.token)
        with self.connected() as other:
            guess = {"type": "session.resume", "sequence": 0, "session": names[0]}
            other.send(json.dumps({**guess, "token": names[1]}))
            assert self.end_of(other) == ("session_unknown", 4404)

    @rule(message=st.sampled_from(sorted(DOOMED, key=str)))
    def somebody_begins_badly(self, message: str | bytes) -> None:
        with self.connected() as other:
            other.send(message)
            assert self.end_of(other) == DOOMED[message]

    @staticmethod
    def end_of(other: ClientConnection) -> tuple[str, int]:
        told: list[Any] = []
        with suppress(ConnectionClosed):
            while True:
                told.append(json.loads(other.recv(WAIT_S)))
        (error,) = told
        assert error["fatal"]
        assert other.close_code is not None
        return error["code"], other.close_code

    def teardown(self) -> None:
        if self.socket is None or not self.session:
            return
        self.marker()
        self.say(SessionEnd())
        late = (b"\0\0", '{"type":"marker","id":"late"}')
        with suppress(ConnectionClosed):  # where the server was quicker
            for one in late:
                self.socket.send(one)
        while self.ended is None:
            self.hear()
        refused = len(self.refused) - len(self.earned)
        assert refused in range(len(late) + 1)
        assert in_order(self.refused) == in_order(self.earned + ["already_ended"] * refused)
        totals = self.ended.totals
        assert totals.audio_bytes == self.audio_bytes
        assert totals.failed == 0
        if not self.breaks:
            assert totals.messages == 1 + len(self.said) + self.acks + refused
        self.connection.close()


@pytest.fixture(scope="module")
def server(toy: Any) -> Iterator[LiveServer]:
    with live_server(toy, workers="threads", threads=1, compute_budget=100.0) as running:
        yield running
    assert running.metric("emotrace_sessions") == 0


def run(server: LiveServer, examples: int, steps: int) -> None:
    machine = type("LiveProtocol", (Protocol,), {"server": server})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize="CI" in os.environ,
        ),
    )


def test_any_order_of_messages(server: LiveServer) -> None:
    run(server, 25, 15)


@pytest.mark.long
@pytest.mark.timeout(3_600)
def test_many_long_orders_of_messages(server: LiveServer) -> None:
    run(server, 1_000, 40)
