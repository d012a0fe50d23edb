"""Sessions in Redis: another replica goes on with them; whoever lost one writes nothing more."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path

import pytest
from doubles import Stage
from eventually import eventually
from redis_server import RedisServer, redis_server

from emotrace_protocol.errors import ProtocolError
from emotrace_protocol.messages import (
    SessionEnd,
    SessionResume,
    SessionStart,
    UtteranceText,
)
from emotrace_service import redis_store
from emotrace_service.errors import EngineClosed
from emotrace_service.inference import Predicted
from emotrace_service.memory_store import MemoryStore
from emotrace_service.redis_store import RedisStore
from emotrace_service.session_store import (
    MAX_BYTES,
    MAX_EVENTS,
    Lease,
    Resumed,
    Snapshot,
    TakenOver,
    Told,
)
from emotrace_service.understood import NOTHING_YET


def snapshot(sent: int) -> Snapshot:
    return Snapshot(
        start=SessionStart(resume=True),
        sent=sent,
        counts={},
        through=0,
        ahead=frozenset(),
        others=0,
        age_s=0.0,
        understood=NOTHING_YET,
    )


async def test_whoever_lost_a_session_writes_nothing_more(redis: RedisServer) -> None:
    store = RedisStore(redis.url, 60_000)
    old = await store.open("fenced")
    await old.commit(snapshot(1), [Told(0, "zero")], -1)
    resumed = await store.resume("fenced", old.token, 0)
    assert [event.text for event in resumed.events] == ["zero"]
    with pytest.raises(TakenOver):
        await old.commit(snapshot(2), [Told(1, "of the old")], -1)
    await resumed.lease.commit(snapshot(2), [Told(1, "of the new")], -1)
    again = await store.resume("fenced", resumed.lease.token, 1)
    assert [event.text for event in again.events] == ["of the new"]
    await store.close()


async def test_a_commit_that_is_said_twice_is_kept_once(redis: RedisServer) -> None:
    store = RedisStore(redis.url, 60_000)
    lease = await store.open("twice")
    for _ in range(2):  # the answer to the first may have been lost
        await lease.commit(snapshot(2), [Told(0, "zero"), Told(1, "one")], -1)
    resumed = await store.resume("twice", lease.token, 0)
    assert [(event.sequence, event.text) for event in resumed.events] == [(0, "zero"), (1, "one")]
    await store.close()


async def test_an_attempt_that_arrives_after_the_next_commit_changes_nothing(
    redis: RedisServer,
) -> None:
    store = RedisStore(redis.url, 60_000)
    lease = await store.open("late")
    await lease.commit(snapshot(2), [Told(0, "zero"), Told(1, "one")], -1)
    await lease.commit(snapshot(3), [Told(2, "two")], -1)
    await lease.commit(snapshot(2), [Told(0, "zero"), Told(1, "one")], -1)
    resumed = await store.resume("late", lease.token, 0)
    assert resumed.snapshot.sent == 3
    await resumed.lease.commit(snapshot(4), [Told(3, "three")], -1)
    again = await store.resume("late", resumed.lease.token, 0)
    assert [event.text for event in again.events] == ["zero", "one", "two", "three"]
    await store.close()


async def test_what_holds_for_one_connection_is_not_said_to_another(redis: RedisServer) -> None:
    store = RedisStore(redis.url, 60_000)
    lease = await store.open("lasting")
    await lease.commit(snapshot(1), [Told(0, "of this connection", "of all")], -1)
    resumed = await store.resume("lasting", lease.token, 0)
    assert [event.text for event in resumed.events] == ["of all"]
    await store.close()


async def test_the_former_token_serves_until_the_new_one_has_arrived(redis: RedisServer) -> None:
    store = RedisStore(redis.url, 60_000)
    lease = await store.open("tokens")
    await lease.commit(snapshot(1), [Told(0, "zero")], -1)
    first = await store.resume("tokens", lease.token, 0)
    second = await store.resume("tokens", lease.token, 0)  # the first answer never arrived
    second.lease.confirm()
    await second.lease.commit(snapshot(2), [Told(1, "one")], -1)
    for token in (lease.token, first.lease.token, "guess"):
        with pytest.raises(ProtocolError, match="session_unknown"):
            await store.resume("tokens", token, 1)
    await store.resume("tokens", second.lease.token, 1)
    await store.close()


async def test_an_attempt_that_was_given_up_takes_nothing_from_its_successor(
    redis: RedisServer,
) -> None:
    store = RedisStore(redis.url, 60_000)
    lease = await store.open("attempts")
    await lease.commit(snapshot(1), [Told(0, "zero")], -1)
    second = await store.resume("attempts", lease.token, 0, 2)
    with pytest.raises(ProtocolError, match="session_unknown"):
        await store.resume("attempts", lease.token, 0, 1)  # read late, by one that stood still
    await second.lease.commit(snapshot(2), [Told(1, "one")], -1)
    third = await store.resume("attempts", second.lease.token, 1, 3)
    assert [event.text for event in third.events] == ["one"]
    with pytest.raises(TakenOver):
        await second.lease.commit(snapshot(3), [], -1)
    await store.close()


async def test_whoever_asks_for_what_is_gone_takes_nothing(redis: RedisServer) -> None:
    store = RedisStore(redis.url, 60_000)
    lease = await store.open("gone")
    await lease.commit(snapshot(2), [Told(0, "zero"), Told(1, "one")], 0)
    for sequence in (0, 3):
        with pytest.raises(ProtocolError, match="resume_expired"):
            await store.resume("gone", lease.token, sequence)
    await lease.commit(snapshot(3), [Told(2, "two")], 0)
    await store.close()


async def test_a_replica_whose_models_are_gone_tells_nothing_of_what_it_had_not_finished(
    redis: RedisServer, toy: Path
) -> None:
    store = RedisStore(redis.url, 60_000)
    stages = [Stage(toy) for _ in range(2)]
    for stage in stages:
        stage.serving.store = store
    said = UtteranceText(text="Come here at once.", speaker="A")
    going, task = stages[0].session()
    going.say(SessionStart(resume=True))
    started = await going.until("session.started")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages[0].backend, "predict", closed)
        going.say(said)
        await asyncio.wait_for(task, 30)
    assert (going.code, going.types) == (1012, ["session.started"])
    resume = SessionResume(session=started.session, token=started.resume.token, sequence=1)
    coming = await stages[1].play(resume, said, SessionEnd())
    told = [event for event in coming.heard if event.type in ("transcript.final", "emotion.final")]
    assert [(event.type, event.utterance) for event in told] == [
        ("transcript.final", 0), ("emotion.final", 0),
    ]  # fmt: skip
    assert coming.types[-1] == "session.ended"
    await store.close()


async def test_who_loses_a_session_while_it_is_taken_up_is_told_so(
    redis: RedisServer, toy: Path
) -> None:
    class Late(RedisStore):
        """Another replica is a moment quicker."""

        async def resume(self, name: str, token: str, sequence: int, attempt: int = 0) -> Resumed:
            found = await super().resume(name, token, sequence, attempt)
            await super().resume(name, token, sequence, attempt + 1)
            return found

    store = RedisStore(redis.url, 60_000)
    lease = await store.open("contested")
    begun = replace(snapshot(1), counts={"session.started": 1})
    await lease.commit(begun, [Told(0, "{}")], -1)
    stage = Stage(toy)
    stage.serving.store = late = Late(redis.url, 60_000)
    socket = await stage.play(
        SessionResume(session="contested", token=lease.token, sequence=1, attempt=1)
    )
    assert [event.code for event in socket.of("error")] == ["taken_over"]
    assert socket.code == 4409
    await late.close()
    await store.close()


async def test_who_missed_more_than_may_wait_gets_all_of_it(redis: RedisServer, toy: Path) -> None:
    store = RedisStore(redis.url, 60_000)
    lease = await store.open("long-away")
    begun = replace(snapshot(MAX_EVENTS), counts={"session.started": 1})
    missed = [Told(n, f'{{"type": "news", "sequence": {n}}}') for n in range(MAX_EVENTS)]
    await lease.commit(begun, missed, -1)
    stage = Stage(toy)
    stage.serving.store = store
    socket, task = stage.session()
    socket.say(SessionResume(session="long-away", token=lease.token, sequence=1), SessionEnd())
    await asyncio.wait_for(task, 10)
    assert len(socket.heard) > MAX_EVENTS
    assert socket.types[-1] == "session.ended"
    await store.close()


async def test_who_comes_in_as_the_server_begins_to_stop_is_sent_on(
    redis: RedisServer, toy: Path
) -> None:
    opening, stopping = asyncio.Event(), asyncio.Event()

    class Slow(RedisStore):
        async def open(self, name: str) -> Lease:
            opening.set()
            await stopping.wait()
            return await super().open(name)

    stage = Stage(toy)
    stage.serving.store = store = Slow(redis.url, 60_000)
    socket, task = stage.session()
    socket.say(SessionStart(resume=True))
    await opening.wait()
    draining = asyncio.create_task(stage.serving.drain())
    await asyncio.sleep(0)
    stopping.set()
    await asyncio.wait_for(asyncio.gather(draining, task), 10)
    assert socket.types == ["session.started", "error"]
    assert (socket.heard[1].code, socket.heard[1].resume, socket.code) == ("going_away", True, 1012)
    await store.close()


async def test_a_server_that_stops_first_says_so_to_whoever_sends_sessions_there(
    redis: RedisServer, toy: Path
) -> None:
    stage = Stage(toy, drain_notice_ms=400)
    stage.serving.store = store = RedisStore(redis.url, 60_000)
    stage.serving.warmed()
    socket, task = stage.session()
    socket.say(SessionStart(resume=True))
    await socket.until("session.started")
    draining = asyncio.create_task(stage.serving.drain())
    await asyncio.sleep(0.1)
    stage.serving.warmed()  # as late as that
    assert not stage.serving.ready
    late, late_task = stage.session()  # whom a balancer sent that had not asked yet
    late.say(SessionStart(resume=True))
    await late.until("session.started")
    assert socket.types == ["session.started"]
    await asyncio.wait_for(asyncio.gather(draining, task, late_task), 10)
    for one in (socket, late):
        assert one.heard[-1].code == "going_away"
    await store.close()


async def closed(*_: object, **__: object) -> Predicted:
    raise EngineClosed("the server stops")


async def test_what_was_acknowledged_is_forgotten_and_missed_events_are_named(
    redis: RedisServer,
) -> None:
    store = RedisStore(redis.url, 60_000)
    lease = await store.open("acked")
    await lease.commit(snapshot(4), [Told(n, str(n)) for n in range(4)], 1)
    with pytest.raises(ProtocolError, match="Event 1 is asked for, and events 2 to 4 are kept"):
        await store.resume("acked", lease.token, 1)
    await store.close()


@pytest.mark.parametrize("kind", ["memory", "redis"])
@pytest.mark.parametrize(("events", "size"), [(MAX_EVENTS + 50, 10), (30, MAX_BYTES // 20)])
async def test_what_waits_for_a_client_is_bounded_in_number_and_in_bytes(
    redis: RedisServer, kind: str, events: int, size: int
) -> None:
    store = RedisStore(redis.url, 60_000) if kind == "redis" else MemoryStore(60_000, 10)
    name = f"bounded-{events}"
    lease = await store.open(name)
    for n in range(events):
        await lease.commit(snapshot(n + 1), [Told(n, "x" * size)], -1)
        if kind == "redis":  # once more, as after a time without an answer
            await lease.commit(snapshot(n + 1), [Told(n, "x" * size)], -1)
    with pytest.raises(ProtocolError, match="Event 1 is asked for") as refused:
        await store.resume(name, lease.token, 1)
    first = int(re.findall(r"events (\d+) to", str(refused.value))[0])
    kept = events - first
    assert kept == min(MAX_EVENTS, MAX_BYTES // size)
    resumed = await store.resume(name, lease.token, first)
    assert [event.sequence for event in resumed.events] == list(range(first, events))
    await resumed.lease.commit(snapshot(events + 1), [Told(events, "x" * size)], first - 1)
    with pytest.raises(ProtocolError, match=f"events {first + 1} to {events + 1} are kept"):
        await store.resume(name, resumed.lease.token, first)
    await store.close()


async def test_a_session_of_another_version_is_over_and_says_so(redis: RedisServer) -> None:
    store = RedisStore(redis.url, 60_000)
    lease = await store.open("elder")
    await lease.commit(snapshot(1), [Told(0, "zero")], -1)
    with redis.client as client:
        state = client.hget(redis_store.keys("elder")[0], "state")
        shape = state.partition(b"Snapshot:")[2][:8]
        client.hset(redis_store.keys("elder")[0], "state", state.replace(shape, b"0" * 8))
    with pytest.raises(ProtocolError, match=r"Another version .* from 0 to before 1") as refused:
        await store.resume("elder", lease.token, 0)
    assert refused.value.code == "resume_expired"
    await store.close()


async def test_nothing_outlives_the_window(redis: RedisServer) -> None:
    store = RedisStore(redis.url, 80)
    lease = await store.open("brief")
    await lease.commit(snapshot(1), [Told(0, "zero")], -1)
    await lease.leave()
    with redis.client as client:
        names = redis_store.keys("brief")
        assert all(0 < client.pttl(name) <= 80 for name in names)
        async with asyncio.timeout(20):
            while client.exists(*names):  # noqa: ASYNC110  Redis has no other way to say
                await asyncio.sleep(0.01)
    await store.close()


async def test_servers_know_whether_another_has_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_store, "ROOM_S", 0.5)
    with redis_server(tmp_path) as redis, redis.client as operator:
        one, other = RedisStore(redis.url, 60_000), RedisStore(redis.url, 60_000)
        assert not await one.room_elsewhere(True)
        assert await other.room_elsewhere(False)
        assert not await one.room_elsewhere(True)
        assert not await one.room_elsewhere(False)
        assert not await other.room_elsewhere(False), "it has said that it has none any more"
        assert not await one.room_elsewhere(True)
        await eventually(lambda: not operator.exists(f"{redis_store.SERVERS}:{one._server}"))
        assert not await other.room_elsewhere(False), "it has not been heard of for a while"
        await one.close()
        await other.close()
