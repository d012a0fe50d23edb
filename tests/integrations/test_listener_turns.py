"""The estimate of the user's turn: what it waits for, and when there is none."""

from __future__ import annotations

import asyncio

from eventually import eventually
from listening import PATIENT_MS, PIECE, end, guess, judge, listening, read, speak
from scripted_server import Scripted, scripted

from emotrace_protocol.events import Failed, SpeechRejected


async def test_a_turn_has_the_estimate_of_its_utterance() -> None:
    async def script(server: Scripted) -> None:
        start = await server.start()
        assert start.speakers == ("User",)
        assert start.transcription == "client"
        assert (start.audio.sample_rate, start.audio.channels) == (24_000, 1)
        assert start.endpointing.silence_ms == 300
        await server.hear()
        await speak(server, 0)
        await end(server, 0)
        await judge(server, 0)
        await read(server)

    async with scripted(script) as url, listening(url, timeout_ms=PATIENT_MS) as listener:
        listener.hear(PIECE, 24_000)
        await eventually(lambda: listener.tracker.state().speakers)
        listener.hear_words("Well.")
        turn = await listener.turn()
        assert turn is not None
        assert (turn.label, turn.interim) == ("anger", False)
        assert await listener.line() == (
            'Estimate of expressed emotion (by a machine, may be wrong): "User" anger 0.80, '
            "by voice alone."
        )


async def test_the_turn_waits_for_an_utterance_that_is_not_judged_yet() -> None:
    go_on = asyncio.Event()

    async def script(server: Scripted) -> None:
        await server.start()
        await speak(server, 0)
        await guess(server, 0)
        await go_on.wait()
        await end(server, 0)
        await judge(server, 0)
        await read(server)

    async with scripted(script) as url, listening(url, timeout_ms=PATIENT_MS) as listener:
        listener.hear(PIECE, 16_000)
        await eventually(lambda: listener.tracker.state().speakers)
        waiting = asyncio.create_task(listener.turn())
        await asyncio.sleep(0)
        assert not waiting.done()
        go_on.set()
        turn = await waiting
        assert turn is not None
        assert turn.interim is False


async def test_the_turn_waits_for_speech_that_is_not_announced_yet() -> None:
    go_on = asyncio.Event()

    async def script(server: Scripted) -> None:
        await server.start()
        await go_on.wait()
        await speak(server, 0)
        await judge(server, 0)
        await read(server)

    async with scripted(script) as url, listening(url, timeout_ms=PATIENT_MS) as listener:
        listener.hear(PIECE, 16_000)
        await eventually(lambda: listener.connected)
        listener.hear_words("Well.")
        waiting = asyncio.create_task(listener.turn())
        await asyncio.sleep(0)
        assert not waiting.done()
        go_on.set()
        assert await waiting is not None


async def test_after_the_time_limit_an_interim_estimate_counts() -> None:
    async def script(server: Scripted) -> None:
        await server.start()
        await speak(server, 0)
        await guess(server, 0)
        await read(server)

    async with scripted(script) as url, listening(url, timeout_ms=1) as listener:
        listener.hear(PIECE, 16_000)
        await eventually(lambda: listener.tracker.state().speakers)
        listener.hear_words("Well.")
        turn = await listener.turn()
        assert turn is not None
        assert turn.interim is True
        assert " so far" in str(await listener.line())


async def test_a_server_that_says_nothing_leaves_the_turn_without_emotion() -> None:
    async def script(server: Scripted) -> None:
        await server.start()
        await read(server)

    async with scripted(script) as url, listening(url, timeout_ms=1) as listener:
        listener.hear(PIECE, 16_000)
        await eventually(lambda: listener.connected)
        listener.hear_words("Anybody there?")
        assert await listener.turn() is None
        assert await listener.line() is None


async def test_where_nobody_spoke_nothing_is_waited_for() -> None:
    async def script(server: Scripted) -> None:
        await server.start()
        await read(server)

    async with scripted(script) as url, listening(url, timeout_ms=PATIENT_MS) as listener:
        assert await listener.turn() is None
        listener.hear(PIECE, 16_000)
        await eventually(lambda: listener.connected)
        listener.hear_words("  ")
        assert await listener.turn() is None


async def test_an_earlier_turn_s_estimate_is_not_the_next_one_s() -> None:
    async def script(server: Scripted) -> None:
        await server.start()
        await speak(server, 0)
        await end(server, 0)
        await judge(server, 0)
        await speak(server, 2)  # number 1 is the agent's
        await server.say(
            SpeechRejected, utterance=2, speaker="User", start_ms=0, end_ms=900, reason="noise"
        )
        await read(server)

    async with scripted(script) as url, listening(url, timeout_ms=PATIENT_MS) as listener:
        listener.hear(PIECE, 16_000)
        await eventually(lambda: listener.user_turn.judged == 2)
        assert await listener.turn() is not None
        listener.reply("I see.")
        assert await listener.turn() is None


async def test_what_is_judged_after_the_reply_was_answered_by_it() -> None:
    go_on = asyncio.Event()

    async def script(server: Scripted) -> None:
        await server.start()
        await speak(server, 0)
        await go_on.wait()
        await judge(server, 0)
        await read(server)

    async with scripted(script) as url, listening(url, timeout_ms=1) as listener:
        listener.hear(PIECE, 16_000)
        await eventually(lambda: listener.user_turn.unjudged)
        assert await listener.turn() is None
        listener.reply("I see.")
        go_on.set()
        await eventually(lambda: listener.user_turn.judged == 0)
        assert await listener.turn() is None


async def test_what_the_user_began_while_the_agent_replied_is_the_next_turn() -> None:
    go_on = asyncio.Event()

    async def script(server: Scripted) -> None:
        await server.start()
        await speak(server, 0)
        await judge(server, 0)
        await go_on.wait()
        await speak(server, 1)
        await judge(server, 1)
        await read(server)

    async with scripted(script) as url, listening(url, timeout_ms=PATIENT_MS) as listener:
        listener.hear(PIECE, 16_000)
        await eventually(lambda: listener.user_turn.judged == 0)
        assert await listener.turn() is not None
        go_on.set()
        await eventually(lambda: listener.user_turn.judged == 1)
        listener.reply("I was inter")
        turn = await listener.turn()
        assert turn is not None
        assert turn.utterance == 1


async def test_speech_that_is_none_ends_the_wait() -> None:
    async def script(server: Scripted) -> None:
        await server.start()
        await speak(server, 0)
        await server.say(
            SpeechRejected, utterance=0, speaker="User", start_ms=0, end_ms=900, reason="noise"
        )
        await speak(server, 1)
        await server.say(
            Failed,
            code="inference_failed",
            message="",
            fatal=False,
            retryable=False,
            resume=False,
            utterance=1,
        )
        await read(server)

    async with scripted(script) as url, listening(url, timeout_ms=PATIENT_MS) as listener:
        listener.hear(PIECE, 16_000)
        await eventually(lambda: listener.user_turn.judged == 1)
        listener.hear_words("Invented.")
        assert await listener.turn() is None
