"""Breaks of the connection: what the reader sees, what is said again, and what is said where the
session cannot go on."""

from __future__ import annotations

import asyncio

import pytest
from resuming_server import SECOND, KeptSession, on_to_the_end, read, resuming
from scripted_server import final_fields

from emotrace_clients import (
    ConnectionChange,
    ConnectionLost,
    ProtocolBroken,
    SessionFailed,
    connect,
)
from emotrace_clients import line as line_module
from emotrace_protocol import ErrorCode, ProtocolError, encode
from emotrace_protocol.events import EmotionFinal, Failed, MarkerReached
from emotrace_protocol.messages import Marker, SessionEnd, UtteranceText


async def test_a_break_loses_no_message_and_no_event() -> None:
    async def first(kept: KeptSession) -> None:
        await kept.begin()
        await kept.echo(3)
        await kept.say(EmotionFinal, **final_fields())
        await kept.say(EmotionFinal, **final_fields(1), lose=True)
        kept.cut()

    changes: list[ConnectionChange] = []
    kept = KeptSession()
    async with (
        resuming(kept, [first, on_to_the_end]) as url,
        connect(url, on_connection=changes.append) as session,
    ):
        reading = asyncio.create_task(read(session))
        await session.send_audio(3 * SECOND)
        await session.send_text("hello", speaker="Bot")
        await session.end()
        events = await reading
    assert [event.type for event in events] == [
        "session.started",
        "emotion.final",
        "emotion.final",
        "session.resumed",
        "session.ended",
    ]
    assert kept.audio == 3 * SECOND
    assert kept.heard[-2:] == [UtteranceText(text="hello", speaker="Bot"), SessionEnd()]
    assert [change.up for change in changes] == [False, True]
    assert "without a close frame" in changes[0].message
    assert "nothing was lost" in changes[1].message


async def test_what_the_server_has_not_is_said_again_and_nothing_else() -> None:
    """The server keeps less than it heard: it says from which message on it misses."""

    async def first(kept: KeptSession) -> None:
        await kept.begin()
        await kept.echo(5)
        await kept.acknowledge()
        await kept.echo(2)
        kept.cut()

    async def second(kept: KeptSession) -> None:
        await kept.begin()
        with pytest.raises(TimeoutError):  # not a word before session.resumed
            await asyncio.wait_for(kept.hear(), 0.1)
        del kept.heard[6:]
        await kept.resume()
        await kept.serve_until_end()

    kept = KeptSession()
    async with resuming(kept, [first, second]) as url, connect(url) as session:
        reading = asyncio.create_task(read(session))
        await session.send_audio(3 * SECOND)
        await session.end()
        await reading
    assert kept.audio == 3 * SECOND
    assert kept.resumes[0].sequence == 2 + sum(isinstance(one, Marker) for one in kept.heard[:7])


async def test_a_marker_waits_over_a_break() -> None:
    async def first(kept: KeptSession) -> None:
        await kept.begin()
        await kept.hear()
        await kept.say(MarkerReached, id="m", audio_ms=0, lose=True)
        kept.cut()

    async with resuming(KeptSession(), [first, on_to_the_end]) as url, connect(url) as session:
        assert (await session.marker("m")).id == "m"
        await session.end()
        assert [event.type for event in await read(session)] == [
            "session.started",
            "marker.reached",
            "session.resumed",
            "session.ended",
        ]


async def test_a_break_after_the_end_still_brings_the_rest() -> None:
    async def first(kept: KeptSession) -> None:
        await kept.begin()
        assert isinstance(await kept.hear(), SessionEnd)
        kept.cut()

    async def second(kept: KeptSession) -> None:
        await kept.begin()
        await kept.resume()
        await kept.say(EmotionFinal, **final_fields())
        await kept.end()

    async with resuming(KeptSession(), [first, second]) as url, connect(url) as session:
        await session.end()
        types = [event.type for event in await read(session)]
    assert types == ["session.started", "session.resumed", "emotion.final", "session.ended"]


async def test_a_server_that_breaks_off_is_asked_again_when_it_wishes() -> None:
    error = ProtocolError(ErrorCode.SLOW_CONSUMER, "Too slow.", retry_after_ms=300)
    times: list[float] = []

    async def first(kept: KeptSession) -> None:
        await kept.begin()
        await kept.say(Failed, **error.fields())
        times.append(asyncio.get_running_loop().time())
        await kept.socket.close(4480)

    async def second(kept: KeptSession) -> None:
        times.append(asyncio.get_running_loop().time())
        await on_to_the_end(kept)

    changes: list[ConnectionChange] = []
    async with (
        resuming(KeptSession(), [first, second]) as url,
        connect(url, on_connection=changes.append) as session,
    ):
        await asyncio.sleep(0)
        await session.end()
        types = [event.type for event in await read(session)]
    assert types == ["session.started", "error", "session.resumed", "session.ended"]
    assert times[1] - times[0] >= 0.3
    assert "Too slow" in changes[0].message


