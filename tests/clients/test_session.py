"""The asynchronous client against a server that keeps to the protocol, and one that does not."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest
from pydantic import ValidationError
from scripted_server import AUDIO_QUEUE_MS, Scripted, final_fields, scripted

from emotrace_clients import (
    ConnectionLost,
    EventsUnread,
    ProtocolBroken,
    Session,
    SessionFailed,
    connect,
)
from emotrace_protocol import ConversationError, ErrorCode, ProtocolError
from emotrace_protocol.events import (
    EmotionFinal,
    Event,
    Failed,
    Heartbeat,
    MarkerReached,
    SpeechEnded,
    SpeechRejected,
    SpeechStarted,
)
from emotrace_protocol.messages import (
    Ack,
    AudioFormat,
    Image,
    Marker,
    SessionEnd,
    SessionStart,
    UtteranceText,
)

SECOND = bytes(32_000)
CLICK = {"utterance": 0, "speaker": "A", "start_ms": 100}


async def polite(server: Scripted) -> None:
    await server.start()
    await server.serve_until_end()


async def test_a_session_from_start_to_totals() -> None:
    heard: list[object] = []

    async def script(server: Scripted) -> None:
        heard.append(await server.start())
        heard.append(await server.hear())
        await server.say(EmotionFinal, **final_fields(speaker="Ann"))
        await server.serve_until_end()
        heard.extend(server.messages[1:])

    async with (
        scripted(script) as url,
        connect(url, audio=48_000, speakers=("Ann", "Ben"), transcription="client") as session,
    ):
        assert session.started.speakers == ("Ann", "Ben")
        await session.send_audio(np.array([[1, -2], [3, -4]], dtype=np.int16))
        await session.send_text("hello", utterance=0)
        await session.send_image(b"\xff\xd8\xff", speaker="Ann")
        await session.ack(0)
        await session.end()
        events = [event async for event in session]
    assert heard == [
        SessionStart(
            audio=AudioFormat(sample_rate=48_000, channels=2),
            speakers=("Ann", "Ben"),
            transcription="client",
            resume=True,
        ),
        np.array([1, -2, 3, -4], dtype="<i2").tobytes(),
        UtteranceText(text="hello", utterance=0),
        Image(speaker="Ann", jpeg="/9j/"),
        Ack(sequence=0),
        SessionEnd(),
    ]
    assert [event.type for event in events] == ["session.started", "emotion.final", "session.ended"]
    assert session.totals is not None
    assert session.totals.audio_bytes == 8


@pytest.mark.parametrize(
    ("labels", "asked"),
    [(None, None), ("common4", "common4"), (["anger", "neutral"], ("anger", "neutral"))],
)
async def test_a_label_set_is_asked_for_by_scheme_or_names(
    labels: list[str] | str | None, asked: tuple[str, ...] | str | None
) -> None:
    heard: list[SessionStart] = []

    async def script(server: Scripted) -> None:
        heard.append(await server.start())
        await server.serve_until_end()

    async with scripted(script) as url, connect(url, labels=labels) as session:
        await session.end()
        assert [event.type async for event in session] == ["session.started", "session.ended"]
    assert heard == [SessionStart(labels=asked, resume=True)]


async def test_a_rejected_utterance_counts_and_a_lost_one_is_noticed() -> None:
    lost = False

    async def script(server: Scripted) -> None:
        await server.start()
        await server.say(SpeechStarted, **CLICK)
        await server.say(SpeechEnded, **CLICK, end_ms=400, reason="silence")
        await server.say(SpeechRejected, **CLICK, end_ms=400, reason="noise")
        while not isinstance(await server.hear(), SessionEnd):
            pass
        await server.end(**({"rejected": 2} if lost else {}))

    async with scripted(script) as url:
        async with connect(url) as session:
            await session.end()
            events = [event async for event in session]
        assert events[3].type == "speech.rejected"
        assert session.totals is not None
        assert session.totals.rejected == 1
        lost = True
        async with connect(url) as session:
            await session.end()
            with pytest.raises(ProtocolBroken, match="2 rejected utterances and 1 came"):
                async for _ in session:
                    pass


async def test_a_marker_waits_for_its_echo_and_is_an_event_too() -> None:
    async with scripted(polite) as url, connect(url) as session:
        reached = await session.marker("half-way")
        await session.end()
        events = [event async for event in session]
    assert reached.id == "half-way"
    assert reached in events


async def test_a_marker_in_use_is_refused() -> None:
    async def script(server: Scripted) -> None:
        await server.start()
        await server.hear()
        await server.socket.wait_closed()

    async with scripted(script) as url, connect(url) as session:
        waiting = asyncio.create_task(session.marker("m"))
        await asyncio.sleep(0)
        for name in ("m", "flow-1"):
            with pytest.raises(ValueError, match="in use"):
                await session.marker(name)
        waiting.cancel()


async def test_a_long_recording_never_outruns_the_server() -> None:
    most_ms = 0

    async def script(server: Scripted) -> None:
        nonlocal most_ms
        await server.start()
        processed = 0
        pending: list[tuple[str, int]] = []
        while True:
            try:  # answer markers only when nothing more comes: as late as can be
                message = await asyncio.wait_for(server.hear(), 0.05)
            except TimeoutError:
                if pending:
                    marker, processed = pending.pop(0)
                    await server.say(MarkerReached, id=marker, audio_ms=0)
                continue
            most_ms = max(most_ms, (server.audio_bytes - processed) // 32)
            if isinstance(message, Marker):
                pending.append((message.id, server.audio_bytes))
            elif isinstance(message, SessionEnd):
                await server.end()
                return

    async with scripted(script) as url, connect(url) as session:
        await session.send_audio(10 * SECOND)
        await session.end()
        events = [event async for event in session]
    assert session.totals is not None
    assert session.totals.audio_bytes == 10 * len(SECOND)
    assert AUDIO_QUEUE_MS / 6 < most_ms <= AUDIO_QUEUE_MS / 3
    assert [event.type for event in events] == ["session.started", "session.ended"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"type":"heartbeat","sequence":2,"audio_ms":0}', "where 1 was due"),
        ('{"type":"heartbeat","sequence":0,"audio_ms":0}', "where 1 was due"),
        ('{"type":"heartbeat","sequence":1}', "audio_ms"),
        ("hello", "not JSON"),
        (b"\x00\x01", "binary"),
    ],
)
async def test_a_server_that_breaks_the_protocol_is_found_out(text: str, told: str) -> None:
    async def script(server: Scripted) -> None:
        await server.start()
        await server.socket.send(text)
        await server.socket.wait_closed()

    async with scripted(script) as url, connect(url) as session:
        with pytest.raises(ProtocolBroken, match=told):
            await _read(session)
        with pytest.raises(ProtocolBroken, match=told):
            await session.send_audio(SECOND)


async def test_totals_that_differ_from_what_came_are_found_out() -> None:
    async def script(server: Scripted) -> None:
        await server.start()
        await server.end(finals=3)

    async with scripted(script) as url, connect(url) as session:
        with pytest.raises(ProtocolBroken, match="sent 3 finals and 0 came"):
            await _read(session)


async def test_events_of_a_newer_server_are_counted_and_skipped() -> None:
    async def script(server: Scripted) -> None:
        await server.start()
        await server.socket.send(json.dumps({"type": "weather", "sequence": 1, "rain": True}))
        server.conversation.sent += 1
        await server.serve_until_end()

    async with scripted(script) as url, connect(url) as session:
        await session.end()
        assert [event.type async for event in session] == ["session.started", "session.ended"]


async def test_a_fatal_error_is_an_event_and_then_an_exception_with_the_cure() -> None:
    error = ProtocolError(ErrorCode.RATE_LIMITED, "Too fast.")

    async def script(server: Scripted) -> None:
        await server.start()
        await server.say(EmotionFinal, **final_fields())
        await server.say(Failed, **error.fields())
        await server.socket.close(4429)

    seen: list[str] = []

    async def read(session: Session) -> None:
        async for event in session:
            seen.append(event.type)  # noqa: PERF401  # a comprehension would lose what came first

    async with scripted(script) as url, connect(url) as session:
        with pytest.raises(SessionFailed, match=r"Too fast\. Send audio at the pace") as failure:
            await read(session)
        with pytest.raises(SessionFailed):
            await session.send_audio(SECOND)
    assert seen == ["session.started", "emotion.final", "error"]
    assert failure.value.event.code == "rate_limited"


async def test_an_error_that_is_not_fatal_is_an_event_and_no_more() -> None:
    async def script(server: Scripted) -> None:
        await server.start()
        await server.say(Failed, **ProtocolError(ErrorCode.INFERENCE_FAILED, "Sorry.").fields())
        await server.serve_until_end()

    async with scripted(script) as url, connect(url) as session:
        await session.end()
        types = [event.type async for event in session]
    assert types == ["session.started", "error", "session.ended"]


async def test_a_refused_start_is_an_exception_of_connect() -> None:
    async def script(server: Scripted) -> None:
        await server.hear()
        error = ProtocolError(ErrorCode.LABELS_MISMATCH, "The bundle's labels are a, b.", "labels")
        await server.say(Failed, **error.fields())
        await server.socket.close(4422)

    async with scripted(script) as url:
        with pytest.raises(SessionFailed, match="label set of the bundle"):
            async with connect(url, labels=("joy",)):
                pass


async def test_settings_that_no_server_takes_are_refused_before_connecting() -> None:
    with pytest.raises(ValidationError, match="sample rate is one of"):
        async with connect("ws://127.0.0.1:9/", audio=11_025):
            pass


@pytest.mark.parametrize("code", [1011, None])
async def test_a_lost_connection_is_told_to_readers_and_senders(code: int | None) -> None:
    async def script(server: Scripted) -> None:
        await server.start()
        await server.hear()
        if code is None:
            server.socket.transport.abort()
        else:
            await server.socket.close(code)

    async with scripted(script) as url, connect(url) as session:
        with pytest.raises(ConnectionLost, match=str(code) if code else "without a close frame"):
            await session.marker("never")
        with pytest.raises(ConnectionLost):
            await _read(session)
        with pytest.raises(ConnectionLost):
            await session.send_audio(SECOND)


async def test_a_server_that_hangs_up_before_it_answers_is_a_lost_connection() -> None:
    async def script(server: Scripted) -> None:
        await server.hear()

    async with scripted(script) as url:
        with pytest.raises(ConnectionLost, match=r"before session\.ended"):
            async with connect(url):
                pass


async def test_sending_after_the_end_is_a_fault_of_the_caller() -> None:
    async with scripted(polite) as url, connect(url) as session:
        await session.end()
        with pytest.raises(ConversationError, match="after the session's end"):
            await session.send_audio(SECOND)


async def talkative(server: Scripted) -> None:
    await server.start()
    for at in range(50):
        await server.say(Heartbeat, audio_ms=at)
    await server.serve_until_end()


async def test_unread_events_beyond_the_buffer_are_an_error_and_no_deadlock() -> None:
    async with scripted(talkative) as url, connect(url, event_buffer=4) as session:
        with pytest.raises(EventsUnread, match="4 events wait"):
            await session.marker("m")
        with pytest.raises(EventsUnread, match="larger event_buffer"):
            await session.send_audio(SECOND)


async def test_a_small_buffer_holds_the_server_back_and_loses_nothing() -> None:
    async with scripted(talkative) as url, connect(url, event_buffer=2) as session:
        reader = asyncio.create_task(_read(session))
        for _ in range(20):
            await session.send_audio(SECOND)
        await session.end()
        beats = [event.audio_ms for event in await reader if isinstance(event, Heartbeat)]
    assert beats == list(range(50))


async def _read(session: Session) -> list[Event]:
    return [event async for event in session]


async def test_leaving_early_does_not_wait_for_a_full_buffer() -> None:
    async with asyncio.timeout(5):
        async with scripted(talkative) as url, connect(url, event_buffer=1) as session:
            assert session.started.labels == ("anger", "happiness")
