"""Listener: a session beside an agent, which it never holds up. The server plays a script."""

from __future__ import annotations

import asyncio
import logging

import pytest
from eventually import eventually
from listening import NOWHERE, PATIENT_MS, PIECE, end, judge, listening, read, speak
from pydantic import ValidationError
from scripted_server import Scripted, scripted, started

from emotrace_clients.integrations.listener import MAX_REPLY, MAX_WAITING_MS, Listener
from emotrace_protocol.events import Failed, SessionStarted
from emotrace_protocol.messages import Marker, SessionStart, UtteranceText

logger = "emotrace.listener"


async def test_words_and_replies_reach_the_dialogue() -> None:
    texts: list[UtteranceText] = []
    done = asyncio.Event()

    async def script(server: Scripted) -> None:
        await server.start()
        await speak(server, 0)
        await end(server, 0)
        while True:
            if isinstance(message := await server.hear(), UtteranceText):
                texts.append(message)
                done.set()

    async with scripted(script) as url, listening(url) as listener:
        listener.hear(PIECE, 16_000)
        await eventually(lambda: listener.user_turn.unjudged)
        listener.hear_words("I am late.")
        await done.wait()
        done.clear()
        listener.reply("ﬃ" * 9_000)
        await done.wait()
    assert [(one.text, one.utterance, one.speaker) for one in texts] == [
        ("I am late.", 0, None),
        ("ﬃ" * MAX_REPLY, None, "Agent"),
    ]


async def test_several_channels_become_one() -> None:
    heard: list[bytes] = []

    async def script(server: Scripted) -> None:
        await server.start()
        while True:
            if isinstance(message := await server.hear(), bytes):
                heard.append(message)

    async with scripted(script) as url, listening(url) as listener:
        listener.hear(b"\x00\x01\x00\x03" * 10, 16_000, channels=2)
        await eventually(lambda: heard)
    assert heard == [b"\x00\x02" * 10]


async def test_unreachable_is_one_warning_and_the_turn_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, logger)
    async with listening(NOWHERE, timeout_ms=PATIENT_MS) as listener:
        listener.hear(PIECE, 16_000)
        await eventually(lambda: len(caplog.records) >= 3)
        listener.hear_words("Well.")
        assert await listener.turn() is None
    warnings = [one for one in caplog.records if one.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert "No server answers" in warnings[0].getMessage()
    assert "goes on without emotion" in warnings[0].getMessage()


async def test_sound_that_cannot_be_sent_does_not_pile_up() -> None:
    async with listening(NOWHERE) as listener:
        for _ in range(1_000):
            listener.hear(PIECE, 16_000)
        assert sum(map(len, listener._sound)) == MAX_WAITING_MS * 32
        assert listener._sound_bytes == MAX_WAITING_MS * 32


async def test_a_session_that_is_lost_is_followed_by_another(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger)
    connections = 0

    async def script(server: Scripted) -> None:
        nonlocal connections
        connections += 1
        await server.start()
        if connections == 1:
            await speak(server, 0)
            await judge(server, 0)
            await server.hear()
            return  # and the connection breaks
        await read(server)

    async with scripted(script) as url, listening(url, timeout_ms=PATIENT_MS) as listener:
        listener.hear(PIECE, 16_000)
        await eventually(lambda: connections == 1 and not listener.connected)
        while connections < 2:
            listener.hear(PIECE, 16_000)
            await asyncio.sleep(0.001)
        await eventually(lambda: listener.connected)
        assert listener.tracker.state().speakers == ()
    told = [(one.levelname, one.getMessage().split(";")[0][:20]) for one in caplog.records]
    assert [level for level, _ in told] == ["INFO", "WARNING", "INFO"]


async def test_what_can_never_work_is_not_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    connections = 0

    async def script(server: Scripted) -> None:
        nonlocal connections
        connections += 1
        await server.hear()
        await server.say(
            Failed,
            code="bundle_unknown",
            message="There is no bundle 'x'.",
            fatal=True,
            retryable=False,
            resume=False,
        )

    async with scripted(script) as url, listening(url, bundle="x") as listener:
        listener.hear(PIECE, 16_000)
        await eventually(lambda: listener._task is not None and listener._task.done())
        listener.hear(PIECE, 16_000)
        assert await listener.turn() is None
    assert connections == 1
    assert "There is no bundle 'x'." in caplog.text


async def test_a_session_that_ends_for_silence_is_no_fault(
    caplog: pytest.LogCaptureFixture,
) -> None:
    connections = 0

    async def script(server: Scripted) -> None:
        nonlocal connections
        connections += 1
        await server.start()
        await server.hear()
        if connections == 1:
            await server.say(
                Failed,
                code="idle_no_audio",
                message="No audio came.",
                fatal=True,
                retryable=True,
                resume=False,
            )
            return
        await read(server)

    async with scripted(script) as url, listening(url) as listener:
        listener.hear(PIECE, 16_000)
        await eventually(
            lambda: connections == 1 and not listener.connected and not listener._sound
        )
        assert connections == 1  # nobody speaks: nothing is opened
        listener.hear(PIECE, 16_000)
        await eventually(lambda: connections == 2)
    assert [one for one in caplog.records if one.levelno >= logging.WARNING] == []


async def test_sound_of_a_strange_rate_is_left_out_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with listening(NOWHERE) as listener:
        listener.hear(PIECE, 11_025)
        listener.hear(PIECE, 11_025)
        assert listener._task is None
    assert caplog.text.count("11025 Hz") == 1
    assert "16000" in caplog.text


async def test_it_can_be_closed_and_begun_again() -> None:
    starts: list[SessionStart] = []

    async def script(server: Scripted) -> None:
        start = await server.hear()
        assert isinstance(start, SessionStart)
        starts.append(start)
        await server.say(SessionStarted, **started(start))
        await read(server)

    async with scripted(script) as url, listening(url) as listener:
        for rate in (16_000, 48_000):
            listener.hear(PIECE, rate)
            await eventually(lambda: listener.connected)
            await listener.close()
            await listener.close()
            assert await listener.turn() is None
    assert [start.audio.sample_rate for start in starts] == [16_000, 48_000]


async def test_markers_of_the_flow_are_not_words() -> None:
    kinds: set[str] = set()

    async def script(server: Scripted) -> None:
        await server.start()
        while True:
            message = await server.hear()
            kinds.add("audio" if isinstance(message, bytes) else message.type)
            if isinstance(message, Marker):
                return

    async with scripted(script) as url, listening(url) as listener:
        for _ in range(50):
            listener.hear(PIECE, 16_000)
        await eventually(lambda: "marker" in kinds)
    assert kinds == {"audio", "marker"}


def test_settings_that_no_server_takes_are_refused_at_once() -> None:
    with pytest.raises(ValidationError):
        Listener(language="not a language")
    with pytest.raises(ValidationError):
        Listener(user="")
    with pytest.raises(ValidationError):
        Listener(agent="\n")
    with pytest.raises(ValueError, match="both 'Ann'"):
        Listener(user="Ann", agent="Ann")