async def test_a_server_that_is_full_is_asked_again() -> None:
    error = ProtocolError(ErrorCode.CAPACITY, "Full.", retry_after_ms=10)

    async def first(kept: KeptSession) -> None:
        await kept.begin()
        kept.cut()

    async def full(kept: KeptSession) -> None:
        await kept.refuse(error)

    async def fourth(kept: KeptSession) -> None:
        kept.connections = 2  # no token was given since
        await on_to_the_end(kept)

    async with (
        resuming(KeptSession(), [first, full, full, fourth]) as url,
        connect(url) as session,
    ):
        await session.end()
        types = [event.type for event in await read(session)]
    assert types == ["session.started", "session.resumed", "session.ended"]


@pytest.mark.parametrize(
    "error",
    [
        ProtocolError(ErrorCode.SESSION_UNKNOWN, "There is no such session."),
        ProtocolError(ErrorCode.RESUME_EXPIRED, "The session was kept for 60 s."),
    ],
)
async def test_a_session_that_cannot_go_on_says_what_is_missing(error: ProtocolError) -> None:
    async def first(kept: KeptSession) -> None:
        await kept.begin()
        await kept.echo(2)
        await kept.acknowledge()
        await kept.say(EmotionFinal, **final_fields())
        kept.cut()

    async def second(kept: KeptSession) -> None:
        await kept.refuse(error)

    kept = KeptSession()
    async with resuming(kept, [first, second]) as url, connect(url) as session:
        await session.send_audio(SECOND[:8_000])  # 250 ms, and a marker after it
        with pytest.raises(ConnectionLost, match="cannot be resumed") as lost:
            await read(session)
        with pytest.raises(ConnectionLost):
            await session.send_audio(SECOND)
    assert error.cause in str(lost.value)
    assert "4 events came; the sound from 0.2 s on was not acknowledged" in str(lost.value)
    assert (lost.value.events, lost.value.audio_ms) == (4, 250)


async def test_no_server_within_the_window_is_a_lost_connection() -> None:
    async def first(kept: KeptSession) -> None:
        await kept.begin()
        kept.cut()

    async def refusing(kept: KeptSession) -> None:
        kept.cut()

    kept = KeptSession(window_ms=400)
    async with resuming(kept, [first, *[refusing] * 99]) as url, connect(url) as session:
        with pytest.raises(ConnectionLost, match=r"none came in its place within 0\.4 s"):
            await read(session)
    assert kept.connections >= 2


async def test_where_no_resuming_is_wished_the_connection_is_lost_at_once() -> None:
    async def first(kept: KeptSession) -> None:
        await kept.begin()
        kept.cut()

    kept = KeptSession()
    kept._info["window_ms"] = 0
    changes: list[ConnectionChange] = []
    async with (
        resuming(kept, [first]) as url,
        connect(url, on_connection=changes.append) as session,
    ):
        with pytest.raises(ConnectionLost):
            await read(session)
    assert kept.connections == 1


async def test_leaving_while_there_is_no_connection_does_not_wait() -> None:
    async def first(kept: KeptSession) -> None:
        await kept.begin()
        kept.cut()

    async def never(kept: KeptSession) -> None:
        await kept.socket.wait_closed()

    broke = asyncio.Event()
    async with (
        asyncio.timeout(5),
        resuming(KeptSession(), [first, *[never] * 9]) as url,
        connect(url, on_connection=lambda change: broke.set()),
    ):
        await broke.wait()


async def test_a_session_that_another_connection_took_is_over() -> None:
    async def first(kept: KeptSession) -> None:
        await kept.begin()
        error = ProtocolError(ErrorCode.TAKEN_OVER, "The session goes on elsewhere.")
        await kept.socket.send(encode(Failed(sequence=7, **error.fields())))
        await kept.socket.close(4409)

    async with resuming(KeptSession(), [first]) as url, connect(url) as session:
        with pytest.raises(SessionFailed, match="goes on elsewhere"):
            await read(session)


@pytest.mark.parametrize(
    ("messages", "told"),
    [(9, "tells of 9 messages"), (0, "asks again for message 0, and had 1 already")],
)
async def test_a_server_that_asks_for_what_is_gone_is_found_out(messages: int, told: str) -> None:
    async def first(kept: KeptSession) -> None:
        await kept.begin()
        await kept.hear()
        await kept.acknowledge()
        await kept.hear()
        kept.cut()

    async def second(kept: KeptSession) -> None:
        await kept.begin()
        await kept.resume(messages)
        await kept.socket.wait_closed()

    async with resuming(KeptSession(), [first, second]) as url, connect(url) as session:
        await session.send_text("one", speaker="A")
        await session.send_text("two", speaker="A")
        with pytest.raises(ProtocolBroken, match=told):
            await read(session)


async def test_a_server_that_does_not_answer_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(line_module, "ANSWER_TIMEOUT_S", 0.05)

    async def first(kept: KeptSession) -> None:
        await kept.begin()
        kept.cut()

    async def deaf(kept: KeptSession) -> None:
        await kept.socket.wait_closed()

    async def third(kept: KeptSession) -> None:
        kept.connections = 2
        await on_to_the_end(kept)

    async with (
        asyncio.timeout(10),
        resuming(KeptSession(), [first, deaf, third]) as url,
        connect(url) as session,
    ):
        await session.end()
        types = [event.type for event in await read(session)]
    assert types == ["session.started", "session.resumed", "session.ended"]
