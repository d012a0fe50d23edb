"""session.delete: what is being computed is broken off, and nothing is left in memory or Redis."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from doubles import MemorySocket, Stage, silence, speech
from live import live_server
from redis_server import RedisServer, redis_server

from emotrace_clients import connect
from emotrace_protocol.events import SessionEnded, SessionStarted
from emotrace_protocol.messages import SessionDelete, SessionEnd, SessionResume, SessionStart
from emotrace_protocol.order import ClientConversation
from emotrace_service import redis_store
from emotrace_service.logs import logger
from emotrace_service.memory_store import MemoryStore
from emotrace_service.redis_store import RedisStore
from emotrace_service.understanding import Understanding
from emotrace_service.webhook import Webhook
from emotrace_service.witness import Observers

PROMISED_S = 1.0
WINDOW_MS = 60_000
NAME = "zanzibar-7c1f"
START = SessionStart(resume=True, speakers=(NAME,))


@pytest.fixture(params=["memory", "redis"])
async def stage(toy: Path, request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    """A server whose models hang."""
    stage = Stage(toy)
    stage.backend.hold = asyncio.Event()
    if request.param == "memory":
        stage.serving.store = MemoryStore(WINDOW_MS, 10)
    else:
        stage.serving.store = RedisStore(request.getfixturevalue("redis").url, WINDOW_MS)
    yield stage
    await stage.serving.store.close()


async def kept(stage: Stage) -> int:
    """Entries of the store."""
    store = stage.serving.store
    if isinstance(store, MemoryStore):
        return store.kept
    assert isinstance(store, RedisStore)
    return int(await store._redis.dbsize())


@asynccontextmanager
async def hung(stage: Stage) -> AsyncIterator[tuple[MemorySocket, asyncio.Task[None]]]:
    """A session whose utterance is being computed, for ever."""
    assert stage.backend.hold is not None
    waited = stage.backend.waiting
    socket, task = stage.session()
    socket.say(START, speech(1.5), silence(1.0))
    await socket.until("session.started")
    await stage.backend.until_waiting(waited + 1)
    await socket.listened()
    assert await kept(stage)
    yield socket, task
    await asyncio.wait_for(task, 20)


def check_order(socket: MemorySocket) -> None:
    """No event is missing, and the totals are right, by the rules of the client's side."""
    conversation = ClientConversation()
    conversation.send(START)
    conversation.messages = 100
    for event in socket.heard:
        conversation.receive(event)


def remembered() -> int:
    gc.collect()
    return sum(type(one) is Understanding and NAME in one._speakers for one in gc.get_objects())


async def test_a_session_is_deleted_within_a_second_while_its_models_hang(stage: Stage) -> None:
    async with hung(stage) as (socket, task):
        began = time.monotonic()
        socket.say(SessionDelete())
        ended: SessionEnded = await socket.until("session.ended")
        assert time.monotonic() - began <= PROMISED_S
        assert not await kept(stage), "it is gone when the client is told so"
        await asyncio.wait_for(task, 20)
    assert (ended.reason, socket.code) == ("deleted", 1000)
    assert ended.totals.finals == 0
    assert stage.backend.cancelled >= 1
    assert stage.metric("emotrace_session_ends_total", reason="deleted") == 1
    check_order(socket)
    started = socket.heard[0]
    assert isinstance(started, SessionStarted)
    assert started.resume is not None
    again = await stage.play(
        SessionResume(session=started.session, token=started.resume.token, sequence=1)
    )
    assert (again.heard[0].code, again.code) == ("session_unknown", 4404)
    del socket, task, again
    assert not remembered()


async def test_a_session_that_was_ended_can_still_be_deleted(stage: Stage) -> None:
    async with hung(stage) as (socket, _):
        socket.say(SessionEnd(), SessionDelete())
        ended: SessionEnded = await socket.until("session.ended")
        assert not await kept(stage)
    assert (ended.reason, socket.code) == ("deleted", 1000)
    check_order(socket)


async def test_who_says_it_and_leaves_at_once_is_forgotten_too(stage: Stage) -> None:
    async with hung(stage) as (socket, _):
        socket.say(SessionDelete())
        socket.vanish()
    assert not await kept(stage)
    assert stage.metric("emotrace_session_ends_total", reason="deleted") == 1


