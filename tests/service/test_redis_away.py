"""Servers with sessions in Redis: they move between them, and Redis may be away."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import toy_bundle
from live import LiveServer, close_to, demo_pcm, live_server, pieces, silence, talk
from redis_server import RedisServer, redis_server
from undaunted import PATIENT, Undaunted, lasting, reply

from emotrace_protocol import Event, Message
from emotrace_protocol.events import Failed, SessionStarted
from emotrace_protocol.messages import (
    Marker,
    SessionEnd,
    SessionResume,
    SessionStart,
    Transcription,
)
from emotrace_service import redis_store


@pytest.fixture(scope="module")
def replicas(
    redis: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[LiveServer, LiveServer]]:
    bundle = toy_bundle(tmp_path_factory.mktemp("bundle") / "toy")
    with (
        live_server(bundle, session_store=redis.url, **PATIENT) as one,
        live_server(bundle, session_store=redis.url, **PATIENT) as other,
    ):
        yield one, other


async def test_a_session_that_moves_between_replicas_ends_as_if_it_never_had(
    replicas: tuple[LiveServer, LiveServer],
) -> None:
    audio, pcm = demo_pcm()
    start = SessionStart(audio=audio, transcription=Transcription.CLIENT, resume=True)
    spoken: list[Message | bytes] = [*pieces(pcm, 30_001), Marker(id="a"), SessionEnd()]
    undisturbed = lasting(
        await Undaunted(start, list(spoken), answer=reply).run(replicas[0], most_cuts=0)
    )
    for seed in range(4):
        client = Undaunted(start, list(spoken), random.Random(seed), reply)
        disturbed = lasting(await client.run(*replicas))
        assert client.cuts >= 3, seed
        for one, other in zip(disturbed, undisturbed, strict=False):
            assert close_to(one, other), (seed, one, other)
        assert len(disturbed) == len(undisturbed), seed


async def test_a_server_that_stops_leaves_its_sessions_to_another(
    redis: RedisServer, tmp_path: Path
) -> None:
    bundle = toy_bundle(tmp_path / "toy")
    audio, pcm = demo_pcm(9.0)
    start = SessionStart(audio=audio, transcription=Transcription.OFF, resume=True)
    chunks = pieces(pcm, 16_000)
    with live_server(bundle, workers="threads", session_store=redis.url) as staying:
        heard: list[Event] = []
        with live_server(bundle, workers="threads", session_store=redis.url) as stopping:
            async with talk(stopping) as client:
                await client.say(start)
                started = await client.until("session.started")
                await client.say(*chunks[:20], Marker(id="here"))
                await client.until("marker.reached")
                stopping.stop()
                assert await client.closed() == 1012
                heard = client.heard
        assert isinstance(started, SessionStarted)
        assert started.resume is not None
        error = heard[-1]
        assert isinstance(error, Failed)
        assert (error.code, error.resume) == ("going_away", True)
        rest = Undaunted(start, [], said=[*chunks[:20], Marker(id="here")], heard=heard)
        rest.session, rest.token = started.session, started.resume.token
        rest.to_say = [*chunks[20:], SessionEnd()]
        moved = lasting(await rest.run(staying))
        calm = Undaunted(start, [*chunks[:20], Marker(id="here"), *chunks[20:], SessionEnd()])
        undisturbed = lasting(await calm.run(staying))
        assert close_to([one for one in moved if one["type"] != "error"], undisturbed)


async def test_redis_may_be_away_for_seconds(
    redis: RedisServer, replicas: tuple[LiveServer, LiveServer]
) -> None:
    audio, pcm = demo_pcm(12.0)
    start = SessionStart(audio=audio, transcription=Transcription.OFF, resume=True)
    chunks = pieces(pcm, 16_000)
    calm = Undaunted(start, [*chunks, SessionEnd()])
    undisturbed = lasting(await calm.run(replicas[0]))
    with redis.client as client:
        client.client_pause(1_500)
        paused = Undaunted(start, [*chunks, SessionEnd()])
        running = asyncio.create_task(paused.run(replicas[0]))
        assert close_to(lasting(await running), undisturbed)


async def test_without_redis_a_session_goes_on_and_says_that_it_cannot_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_store, "OUTAGE_S", 0.3)
    (tmp_path / "redis").mkdir()
    bundle = toy_bundle(tmp_path / "toy")
    audio, pcm = demo_pcm(6.0)
    with (
        redis_server(tmp_path / "redis") as redis,
        live_server(bundle, workers="threads", session_store=redis.url) as server,
    ):
        async with talk(server) as client:
            await client.say(
                SessionStart(audio=audio, transcription=Transcription.OFF, resume=True)
            )
            started = await client.until("session.started")
            redis.kill()
            await client.say(*pieces(pcm, 16_000), silence(1, channels=2), SessionEnd())
            await client.until("session.ended")
        assert isinstance(started, SessionStarted)
        assert started.resume is not None
        assert "resume_lost" in [event.model_dump().get("code") for event in client.heard]
        assert client.of("emotion.final")
        async with talk(server) as again:
            await again.say(
                SessionResume(session=started.session, token=started.resume.token, sequence=1)
            )
            error = await again.hear()
            assert isinstance(error, Failed)
            assert (error.code, error.retryable) == ("capacity", True)
