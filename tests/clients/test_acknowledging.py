"""What is kept until it is acknowledged: sound by the client, events by the server."""

from __future__ import annotations

import asyncio

import pytest
from resuming_server import SECOND, KeptSession, on_to_the_end, read, resuming

from emotrace_clients import connect
from emotrace_clients import line as line_module
from emotrace_protocol import decode_message
from emotrace_protocol.events import Heartbeat
from emotrace_protocol.messages import Ack


async def test_sending_waits_where_too_much_is_not_acknowledged() -> None:
    acknowledge = asyncio.Event()

    async def first(kept: KeptSession) -> None:
        await kept.begin()
        echo = asyncio.create_task(kept.echo(10_000))
        await acknowledge.wait()
        await kept.acknowledge()
        await echo

    kept = KeptSession(buffer_ms=2_000)
    async with resuming(kept, [first]) as url, connect(url) as session:
        sending = asyncio.create_task(session.send_audio(3 * SECOND))
        await asyncio.wait({sending}, timeout=0.3)
        assert not sending.done()
        assert len(kept.audio) == 2 * len(SECOND)
        acknowledge.set()
        await asyncio.wait_for(sending, 5)
    assert kept.audio == 3 * SECOND


async def test_sound_is_kept_while_there_is_no_connection() -> None:
    back = asyncio.Event()

    async def first(kept: KeptSession) -> None:
        await kept.begin()
        kept.cut()

    async def second(kept: KeptSession) -> None:
        await back.wait()
        await on_to_the_end(kept)

    broke = asyncio.Event()
    kept = KeptSession()
    async with (
        resuming(kept, [first, second]) as url,
        connect(url, on_connection=lambda change: broke.set()) as session,
    ):
        await broke.wait()
        async with asyncio.timeout(5):
            await session.send_audio(20 * SECOND)  # far more than is ever under way
        assert "reconnecting" in repr(session)
        back.set()
        await session.end()
        await read(session)
    assert kept.audio == 20 * SECOND


async def test_events_are_acknowledged_while_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_module, "ACK_EVERY_S", 0.02)

    async def first(kept: KeptSession) -> None:
        await kept.begin()
        for at in range(5):
            await kept.say(Heartbeat, audio_ms=at)
            while True:
                message, _ = decode_message(str(await kept.socket.recv()))
                assert isinstance(message, Ack)
                if message.sequence == at + 1:
                    break
        with pytest.raises(TimeoutError):  # nothing came, so there is nothing to say
            await asyncio.wait_for(kept.socket.recv(), 0.1)
        quiet.set()
        await kept.serve_until_end()

    quiet = asyncio.Event()
    async with resuming(KeptSession(), [first]) as url, connect(url) as session:
        reading = asyncio.create_task(read(session))
        await asyncio.wait_for(quiet.wait(), 10)
        await session.end()
        assert len(await reading) == 7
