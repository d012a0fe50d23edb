"""The client without async: same names, same events, same errors."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Iterator

import pytest
from scripted_server import Scripted, scripted

from emotrace_clients import Dialogue, ServerUnreachable, Session, connect, sync


@pytest.fixture
def url() -> Iterator[str]:
    """The address of a polite server, in a thread of its own."""
    address: list[str] = []
    ready, done = threading.Event(), threading.Event()

    async def polite(server: Scripted) -> None:
        await server.start()
        await server.serve_until_end()

    async def run() -> None:
        async with scripted(polite) as at:
            address.append(at)
            ready.set()
            await asyncio.to_thread(done.wait)

    thread = threading.Thread(target=asyncio.run, args=[run()])
    thread.start()
    assert ready.wait(10)
    yield address[0]
    done.set()
    thread.join(10)


def test_a_session_from_start_to_totals(url: str) -> None:
    with sync.connect(url, audio=16_000, speakers=("Ann", "Ben")) as session:
        assert session.started.speakers == ("Ann", "Ben")
        session.send_audio(bytes(64_000))
        session.send_text("hello", speaker="Bot")
        assert session.marker("m").id == "m"
        session.ack(0)
        session.end()
        types = [event.type for event in session]
    assert types == ["session.started", "marker.reached", "session.ended"]
    assert session.totals is not None
    assert session.totals.audio_bytes == 64_000
    assert not any(thread.name == "emotrace" for thread in threading.enumerate())


async def test_it_works_where_a_loop_runs_already(url: str) -> None:
    """As in a notebook, whose cells run in a loop: this test does."""
    assert asyncio.get_running_loop().is_running()
    with sync.connect(url, speakers=("Ann",)) as session:
        session.send_audio(bytes(3_200))
        session.end()
        dialogue = Dialogue.from_events(session)
    assert dialogue.totals is not None
    assert dialogue.totals.audio_bytes == 3_200


def test_a_session_tells_what_it_is(url: str) -> None:
    waiting = sync.connect(url)
    assert repr(waiting) == "<Session: not open>"
    with waiting as session:
        assert repr(session) == "<Session s-1: open, bundle toy 0, speakers A, 1 event>"
        session.end()
        assert len(list(session)) == 2
    assert "over" in repr(session)


def test_errors_are_those_of_the_asynchronous_client() -> None:
    with (
        pytest.raises(ServerUnreachable, match="emotrace-serve"),
        sync.connect("ws://127.0.0.1:9/v1/stream"),
    ):
        pass
    assert not any(thread.name == "emotrace" for thread in threading.enumerate())


def test_a_session_is_used_inside_its_block() -> None:
    with pytest.raises(RuntimeError, match="inside `with connect"):
        sync.connect("ws://127.0.0.1:9/").end()


def test_names_and_arguments_are_the_same() -> None:
    def shape(function: object) -> list[tuple[str, object]]:
        assert callable(function)
        return [(p.name, p.default) for p in inspect.signature(function).parameters.values()]

    assert shape(sync.connect) == shape(connect)
    for name in ("send_audio", "send_text", "marker", "ack", "end"):
        assert shape(getattr(sync.Session, name)) == shape(getattr(Session, name)), name
    for name in ("started", "totals"):
        assert hasattr(sync.Session, name)
