"""Which message may follow which, for both sides."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from emotrace_protocol import (
    ClientConversation,
    ConversationError,
    ErrorCode,
    Event,
    Message,
    ProtocolError,
    ServerConversation,
    State,
    UnknownEvent,
)
from emotrace_protocol.events import (
    Failed,
    Heartbeat,
    SessionEnded,
    SessionStarted,
    SpeechStarted,
    Warned,
)
from emotrace_protocol.messages import Ack, Image, Marker, SessionEnd, SessionStart, UtteranceText

TEXT = UtteranceText(text="hi", utterance=0)
TURN = UtteranceText(text="hi", speaker="bot")
MARKER = Marker(id="m")
IMAGE = Image(speaker="A", jpeg="")
NOTHING = {"audio_ms": 0, "audio_bytes": 0, "messages": 0, "utterances": 0, "failed": 0}


def totals(events: int, finals: int = 0, revisions: int = 0, rejected: int = 0) -> dict[str, int]:
    counted = {"finals": finals, "revisions": revisions, "rejected": rejected}
    return NOTHING | counted | {"events": events}


@pytest.fixture
def server(started_fields: dict[str, Any]) -> ServerConversation:
    conversation = ServerConversation()
    conversation.receive(SessionStart())
    conversation.number(SessionStarted, **started_fields)
    return conversation


@pytest.fixture
def client(started: SessionStarted) -> ClientConversation:
    conversation = ClientConversation()
    conversation.start()
    conversation.receive(started)
    return conversation


def code_of(conversation: ServerConversation, message: Message) -> ErrorCode:
    with pytest.raises(ProtocolError) as caught:
        conversation.receive(message)
    return caught.value.code


@pytest.mark.parametrize("message", [TEXT, TURN, MARKER, IMAGE, Ack(sequence=0), SessionEnd()])
def test_nothing_comes_before_the_start(message: Message) -> None:
    assert code_of(ServerConversation(), message) is ErrorCode.NOT_STARTED


def test_audio_before_the_start_is_refused() -> None:
    with pytest.raises(ProtocolError) as caught:
        ServerConversation().receive_audio()
    assert caught.value.code is ErrorCode.NOT_STARTED


def test_audio_may_follow_the_start_at_once() -> None:
    server = ServerConversation()
    server.receive(SessionStart())
    server.receive_audio()
    server.receive(MARKER)


def test_a_session_starts_once(server: ServerConversation) -> None:
    assert code_of(server, SessionStart()) is ErrorCode.ALREADY_STARTED
    assert server.state is State.OPEN


@pytest.mark.parametrize("message", [TURN, MARKER, IMAGE, SessionEnd()])
def test_after_the_end_nothing_new_comes(server: ServerConversation, message: Message) -> None:
    server.receive(SessionEnd())
    assert code_of(server, message) is ErrorCode.ALREADY_ENDED
    with pytest.raises(ProtocolError) as caught:
        server.receive_audio()
    assert caught.value.code is ErrorCode.ALREADY_ENDED


def test_after_the_end_acks_and_texts_of_announced_utterances_come(
    server: ServerConversation,
) -> None:
    server.receive(SessionEnd())
    server.receive(TEXT)
    server.receive(Ack(sequence=0))
    assert server.acknowledged == 0


def test_an_ack_of_the_past_is_ignored_and_of_the_future_refused(
    server: ServerConversation,
) -> None:
    server.number(Heartbeat, audio_ms=0)
    server.receive(Ack(sequence=1))
    server.receive(Ack(sequence=0))
    assert server.acknowledged == 1
    assert code_of(server, Ack(sequence=2)) is ErrorCode.ACK_INVALID


def test_events_are_numbered_without_gaps(server: ServerConversation) -> None:
    events = [server.number(Heartbeat, audio_ms=n) for n in range(3)]
    assert [event.sequence for event in events] == [1, 2, 3]
    assert server.sent == 4
    assert server.counts == {"session.started": 1, "heartbeat": 3}


def test_an_event_that_cannot_be_built_uses_up_no_number(server: ServerConversation) -> None:
    with pytest.raises(ValueError, match="audio_ms"):
        server.number(Heartbeat, audio_ms="soon")
    assert server.number(Heartbeat, audio_ms=0).sequence == 1


def test_only_an_error_precedes_session_started(started_fields: dict[str, Any]) -> None:
    server = ServerConversation()
    error = server.refuse(ProtocolError(ErrorCode.TYPE_UNKNOWN, "What?"), now_s=0)
    assert error.sequence == 0
    for event_type in (Heartbeat, Warned, SpeechStarted, SessionEnded, SessionStarted):
        with pytest.raises(ConversationError):
            server.number(event_type)
    server.receive(SessionStart())
    assert server.number(SessionStarted, **started_fields).sequence == 1


def test_the_end_may_be_asked_before_the_start_is_answered(
    started_fields: dict[str, Any],
) -> None:
    server = ServerConversation()
    server.receive(SessionStart())
    server.receive(SessionEnd())
    server.number(SessionStarted, **started_fields)
    assert server.state is State.ENDING


def test_session_started_is_sent_once(
    server: ServerConversation, started_fields: dict[str, Any]
) -> None:
    with pytest.raises(ConversationError):
        server.number(SessionStarted, **started_fields)


def test_nothing_follows_session_ended(server: ServerConversation) -> None:
    server.number(SessionEnded, reason="idle", totals=totals(2))
    assert server.state is State.ENDED
    with pytest.raises(ConversationError, match=r"after session\.ended"):
        server.number(Heartbeat, audio_ms=0)
    with pytest.raises(ConversationError):
        server.refuse(ProtocolError(ErrorCode.INTERNAL, "It broke."), now_s=0)


def test_only_session_ended_follows_a_fatal_error(server: ServerConversation) -> None:
    assert server.refuse(ProtocolError(ErrorCode.IDLE_NO_AUDIO, "Silence."), now_s=0).fatal
    with pytest.raises(ConversationError, match="fatal"):
        server.number(Heartbeat, audio_ms=0)
    server.number(SessionEnded, reason="error", totals=totals(3))


def test_the_fifth_invalid_message_in_a_minute_ends_the_session(
    server: ServerConversation,
) -> None:
    error = ProtocolError(ErrorCode.MESSAGE_INVALID, "The message is not JSON.")
    codes = [server.refuse(error, now_s=now_s).code for now_s in (0, 10, 20, 30, 59)]
    assert codes == [ErrorCode.MESSAGE_INVALID] * 4 + [ErrorCode.TOO_MANY_ERRORS]


def test_invalid_messages_are_forgotten_after_a_minute(server: ServerConversation) -> None:
    for now_s in (0, 15, 30, 45, 60, 75, 90):
        server.invalid(now_s)
    with pytest.raises(ProtocolError) as caught:
        server.invalid(91)
    assert caught.value.code is ErrorCode.TOO_MANY_ERRORS


def test_refusals_of_sound_messages_do_not_add_up(server: ServerConversation) -> None:
    for code in (ErrorCode.TYPE_UNKNOWN, ErrorCode.TEXT_TOO_LONG, ErrorCode.ACK_INVALID) * 5:
        assert not server.refuse(ProtocolError(code, "No."), now_s=0).fatal


def test_a_wrong_start_ends_a_new_session_but_not_a_running_one(
    server: ServerConversation,
) -> None:
    wrong = ProtocolError(ErrorCode.CONFIG_INVALID, "No.", "audio", message_type="session.start")
    assert ServerConversation().refuse(wrong, now_s=0).fatal
    answer = server.refuse(wrong, now_s=0)
    assert (answer.code, answer.fatal) == (ErrorCode.ALREADY_STARTED, False)


def test_the_client_checks_what_it_sends(client: ClientConversation) -> None:
    for send in (client.start, lambda: client.send(SessionStart())):
        with pytest.raises(ConversationError, match="once"):
            send()
    client.send(TEXT)
    client.send_audio()
    client.send(Ack(sequence=0))
    with pytest.raises(ConversationError, match="ack of event 1"):
        client.send(Ack(sequence=1))
    client.send(SessionEnd())
    client.send(TEXT)
    for send in (client.send_audio, lambda: client.send(TURN), lambda: client.send(SessionEnd())):
        with pytest.raises(ConversationError, match="end"):
            send()


def test_the_client_starts_first() -> None:
    client = ClientConversation()
    for send in (client.send_audio, lambda: client.send(MARKER), lambda: client.send(TEXT)):
        with pytest.raises(ConversationError, match=r"before session\.start"):
            send()


def test_the_client_sees_a_gap_a_double_and_a_return(client: ClientConversation) -> None:
    client.receive(Heartbeat(sequence=1, audio_ms=0))
    for sequence in (3, 1, 0):
        with pytest.raises(ConversationError, match="where 2 was due"):
            client.receive(Heartbeat(sequence=sequence, audio_ms=0))
    client.receive(Heartbeat(sequence=2, audio_ms=0))


def test_the_client_counts_unknown_events(client: ClientConversation) -> None:
    client.receive(UnknownEvent(type="new", sequence=1))
    client.receive(Heartbeat(sequence=2, audio_ms=0))
    assert client.received == 3


def test_the_client_wants_session_started_first(started: SessionStarted) -> None:
    client = ClientConversation()
    with pytest.raises(ConversationError, match=r"without a session\.start"):
        client.receive(started)
    client.start()
    with pytest.raises(ConversationError, match=r"before session\.started"):
        client.receive(Heartbeat(sequence=0, audio_ms=0))
    fields = ProtocolError(ErrorCode.TYPE_UNKNOWN, "What?").fields()
    client.receive(Failed(sequence=0, **fields))
    client.receive(started.model_copy(update={"sequence": 1}))
    with pytest.raises(ConversationError, match="twice"):
        client.receive(started.model_copy(update={"sequence": 2}))


def test_the_client_wants_only_the_end_after_a_fatal_error(client: ClientConversation) -> None:
    client.receive(Failed(sequence=1, **ProtocolError(ErrorCode.INTERNAL, "It broke.").fields()))
    with pytest.raises(ConversationError, match="fatal"):
        client.receive(Heartbeat(sequence=2, audio_ms=0))
    client.receive(SessionEnded(sequence=2, reason="error", totals=totals(3)))
    assert client.state is State.ENDED


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        (totals(3), "3 events"),
        (totals(2, finals=1), "1 finals"),
        (totals(2, 0, 4), "4 revisions"),
        (totals(2, rejected=2), "2 rejected"),
    ],
)
def test_the_client_compares_the_totals(
    client: ClientConversation, said: dict[str, int], wrong: str
) -> None:
    with pytest.raises(ConversationError, match=wrong):
        client.receive(SessionEnded(sequence=1, reason="client", totals=said))


def test_nothing_comes_after_session_ended(client: ClientConversation) -> None:
    client.receive(SessionEnded(sequence=1, reason="client", totals=totals(2)))
    with pytest.raises(ConversationError, match=r"after session\.ended"):
        client.receive(Heartbeat(sequence=2, audio_ms=0))


def complete(events: list[Event]) -> bool:
    """Whether a client takes these events for a whole session."""
    client = ClientConversation()
    client.start()
    try:
        for event in events:
            client.receive(event)
    except ConversationError:
        return False
    return client.state is State.ENDED


def test_every_loss_double_and_swap_is_seen(started: SessionStarted) -> None:
    beats = [Heartbeat(sequence=n, audio_ms=0) for n in range(1, 5)]
    session = [started, *beats, SessionEnded(sequence=5, reason="client", totals=totals(6))]
    assert complete(session)
    for place in range(6):
        assert not complete(session[:place] + session[place + 1 :])
        assert not complete(session[: place + 1] + session[place:])
    for first, second in itertools.combinations(range(6), 2):
        swapped = list(session)
        swapped[first], swapped[second] = session[second], session[first]
        assert not complete(swapped)
