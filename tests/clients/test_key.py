"""A server that asks for a key, and clients with and without one."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes import toy_bundle
from live import LiveServer, demo_pcm, live_server, pieces

from emotrace_clients import ServerNotReady, SessionFailed, connect
from emotrace_clients.connecting import KEY_VARIABLE
from emotrace_clients.sync import connect as connect_now
from emotrace_service.identity import entry, new_key

KEY = new_key()
AUDIO, PCM = demo_pcm(4.0)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("keys")
    keys = folder / "keys.toml"
    keys.write_text(entry("chatbot", KEY, 3))
    with live_server(toy_bundle(folder / "toy"), workers="threads", keys=keys) as running:
        yield running


@pytest.mark.parametrize("given", ["argument", "environment"])
async def test_a_key_lets_in_and_back_in(
    server: LiveServer, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    options: dict[str, Any] = {"key": KEY} if given == "argument" else {}
    if given == "environment":
        monkeypatch.setenv(KEY_VARIABLE, KEY)
    chunks = pieces(PCM, 16_000)
    async with connect(server.stream_url, audio=AUDIO, **options) as session:
        cut = random.Random(0).randrange(2, len(chunks))
        for number, chunk in enumerate(chunks):
            await session.send_audio(chunk)
            if number == cut:
                session._line._socket.transport.abort()
        await session.end()
        heard = [event.type async for event in session]
    assert "session.resumed" in heard
    assert heard[-1] == "session.ended"


def test_the_client_without_async_has_it_too(server: LiveServer) -> None:
    with connect_now(server.stream_url, key=KEY) as session:
        session.end()
        assert [event.type for event in session][-1] == "session.ended"


async def test_without_or_with_a_wrong_one_the_cure_is_named(
    server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    with pytest.raises(SessionFailed, match="key"):
        async with connect(server.stream_url):
            pass
    with pytest.raises(ServerNotReady, match=r"does not know this key.*EMOTRACE_API_KEY") as wrong:
        async with connect(server.stream_url, key=new_key()):
            pass
    assert KEY not in str(wrong.value)


def test_a_server_on_the_same_machine_is_not_disturbed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from emotrace_service.settings import load_settings

    monkeypatch.setenv(KEY_VARIABLE, KEY)
    assert KEY not in repr(load_settings())
