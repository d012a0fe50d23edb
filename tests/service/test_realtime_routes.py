"""`/v1/realtime` of a real server: who may connect, and with which address."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from live import LiveServer, live_server
from realtime import connected, event
from websockets.exceptions import ConnectionClosed, InvalidStatus


@pytest.fixture(scope="module")
def server(toy: Path) -> Iterator[LiveServer]:
    with live_server(toy) as running:
        yield running


async def test_the_beta_is_known_by_its_subprotocol_or_header(server: LiveServer) -> None:
    async with connected(server, protocols=("realtime", "openai-beta.realtime-v1")) as socket:
        assert (await event(socket))["session"]["input_audio_format"] == "pcm16"
    async with connected(server, **{"OpenAI-Beta": "realtime=v1"}) as socket:
        assert "input_audio_format" in (await event(socket))["session"]


async def test_keys_of_other_kinds_mean_nothing_on_an_open_server(server: LiveServer) -> None:
    async with connected(server, Authorization="Bearer sk-abc") as socket:
        assert (await event(socket))["type"] == "session.created"


async def test_a_foreign_page_is_refused(server: LiveServer) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with connected(server, Origin="https://evil.example"):
            pass
    assert refused.value.response.status_code == 403


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("?intent=conversation", "intent"),
        ("?call_id=rtc_1", "call_id"),
        ("?model=somebodys-bundle", "session.emotrace.bundle"),
    ],
)
async def test_addresses_that_are_refused(server: LiveServer, query: str, param: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with connected(server, query):
            pass
    assert refused.value.response.status_code == 422
    assert json.loads(refused.value.response.body or b"")["error"]["param"] == param


@pytest.mark.parametrize(
    ("query", "warned"),
    [
        ("?intent=transcription&model=toy", []),
        ("?model=gpt-4o-transcribe", ["model"]),
        ("?api-version=2025&model=toy", ["api-version"]),
    ],
)
async def test_addresses_that_are_taken(server: LiveServer, query: str, warned: list[str]) -> None:
    async with connected(server, query) as socket:
        created = await event(socket)
        assert created["session"]["emotrace"]["bundle"]["name"] == "toy"
        for param in warned:
            told = await event(socket)
            assert (told["type"], told["param"]) == ("emotrace.warning", param)


async def test_a_server_that_stops_closes_connections_that_wait_for_audio(toy: Path) -> None:
    with ExitStack() as stack:
        server = await asyncio.to_thread(stack.enter_context, live_server(toy))
        async with connected(server) as socket:
            await event(socket)
            await asyncio.to_thread(stack.close)
            with pytest.raises(ConnectionClosed):
                await event(socket)
            assert socket.close_code == 1012
