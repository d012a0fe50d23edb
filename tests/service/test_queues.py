"""The bounded queues of a session, and which work may run beside which."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from emotrace_protocol import decode_event
from emotrace_protocol.codec import encode
from emotrace_protocol.errors import ErrorCode, ProtocolError
from emotrace_protocol.events import (
    Heartbeat,
    InputAck,
    MarkerReached,
    ServiceDegraded,
    Totals,
)
from emotrace_protocol.messages import Marker, SessionResume, SessionStart
from emotrace_protocol.order import ServerConversation
from emotrace_service.batching import BatchPolicy, Item, Priority
from emotrace_service.errors import EngineClosed
from emotrace_service.lanes import Call, Lane, Lanes
from emotrace_service.metrics import Metrics
from emotrace_service.queues import (
    MAX_QUEUED_BYTES,
    MAX_QUEUED_MESSAGES,
    MAX_WAITING_BYTES,
    MAX_WAITING_EVENTS,
    Audio,
    Finish,
    Inlet,
    Outlet,
    Said,
    SlowConsumer,
)
from emotrace_service.session_store import Told

SECOND = 32_000
NOTHING = Totals(
    audio_ms=0, audio_bytes=0, messages=0, utterances=0, finals=0, revisions=0, failed=0, events=0
)


def audio(seconds: float, arrival: float = 0.0) -> Audio:
    return Audio((bytes(int(seconds * SECOND)),), arrival, (0,))


async def forget(events: Sequence[Told]) -> None:
    """Nothing is kept."""


def outlet(keep: Callable[[Sequence[Told]], Awaitable[None]] = forget) -> Outlet:
    conversation = ServerConversation()
    conversation.receive(SessionStart())
    conversation.counts["session.started"] = 1  # as if it had been sent
    return Outlet(conversation, Metrics(), keep, lambda event: None)


async def test_the_inlet_is_bounded_in_audio_and_keeps_what_it_has() -> None:
    inlet = Inlet(SECOND, 2_000)
    inlet.put(audio(1.5))
    assert inlet.half_full
    with pytest.raises(ProtocolError, match="1500 ms of audio waited") as refused:
        inlet.put(audio(0.6))
    assert refused.value.code is ErrorCode.RATE_LIMITED
    assert refused.value.retry_after_ms == 1_500
    assert await inlet.get() == audio(1.5)
    assert inlet.queued_ms == 0
    inlet.put(audio(2.0))


async def test_a_client_at_the_pace_of_time_does_not_pay_for_a_server_that_is_behind() -> None:
    inlet = Inlet(SECOND, 2_000)
    for second in range(130):
        inlet.put(audio(1.0, float(second)))
    assert inlet.queued_ms == 130_000
    inlet.put(audio(1.0, 130.0))
    with pytest.raises(ProtocolError, match="behind") as refused:
        inlet.put(audio(1.0, 131.0))
    assert refused.value.code is ErrorCode.CAPACITY
    assert inlet.queued_ms == 131_000


async def test_the_inlet_is_bounded_in_messages() -> None:
    inlet = Inlet(SECOND, 2_000)
    for _ in range(MAX_QUEUED_MESSAGES):
        inlet.put(Said(Marker(id="x"), 0.0, 0, 1))
    with pytest.raises(ProtocolError, match="messages waited"):
        inlet.put(Said(Marker(id="x"), 0.0, 0, 1))


async def test_messages_take_their_part_of_the_bytes_that_may_wait() -> None:
    inlet = Inlet(SECOND, 2_000)
    picture = Said(Marker(id="as if it were one"), 0.0, 0, 700_000)
    for _ in range(MAX_QUEUED_BYTES // picture.size):
        inlet.put(picture)
    with pytest.raises(ProtocolError, match="bytes of messages waited") as refused:
        inlet.put(picture)
    assert refused.value.code is ErrorCode.RATE_LIMITED
    assert await inlet.get() == picture
    inlet.put(picture)


async def test_audio_that_waits_is_taken_together_but_not_past_a_message() -> None:
    inlet = Inlet(SECOND, 10_000)
    for arrival in (1.0, 2.0):
        inlet.put(audio(0.1, arrival))
    inlet.put(Said(Marker(id="x"), 3.0, 2, 1))
    for arrival in range(4, 9):
        inlet.put(audio(0.1, arrival))
    first, said, second, third = [await inlet.get() for _ in range(4)]
    assert first == Audio((bytes(3_200), bytes(3_200)), 1.0, (0, 0))
    assert isinstance(said, Said)
    assert isinstance(second, Audio)
    assert isinstance(third, Audio)
    assert (len(second.messages), second.arrival) == (3, 4.0)
    assert (len(third.messages), third.arrival) == (2, 7.0)
    assert inlet.queued_ms == 0


async def test_nothing_is_taken_in_after_the_finish() -> None:
    inlet = Inlet(SECOND, 1_000)
    inlet.put(Finish(1.0))
    inlet.put(audio(5.0))
    inlet.put(Finish(2.0, ProtocolError(ErrorCode.INTERNAL, "no")))
    assert await inlet.get() == Finish(1.0)
    assert inlet.finish == Finish(1.0)


async def never() -> None:
    pytest.fail("there was always something to send")


async def test_events_keep_their_order_also_where_many_write_and_the_reader_is_slow() -> None:
    out = outlet()
    sent: list[str] = []

    async def send(text: str) -> None:
        await asyncio.sleep(0)
        sent.append(text)

    async def write(name: str) -> None:
        for _ in range(MAX_WAITING_EVENTS):
            await out.emit(MarkerReached, id=name, audio_ms=0)

    async with asyncio.TaskGroup() as group:
        sending = group.create_task(out.run(send, send_timeout_s=9, heartbeat_s=9, heartbeat=never))
        writers = [group.create_task(write(name)) for name in "abc"]
        await asyncio.gather(*writers)
        await out.end(None, "client", lambda: NOTHING)
        await out.emit(MarkerReached, id="too late", audio_ms=0)
        await sending
    events = [decode_event(text) for text in sent]
    assert [event.sequence for event in events] == list(range(3 * MAX_WAITING_EVENTS + 1))
    assert events[-1].type == "session.ended"


async def test_what_is_told_while_a_session_is_taken_up_follows_that() -> None:
    conversation = ServerConversation()
    conversation.receive(SessionResume(session="s", token="t", sequence=3))
    conversation.resume(4, {"session.started": 1}, acknowledged=2)
    kept: list[Told] = []
    slow = asyncio.Event()

    async def keep(events: Sequence[Told]) -> None:
        await slow.wait()
        kept.extend(events)

    out = Outlet(conversation, Metrics(), keep, lambda event: None)
    missed = Told(3, encode(Heartbeat(sequence=3, audio_ms=0)))
    again = asyncio.create_task(out.go_on([missed], 7, "new"))
    await asyncio.sleep(0)
    meanwhile = asyncio.create_task(out.emit(ServiceDegraded, level=1, message="less"))
    await asyncio.sleep(0)
    slow.set()
    await asyncio.gather(again, meanwhile)
    assert [one.sequence for one in kept] == [4, 5]
    lasting = decode_event(kept[0].kept)
    assert isinstance(lasting, InputAck)
    assert lasting.messages == 7
    sent: list[str] = []

    async def send(text: str) -> None:
        sent.append(text)
        if len(sent) == 3:
            raise SlowConsumer

    with pytest.raises(SlowConsumer):
        await out.run(send, send_timeout_s=9, heartbeat_s=9, heartbeat=never)
    types = [decode_event(text).type for text in sent]
    assert types == ["heartbeat", "session.resumed", "service.degraded"]


@pytest.mark.parametrize("why", [asyncio.CancelledError, EngineClosed])
async def test_of_a_step_that_is_broken_off_nothing_is_kept_unless_it_is_the_end(
    why: type[BaseException],
) -> None:
    kept: list[Told] = []

    async def keep(events: Sequence[Told]) -> None:
        kept.extend(events)

    out = outlet(keep)

    async def broken() -> None:
        async with out.step():
            await out.emit(MarkerReached, id="half", audio_ms=0)
            raise why

    with pytest.raises(why):
        await broken()
    await out.emit(ServiceDegraded, level=1, message="less")
    await out.leave(ProtocolError(ErrorCode.GOING_AWAY, "stopping"))
    assert kept == []
    await out.end(None, "client", lambda: NOTHING)
    types = [decode_event(one.text).type for one in kept]
    assert types == ["marker.reached", "service.degraded", "session.ended"]


async def test_who_writes_and_who_listens_wait_while_too_much_waits() -> None:
    out = outlet()
    for _ in range(MAX_WAITING_EVENTS):
        await out.emit(MarkerReached, id="x", audio_ms=0)
    await out.room()
    one_more = asyncio.create_task(out.emit(MarkerReached, id="x", audio_ms=0))
    await asyncio.sleep(0)
    listening = asyncio.create_task(out.room())
    await asyncio.sleep(0)
    assert not one_more.done()
    assert not listening.done()

    async def send(_: str) -> None:
        await asyncio.sleep(0)

    async def heartbeat() -> None:
        pytest.fail("there is always something to send")

    sending = asyncio.create_task(
        out.run(send, send_timeout_s=9, heartbeat_s=9, heartbeat=heartbeat)
    )
    await asyncio.gather(one_more, listening)
    sending.cancel()


@pytest.mark.parametrize(("letter", "held"), [("x", 1), ("\N{GRINNING FACE}", 4)])
async def test_what_waits_is_bounded_in_bytes_of_memory(letter: str, held: int) -> None:
    out = outlet()
    fit = MAX_WAITING_BYTES // (100_000 * held)
    for _ in range(fit):
        await out.emit(MarkerReached, id=letter * 100_000, audio_ms=0)
    one_more = asyncio.create_task(out.emit(MarkerReached, id=letter * 100_000, audio_ms=0))
    await asyncio.sleep(0)
    assert not one_more.done()
    one_more.cancel()


async def test_a_reader_that_does_not_read() -> None:
    out = outlet()
    await out.emit(MarkerReached, id="x", audio_ms=0)

    async def stuck(_: str) -> None:
        await asyncio.Event().wait()

    async def heartbeat() -> None:
        await out.emit(Heartbeat, audio_ms=0)

    with pytest.raises(SlowConsumer):
        await out.run(stuck, send_timeout_s=0.001, heartbeat_s=9, heartbeat=heartbeat)


def item(kind: str, loop: asyncio.AbstractEventLoop, deadline: float | None = None) -> Item[Call]:
    call = Call((), loop.create_future(), loop)
    return Item(kind, call, Priority.FINAL, arrival=0.0, deadline=deadline)


async def test_work_beside_runs_one_batch_a_lane_and_leaves_a_thread() -> None:
    loop = asyncio.get_running_loop()
    one = BatchPolicy(max_items=1, max_wait=0.0)
    lanes = Lanes(
        (
            Lane({"final": one}, 9),
            Lane({"interim": one}, 9, beside=True),
            Lane({"words": one}, 9, beside=True),
        ),
        threads=2,
    )
    for kind in ("interim", "interim", "words", "final", "final"):
        lanes.add(item(kind, loop))

    def kinds() -> str | None:
        batch = lanes.take(1.0)
        return batch[0].kind if batch else None

    assert [kinds() for _ in range(4)] == ["final", "final", "interim", None]
    assert lanes.wait(1.0) is None
    lanes.done("interim")
    assert kinds() == "interim"
    lanes.done("interim")
    assert [kinds(), kinds()] == ["words", None]
    lanes.add(item("interim", loop, deadline=2.0))
    assert len(lanes.expired(3.0)) == 1
    lanes.add(item("final", loop))
    assert len(lanes.rest()) == 1
