"""Sessions that the server ends or a client leaves, and those for which there is no place."""

from __future__ import annotations

import asyncio
from pathlib import Path

from doubles import QUIET, TURN, Stage, silence, speech
from structlog.testing import capture_logs

from emotrace_protocol.errors import ErrorCode
from emotrace_protocol.messages import Marker, SessionEnd, SessionStart
from emotrace_service.endings import broken_off
from emotrace_service.errors import EngineClosed


async def test_a_client_that_says_nothing(toy: Path) -> None:
    stage = Stage(toy, start_timeout_ms=1)
    socket = await stage.play()
    assert [one.code for one in socket.of("error")] == ["start_timeout"]
    assert socket.code == 4408


async def test_a_client_that_sends_no_audio(toy: Path) -> None:
    stage = Stage(toy, idle_no_audio_ms=1)
    socket = await stage.play(QUIET)
    assert socket.types == ["session.started", "error", "session.ended"]
    assert socket.heard[1].code == "idle_no_audio"
    assert socket.heard[2].reason == "idle"
    assert socket.code == 4408


async def test_silence_for_ever_ends_by_the_audios_own_clock(toy: Path) -> None:
    stage = Stage(toy, idle_no_speech_ms=2_000)
    socket = await stage.play(QUIET, TURN, *[silence(0.5)] * 6)
    assert socket.types[-3:] == ["emotion.final", "error", "session.ended"]
    assert socket.heard[-2].code == "idle_no_speech"
    assert socket.code == 4408


async def test_a_client_that_is_too_fast_is_warned_and_then_refused_and_loses_nothing(
    toy: Path,
) -> None:
    stage = Stage(toy, audio_queue_ms=4_000)
    stage.backend.hold = asyncio.Event()
    socket, task = stage.session()
    socket.say(QUIET, TURN)
    await socket.until("speech.ended")
    socket.say(TURN, TURN)
    await socket.until("warning")
    socket.say(TURN)
    await socket.listened()
    stage.backend.hold.set()
    await task
    (warning,) = socket.of("warning")
    (failed,) = socket.of("error")
    assert (warning.code, failed.code) == ("backpressure", "rate_limited")
    assert failed.retry_after_ms > 0
    assert len(socket.of("emotion.final")) == 3  # all that was taken in
    assert socket.heard[-1].totals.audio_bytes == 3 * len(TURN)
    assert socket.code == 4429


async def test_a_client_that_does_not_read_is_let_go(toy: Path) -> None:
    stage = Stage(toy, send_timeout_ms=1)
    socket, task = stage.session()
    socket.say(QUIET)
    await socket.until("session.started")
    socket.stuck = True
    socket.say(Marker(id="x"))
    await asyncio.wait_for(task, 20)
    assert socket.code == 4480
    assert stage.metric("emotrace_refusals_total", code="slow_consumer") == 1
    assert stage.metric("emotrace_sessions") == 0


async def test_a_client_that_vanishes_in_mid_prediction(stage: Stage) -> None:
    stage.backend.hold = asyncio.Event()
    socket, task = stage.session()
    before = asyncio.all_tasks() - {task}
    socket.say(SessionStart(), speech(1.5))
    await stage.backend.until_waiting(1)
    socket.say(silence(0.6))
    await stage.backend.until_waiting(2)
    socket.vanish()
    await asyncio.wait_for(task, 20)
    assert stage.metric("emotrace_sessions") == 0
    assert stage.metric("emotrace_session_ends_total", reason="vanished") == 1
    assert stage.backend.cancelled == 2  # the interim and the final
    assert asyncio.all_tasks() - {task} == before


async def test_a_fault_of_the_server_is_told_without_its_text(stage: Stage) -> None:
    stage.backend.broken = RuntimeError("a secret")
    with capture_logs() as logged:
        socket = await stage.play(QUIET, TURN)
    assert socket.types == ["session.started", "error", "session.ended"]
    assert socket.heard[1].code == "internal"
    assert socket.code == 1011
    assert "RuntimeError" in str(logged)
    assert "a secret" not in str(logged) + str(socket.heard)


async def test_a_server_that_stops_finishes_what_it_took_in(stage: Stage) -> None:
    socket, task = stage.session()
    socket.say(QUIET, speech(1.0))
    await socket.until("speech.started")
    await stage.serving.drain()
    await task
    assert socket.types[-4:] == ["speech.ended", "emotion.final", "error", "session.ended"]
    assert socket.heard[-2].code == "going_away"
    assert socket.heard[-1].reason == "going_away"
    assert socket.code == 1012
    late = await stage.play(QUIET)
    assert [one.code for one in late.heard] == ["going_away"]


async def test_an_engine_that_closes_ends_the_session(stage: Stage) -> None:
    stage.backend.broken = EngineClosed("the server stops")
    socket = await stage.play(QUIET, TURN)
    assert socket.heard[1].code == "going_away"
    assert socket.code == 1012


async def test_no_place_left(toy: Path) -> None:
    stage = Stage(toy, max_sessions=1)
    first, task = stage.session()
    first.say(QUIET)
    await first.until("session.started")
    second = await stage.play(QUIET)
    (failed,) = second.heard
    assert (failed.code, failed.retryable) == (ErrorCode.CAPACITY, True)
    assert failed.retry_after_ms > 0
    assert second.code == 1013
    first.say(TURN, SessionEnd())
    await task
    assert len(first.of("emotion.final")) == 1
    assert (await stage.play(QUIET, SessionEnd())).code == 1000


async def test_a_server_that_stops_before_its_models_are_warm_is_not_ready_then(
    stage: Stage,
) -> None:
    await stage.serving.drain()
    stage.serving.warmed()
    assert not stage.serving.ready


async def test_who_swallows_a_cancellation_is_broken_off_all_the_same() -> None:
    async def stubborn() -> None:
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                await asyncio.sleep(60)

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    await asyncio.wait_for(broken_off({task}), 10)
    assert task.cancelled()
