"""The JavaScript package where its connection breaks, message by message."""

from __future__ import annotations

from pathlib import Path

import pytest
from javascript import play
from resuming_server import KeptSession, Part, on_to_the_end, resuming
from scripted_server import Scripted, scripted

from emotrace_protocol import ErrorCode, ProtocolError
from emotrace_protocol.events import Failed, Heartbeat
from emotrace_protocol.messages import SessionEnd, UtteranceText


async def first_part(kept: KeptSession) -> None:
    """Hears five messages, of which the last two are lost with the connection."""
    await kept.begin()
    for _ in range(2):
        await kept.hear()
    await kept.acknowledge()
    for _ in range(3):
        await kept.hear()
    await kept.say(Heartbeat, audio_ms=0)
    await kept.say(Heartbeat, audio_ms=1, lose=True)
    del kept.heard[3:]
    kept.cut()


async def test_what_was_lost_is_said_again_and_nothing_else(tmp_path: Path) -> None:
    kept = KeptSession()
    async with resuming(kept, [first_part, on_to_the_end]) as url:
        task = {
            "play": "a broken connection",
            "url": url,
            "states": ["open", "lost", "reconnecting", "resumed"],
            "expected": [
                [0, "session.started"],
                [2, "heartbeat"],
                [3, "heartbeat"],
                [5, "session.ended"],
            ],
        }
        await play(task, tmp_path)
    blocks = [bytes([number]) * 64 for number in range(5)]
    words = UtteranceText(text="Words.", utterance=0)
    assert kept.heard == [*blocks[:4], words, blocks[4], SessionEnd()]
    assert [one.sequence for one in kept.resumes] == [3]


async def test_a_server_that_goes_away_is_come_back_to(tmp_path: Path) -> None:
    async def going(kept: KeptSession) -> None:
        await kept.begin()
        for _ in range(5):
            await kept.hear()
        error = ProtocolError(ErrorCode.GOING_AWAY, "The server is stopping.", retry_after_ms=50)
        await kept.say(Failed, **{**error.fields(), "resume": True})
        await kept.socket.close(1012)

    kept = KeptSession()
    async with resuming(kept, [going, on_to_the_end]) as url:
        task = {
            "play": "a broken connection",
            "url": url,
            "states": ["open", "lost", "reconnecting", "resumed"],
            "expected": [[0, "session.started"], [1, "error"], [3, "session.ended"]],
        }
        await play(task, tmp_path)
    assert len(kept.heard) == 7


@pytest.mark.parametrize("code", [ErrorCode.SESSION_UNKNOWN, ErrorCode.RESUME_EXPIRED])
async def test_a_refused_resume_says_what_was_lost(code: ErrorCode, tmp_path: Path) -> None:
    async def first(kept: KeptSession) -> None:
        await kept.begin()
        await kept.hear()
        kept.cut()

    async def second(kept: KeptSession) -> None:
        await kept.refuse(ProtocolError(code, "That session is gone."))

    parts: list[Part] = [first, second]
    async with resuming(KeptSession(), parts) as url:
        task = {
            "play": "a failure",
            "url": url,
            "code": code.value,
            "message": r"^That session is gone\. Start a new session.*sound from 0\.0 s to 2\.0 s",
            "lost": {"from_ms": 0, "to_ms": 2_000},
        }
        await play(task, tmp_path)


async def test_a_connection_that_breaks_for_good_is_told(tmp_path: Path) -> None:
    async def script(server: Scripted) -> None:
        await server.start()  # and gives no token
        await server.hear()
        server.socket.transport.abort()

    async with scripted(script) as url:
        task = {
            "play": "a failure",
            "url": url,
            "code": "connection_lost",
            "message": "broke .*Is the server still running.*sound from 0.0 s to 2.0 s",
            "lost": {"from_ms": 0, "to_ms": 2_000},
        }
        await play(task, tmp_path)
