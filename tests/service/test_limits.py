"""Limits that protect the others: how many messages, how long, how many newcomers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from doubles import Stage
from fakes import toy_bundle
from live import demo_pcm, live_server, silence, talk

from emotrace_protocol.events import Failed, SessionResumed, SessionStarted
from emotrace_protocol.messages import Marker, SessionEnd, SessionResume, SessionStart
from emotrace_service import listening
from emotrace_service.queues import MAX_WAITING_EVENTS


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_bundle(tmp_path_factory.mktemp("bundle") / "toy")


async def test_a_flood_of_messages_ends_that_session_alone(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "MESSAGES_A_SECOND", 50.0)
    monkeypatch.setattr(listening, "MESSAGES_AT_ONCE", 100.0)
    with live_server(bundle, workers="threads") as server:
        async with talk(server) as other, talk(server) as flood:
            await other.say(SessionStart())
            await other.until("session.started")
            await flood.say(SessionStart(), *[silence(0.001)] * 400)
            assert await flood.closed() == 4429
            error = flood.of("error")[0]
            assert (error.code, error.fatal) == ("rate_limited", True)
            assert flood.heard[-1].type == "session.ended"
            await other.say(silence(0.1), Marker(id="still here"))
            await other.until("marker.reached")


async def test_a_session_ends_for_its_length_and_says_so_before(bundle: Path) -> None:
    with live_server(bundle, workers="threads", max_session_ms=400) as server:
        async with talk(server) as client:
            await client.say(SessionStart())
            assert await client.closed() == 4410
    warning, error, ended = client.heard[1:]
    assert warning.model_dump()["code"] == "session_expiring"
    assert error.model_dump()["code"] == "session_expired"
    assert ended.type == "session.ended"


async def test_a_new_connection_does_not_make_a_session_younger(bundle: Path) -> None:
    with live_server(bundle, workers="threads", max_session_ms=3_600_000) as server:
        audio, _ = demo_pcm(0.1)
        async with talk(server) as client:
            await client.say(SessionStart(audio=audio, resume=True), Marker(id="a"))
            started = await client.until("session.started")
            await client.until("marker.reached")
            (session,) = server.serving._guests
            session._work.listener._began -= 3_599.7  # type: ignore[attr-defined]  it has lasted so long
            await client.say(Marker(id="b"))
            await client.until("marker.reached")
            client.socket.transport.abort()
        assert isinstance(started, SessionStarted)
        assert started.resume is not None
        async with talk(server) as again:
            await again.say(
                SessionResume(
                    session=started.session, token=started.resume.token, sequence=len(client.heard)
                )
            )
            assert isinstance(await again.until("session.resumed"), SessionResumed)
            assert await again.closed() == 4410


async def test_newcomers_beyond_the_pace_are_told_when_to_come_again(bundle: Path) -> None:
    with live_server(bundle, workers="threads", new_sessions_a_second=1.0) as server:
        refused: list[Failed] = []
        for _ in range(6):
            async with talk(server) as client:
                await client.say(SessionStart(), SessionEnd())
                first = await client.hear()
                if isinstance(first, Failed):
                    refused.append(first)
                await client.closed()
        assert len(refused) >= 3
        assert {error.code for error in refused} == {"capacity"}
        assert all(2_500 <= (error.retry_after_ms or 0) <= 5_000 for error in refused)


async def test_a_client_that_does_not_read_is_not_read(bundle: Path) -> None:
    stage = Stage(bundle, send_timeout_ms=500)
    socket, task = stage.session()
    socket.say(SessionStart())
    await socket.until("session.started")
    socket.stuck = True
    for _ in range(40):  # as a connection gives them to a session, some at a time
        socket.say(*[Marker(id="x")] * 50)
        await asyncio.sleep(0)
    (session,) = stage.serving._guests
    inside = len(session._work.inlet._items)  # type: ignore[attr-defined]
    outside = socket._incoming.qsize()
    assert inside <= 50
    assert outside >= 2_000 - MAX_WAITING_EVENTS - 2 * 50
    await task
    assert socket.code == 4480
