"""A session outlives its connections: nothing lost, doubled or changed, wherever they break."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
import soxr
from fakes import toy_bundle
from live import DEMO, LiveServer, close_to, comparable, demo_pcm, live_server, pieces, talk
from undaunted import PATIENT, Undaunted, lasting, reply

from emotrace_protocol import Event, Message
from emotrace_protocol.events import Failed, SessionResumed, SessionStarted
from emotrace_protocol.messages import (
    AudioFormat,
    Marker,
    SessionEnd,
    SessionResume,
    SessionStart,
    Transcription,
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with live_server(toy_bundle(tmp_path_factory.mktemp("bundle") / "toy"), **PATIENT) as running:
        yield running


def demo_at(rate: int) -> tuple[AudioFormat, bytes]:
    samples, own = soundfile.read(DEMO, dtype="float32", always_2d=True)
    samples = soxr.resample(samples, own, rate)
    pcm = np.clip(samples * 32_767, -32_768, 32_767).astype("<i2").tobytes()
    return AudioFormat(sample_rate=rate, channels=2), pcm


@pytest.mark.parametrize("rate", [16_000, 44_100])
async def test_a_session_that_breaks_off_again_and_again_ends_as_if_it_never_had(
    server: LiveServer, rate: int
) -> None:
    audio, pcm = demo_pcm() if rate == 16_000 else demo_at(rate)
    start = SessionStart(audio=audio, transcription=Transcription.CLIENT, resume=True)
    chunks = pieces(pcm, 30_001)  # cut within samples
    spoken: list[Message | bytes] = [*chunks[:9], Marker(id="a"), *chunks[9:], SessionEnd()]
    calm = Undaunted(start, list(spoken), answer=reply)
    undisturbed = lasting(await calm.run(server))
    assert [one["type"] for one in undisturbed].count("emotion.final") >= 5
    for seed in range(5):
        client = Undaunted(start, list(spoken), random.Random(seed), reply)
        disturbed = lasting(await client.run(server))
        assert client.cuts >= 3, seed
        assert client.again, seed
        for one, other in zip(disturbed, undisturbed, strict=False):
            assert close_to(one, other), (seed, one, other)
        assert len(disturbed) == len(undisturbed), seed


async def test_every_message_is_safe_when_it_is_said_to_be(server: LiveServer) -> None:
    """The client forgets all that is acknowledged, so what is said again must be enough."""
    audio, pcm = demo_pcm(12.0)
    start = SessionStart(audio=audio, transcription=Transcription.OFF, resume=True)
    client = Undaunted(start, [*pieces(pcm, 4_001), SessionEnd()], random.Random(3))
    heard = await client.run(server, most_cuts=40)
    assert client.cuts >= 2
    assert any(event.type == "input.ack" for event in heard)
    ended = heard[-1].model_dump()["totals"]
    assert ended["audio_bytes"] == len(pcm)
    assert ended["messages"] >= len(client.said)


async def opened(server: LiveServer, **fields: Any) -> tuple[SessionStarted, list[Event]]:
    """A session that was begun, heard a little, and lost its connection."""
    audio, pcm = demo_pcm(2.0)
    async with talk(server) as client:
        await client.say(SessionStart(audio=audio, resume=True, **fields))
        started = await client.until("session.started")
        await client.say(*pieces(pcm, 16_000), Marker(id="here"))
        await client.until("marker.reached")
        client.socket.transport.abort()
    assert isinstance(started, SessionStarted)
    return started, client.heard


async def refused(server: LiveServer, message: SessionResume) -> tuple[Failed, int | None]:
    async with talk(server) as client:
        await client.say(message)
        error = await client.hear()
        code = await client.closed()
    assert isinstance(error, Failed)
    return error, code


async def test_a_wrong_token_and_an_unknown_name_get_the_same_answer(server: LiveServer) -> None:
    started, heard = await opened(server)
    assert started.resume is not None
    wrong = SessionResume(session=started.session, token="guess", sequence=len(heard))
    unknown = SessionResume(session="nobody", token=started.resume.token, sequence=0)
    answers = [await refused(server, one) for one in (wrong, unknown)]
    assert [(error.code, code) for error, code in answers] == [("session_unknown", 4404)] * 2
    assert answers[0][0].message == answers[1][0].message
    # Whoever has the token still gets in.
    async with talk(server) as client:
        await client.say(
            SessionResume(session=started.session, token=started.resume.token, sequence=len(heard))
        )
        assert isinstance(await client.hear(), SessionResumed)


async def test_a_token_serves_once(server: LiveServer) -> None:
    started, heard = await opened(server)
    assert started.resume is not None
    message = SessionResume(
        session=started.session, token=started.resume.token, sequence=len(heard)
    )
    async with talk(server) as client:
        await client.say(message)
        resumed = await client.until("session.resumed")
        assert isinstance(resumed, SessionResumed)
        assert resumed.token != started.resume.token
        await client.say(Marker(id="there"))  # it has the new one
        await client.until("marker.reached")
        error, code = await refused(server, message)
        assert (error.code, code) == ("session_unknown", 4404)


async def test_events_that_were_acknowledged_cannot_be_had_again(server: LiveServer) -> None:
    started, heard = await opened(server)
    assert started.resume is not None
    token = started.resume.token
    error, code = await refused(
        server, SessionResume(session=started.session, token=token, sequence=len(heard) + 5)
    )
    assert (error.code, code) == ("resume_expired", 4410)
    assert "are kept" in error.message


async def test_the_newest_connection_has_the_session(server: LiveServer) -> None:
    audio, pcm = demo_pcm(2.0)
    async with talk(server) as old, talk(server) as new:
        await old.say(SessionStart(audio=audio, resume=True))
        started = await old.until("session.started")
        assert isinstance(started, SessionStarted)
        assert started.resume is not None
        await old.say(*pieces(pcm, 16_000), Marker(id="here"))
        await old.until("marker.reached")
        await new.say(
            SessionResume(
                session=started.session, token=started.resume.token, sequence=len(old.heard)
            )
        )
        assert (await new.hear()).type == "session.resumed"
        assert await old.closed() == 4409
        assert old.heard[-1].model_dump()["code"] == "taken_over"
        await new.say(SessionEnd())
        await new.until("session.ended")


async def test_on_a_full_server_a_lost_connection_keeps_its_client_a_place(toy: Path) -> None:
    with live_server(toy, max_sessions=1) as server:
        async with talk(server) as lost:
            await lost.say(SessionStart(resume=True))
            started = await lost.until("session.started")
            assert isinstance(started, SessionStarted)
            assert started.resume is not None
            back = SessionResume(session=started.session, token=started.resume.token, sequence=1)
            async with talk(server) as stranger:
                await stranger.say(back.model_copy(update={"session": "another"}))
                assert (await stranger.hear()).model_dump()["code"] == "capacity"
            async with talk(server) as client:
                await client.say(back)
                assert (await client.hear()).type == "session.resumed"
                assert await lost.closed() == 4409


async def test_the_last_events_can_be_had_after_the_end(server: LiveServer) -> None:
    started, heard = await opened(server)
    assert started.resume is not None
    token = started.resume.token
    async with talk(server) as client:
        await client.say(SessionResume(session=started.session, token=token, sequence=len(heard)))
        resumed = await client.until("session.resumed")
        assert isinstance(resumed, SessionResumed)
        await client.say(SessionEnd())
        await client.until("session.ended")
        missed = client.heard
    async with talk(server) as again:
        await again.say(
            SessionResume(session=started.session, token=resumed.token, sequence=len(heard))
        )
        await again.closed()
    assert again.heard[0].type == "input.ack"  # session.resumed was for that connection alone
    assert comparable(again.heard[1:]) == comparable(missed[1:])
    assert again.heard[-1].type == "session.ended"


async def test_a_session_waits_no_longer_than_it_says(tmp_path: Path) -> None:
    with live_server(
        toy_bundle(tmp_path / "toy"), workers="threads", resume_window_ms=100
    ) as server:
        started, heard = await opened(server)
        assert started.resume is not None
        assert started.resume.window_ms == 100
        store: Any = server.serving.store
        async with asyncio.timeout(30), httpx.AsyncClient() as http:
            while store.kept:
                await http.get(f"{server.url}/healthz")
        error, _ = await refused(
            server,
            SessionResume(session=started.session, token=started.resume.token, sequence=len(heard)),
        )
        assert error.code == "session_unknown"


async def test_a_server_that_keeps_no_sessions_says_so(tmp_path: Path) -> None:
    with live_server(toy_bundle(tmp_path / "toy"), workers="threads", resume_window_ms=0) as server:
        audio, _ = demo_pcm(0.1)
        async with talk(server) as client:
            await client.say(SessionStart(audio=audio, resume=True))
            started = await client.until("session.started")
            assert isinstance(started, SessionStarted)
            assert started.resume is None


async def test_who_does_not_ask_is_not_kept(server: LiveServer) -> None:
    audio, pcm = demo_pcm(3.0)
    async with talk(server) as client:
        await client.say(SessionStart(audio=audio))
        started = await client.until("session.started")
        assert isinstance(started, SessionStarted)
        assert started.resume is None
        await client.say(*pieces(pcm, 16_000), SessionEnd())
        await client.until("session.ended")
    assert not client.of("input.ack")
