"""Pace, stop and failure of one dialogue through a session, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from scripted_server import Scripted, final_fields, scripted

from emotrace_clients import ConnectionLost, MicrophoneError, SessionFailed, SourceError, connect
from emotrace_clients.errors import EmotraceError
from emotrace_clients.streaming import converse, hurried, paced, until
from emotrace_clients.turns import Turn, TurnMatcher
from emotrace_protocol import ErrorCode, Event, ProtocolError
from emotrace_protocol.events import EmotionFinal, Failed, SpeechEnded
from emotrace_protocol.messages import SessionEnd, UtteranceText

BLOCK = bytes(1_280)


class VirtualTime:
    """A clock that only sleeping, or `busy`, moves on."""

    def __init__(self, busy: float = 0.0) -> None:
        self.now = 100.0
        self.busy = busy

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.now += seconds + self.busy


async def test_a_block_goes_when_its_sound_would_be_over() -> None:
    time = VirtualTime()
    sent = [time.now - 100 async for _ in paced([BLOCK] * 4, 40, time.clock, time.sleep)]
    assert sent == pytest.approx([0.04, 0.08, 0.12, 0.16])


async def test_lateness_does_not_add_up() -> None:
    time = VirtualTime(busy=0.03)
    sent = [time.now - 100 async for _ in paced([BLOCK] * 100, 40, time.clock, time.sleep)]
    assert sent[-1] == pytest.approx(4.0, abs=0.04)


async def endless() -> AsyncIterator[bytes]:
    while True:
        await asyncio.sleep(0)
        yield BLOCK


async def test_a_stop_ends_endless_blocks() -> None:
    stop = asyncio.Event()
    count = 0
    async for _ in until(endless(), stop):
        count += 1
        if count == 10:
            stop.set()
    assert count == 10


async def test_a_stop_does_not_wait_for_the_next_block() -> None:
    async def never() -> AsyncIterator[bytes]:
        yield BLOCK
        await asyncio.Event().wait()

    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(0.05, stop.set)
    async with asyncio.timeout(5):
        assert [block async for block in until(never(), stop)] == [BLOCK]


async def test_blocks_that_end_need_no_stop() -> None:
    assert [b async for b in until(hurried([b"a", b"b"]), asyncio.Event())] == [b"a", b"b"]


async def test_a_dialogue_is_sent_answered_with_words_and_ended() -> None:
    async def script(server: Scripted) -> None:
        await server.start()
        await server.hear()
        await server.say(
            SpeechEnded, utterance=0, speaker="A", start_ms=0, end_ms=900, reason="silence"
        )
        await server.serve_until_end()
        assert UtteranceText(text="hello", utterance=0) in server.messages

    shown: list[Event] = []
    words = TurnMatcher([Turn(speaker="A", start_ms=0, end_ms=1_000, text="hello")])
    async with scripted(script) as url, connect(url, transcription="client") as session:
        gate = asyncio.Event()

        def show(event: Event) -> None:
            shown.append(event)
            if event.type == "speech.ended":
                asyncio.get_running_loop().call_soon(gate.set)

        async def blocks() -> AsyncIterator[bytes]:
            yield BLOCK
            await gate.wait()
            await asyncio.sleep(0)
            yield BLOCK

        await converse(session, blocks(), show, words)
        assert session.totals is not None
        assert session.totals.audio_bytes == 2 * len(BLOCK)
    assert [event.type for event in shown] == ["session.started", "speech.ended", "session.ended"]


async def test_no_words_are_sent_to_a_server_that_cannot_use_them() -> None:
    async def script(server: Scripted) -> None:
        await server.start()  # lexical is not live with transcription off
        await server.say(
            SpeechEnded, utterance=0, speaker="A", start_ms=0, end_ms=900, reason="silence"
        )
        await server.serve_until_end()
        assert not any(isinstance(message, UtteranceText) for message in server.messages)

    words = TurnMatcher([Turn(speaker="A", start_ms=0, end_ms=1_000, text="hello")])
    async with scripted(script) as url, connect(url, transcription="off") as session:
        await converse(session, hurried([BLOCK]), lambda event: None, words)


@pytest.mark.parametrize("kind", [SourceError, MicrophoneError])
async def test_a_source_that_fails_ends_the_session_and_then_says_so(
    kind: type[EmotraceError],
) -> None:
    async def script(server: Scripted) -> None:
        await server.start()
        await server.hear()
        assert isinstance(await server.hear(), SessionEnd)
        await server.say(EmotionFinal, **final_fields())
        await server.end()

    async def broken() -> AsyncIterator[bytes]:
        yield BLOCK
        raise kind("it is damaged")

    shown: list[str] = []
    async with asyncio.timeout(5), scripted(script) as url, connect(url) as session:
        with pytest.raises(kind, match="damaged"):
            await converse(session, broken(), lambda event: shown.append(event.type))
    assert shown == ["session.started", "emotion.final", "session.ended"]


async def test_any_other_fault_of_a_source_ends_all_at_once() -> None:
    async def silent(server: Scripted) -> None:
        await server.start()
        await server.socket.wait_closed()

    async def broken() -> AsyncIterator[bytes]:
        yield BLOCK
        raise RuntimeError("a bug")

    async with asyncio.timeout(5), scripted(silent) as url, connect(url) as session:
        with pytest.raises(RuntimeError, match="a bug"):
            await converse(session, broken(), lambda event: None)


async def test_a_session_that_fails_ends_endless_sound_and_shows_why() -> None:
    async def script(server: Scripted) -> None:
        await server.start()
        await server.say(Failed, **ProtocolError(ErrorCode.RATE_LIMITED, "Too fast.").fields())
        await server.socket.close(4429)

    shown: list[str] = []
    async with asyncio.timeout(5), scripted(script) as url, connect(url) as session:
        with pytest.raises(SessionFailed, match="Too fast"):
            await converse(session, endless(), lambda event: shown.append(event.type))
    assert shown == ["session.started", "error"]


async def test_a_server_that_vanishes_ends_endless_sound() -> None:
    async def script(server: Scripted) -> None:
        await server.start()
        server.socket.transport.abort()

    async with asyncio.timeout(5), scripted(script) as url, connect(url) as session:
        with pytest.raises(ConnectionLost):
            await converse(session, endless(), lambda event: None)