async def test_a_session_whose_connection_broke_is_resumed_and_deleted(stage: Stage) -> None:
    async with hung(stage) as (socket, _):
        socket.vanish()
    assert await kept(stage), "its client may come back"
    started = socket.heard[0]
    assert isinstance(started, SessionStarted)
    assert started.resume is not None
    again = await stage.play(
        SessionResume(
            session=started.session, token=started.resume.token, sequence=len(socket.heard)
        ),
        SessionDelete(),
    )
    assert again.of("session.ended")[0].reason == "deleted"
    assert not await kept(stage)


async def test_nothing_is_taken_in_after_it(stage: Stage) -> None:
    async with hung(stage) as (socket, _):
        socket.say(SessionDelete(), "{", speech(1.0), SessionEnd(), SessionDelete())
        await socket.until("session.ended")
    assert not socket.of("error")


async def test_a_session_that_nobody_keeps_is_deleted_too(toy: Path) -> None:
    stage = Stage(toy)
    stage.backend.hold = asyncio.Event()
    socket, task = stage.session()
    socket.say(SessionStart(), speech(1.5), silence(1.0))
    await stage.backend.until_waiting(1)
    socket.say(SessionDelete())
    await asyncio.wait_for(task, 20)
    assert socket.heard[-1].type == "session.ended"
    assert socket.code == 1000


async def test_events_that_were_being_kept_when_it_was_said_are_not_lost(
    toy: Path, redis: RedisServer
) -> None:
    stage = Stage(toy)
    stage.serving.store = RedisStore(redis.url, WINDOW_MS)
    socket, task = stage.session()
    socket.say(START)
    await socket.until("session.started")
    await socket.listened()
    with redis.client as client:
        client.execute_command("CLIENT", "PAUSE", "400", "WRITE")
    socket.say(speech(1.5), silence(1.0), SessionDelete())
    await asyncio.wait_for(task, 20)
    assert socket.heard[-1].type == "session.ended"
    assert "speech.started" in socket.types
    check_order(socket)
    assert not await kept(stage)
    await stage.serving.store.close()


async def test_events_that_were_being_kept_when_it_was_said_are_posted_to_nobody(
    toy: Path, redis: RedisServer
) -> None:
    """The end is: whoever had events before learns that they are to be deleted."""
    posted: list[str] = []

    def receive(request: httpx.Request) -> httpx.Response:
        posted.append(json.loads(request.content)["type"])
        return httpx.Response(204)

    stage = Stage(toy)
    stage.serving.store = RedisStore(redis.url, WINDOW_MS)
    kinds = ("session.started", "speech.started", "speech.ended", "emotion.final", "session.ended")
    transport = httpx.MockTransport(receive)
    webhook = Webhook("http://t/", b"", kinds, stage.metrics, logger(), transport=transport)
    stage.serving.observers = Observers(webhook=webhook)
    webhook.start()
    socket, task = stage.session()
    socket.say(START)
    await socket.until("session.started")
    await socket.listened()
    with redis.client as client:
        client.execute_command("CLIENT", "PAUSE", "400", "WRITE")
    socket.say(speech(1.5), silence(1.0), SessionDelete())
    await asyncio.wait_for(task, 20)
    assert "speech.started" in socket.types
    await webhook.close(10)
    assert posted == ["session.started", "session.ended"]
    await stage.serving.store.close()


async def test_what_cannot_be_deleted_now_is_said(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_store, "ERASE_S", 0.3)
    stage = Stage(toy)
    with redis_server(tmp_path) as redis:
        stage.serving.store = RedisStore(redis.url, WINDOW_MS)
        socket, task = stage.session()
        socket.say(START)
        await socket.until("session.started")
        await socket.listened()
    socket.say(SessionDelete())
    await asyncio.wait_for(task, 20)
    (error,) = socket.of("error")
    assert (error.code, socket.code) == ("capacity", 1013)
    assert "forgets this one by itself, in 60 s" in error.message
    assert socket.heard[-1].reason == "error"
    await stage.serving.store.close()


async def test_the_client_deletes_its_session(toy: Path) -> None:
    with live_server(toy, workers="threads") as server:
        async with connect(server.stream_url) as session:
            await session.send_audio(speech(1.5))
            await session.delete()
            events = [event async for event in session]
        assert isinstance(events[-1], SessionEnded)
        assert events[-1].reason == "deleted"
        assert isinstance(server.serving.store, MemoryStore)
        assert server.serving.store.kept == 0
