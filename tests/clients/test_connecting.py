"""Addresses where no Emotrace server answers: what the person reads."""

from __future__ import annotations

import asyncio
import socket
from http import HTTPStatus

import pytest
from scripted_server import Scripted, scripted
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from emotrace_clients import ServerNotReady, ServerUnreachable, connect, connecting
from emotrace_clients.errors import EmotraceError


async def attempt(url: str) -> str:
    with pytest.raises(EmotraceError) as failure:
        async with connect(url):
            pass
    return f"{type(failure.value).__name__}: {failure.value}"


async def test_nothing_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        told = await attempt(f"ws://127.0.0.1:{unused.getsockname()[1]}/v1/stream")
    assert told.startswith("ServerUnreachable")
    assert "connection refused" in told
    assert "emotrace-serve" in told


@pytest.mark.parametrize("url", ["http://127.0.0.1/v1/stream", "localhost:8080", "ws://[bad/", ""])
async def test_not_an_address(url: str) -> None:
    told = await attempt(url)
    assert told.startswith("ServerUnreachable")
    assert "ws://127.0.0.1:8080/v1/stream" in told


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (404, ServerUnreachable, "path is usually /v1/stream"),
        (403, ServerNotReady, "refuses this client"),
        (503, ServerNotReady, "readyz"),
        (502, ServerNotReady, "readyz"),
        (504, ServerNotReady, "Try again in a moment"),
        (429, ServerNotReady, "full"),
    ],
)
async def test_a_server_that_refuses_the_handshake(
    status: int, kind: type[EmotraceError], said: str
) -> None:
    def refuse(socket: ServerConnection, request: Request) -> Response:
        return socket.respond(HTTPStatus(status), "no")

    async def never(socket: ServerConnection) -> None:
        raise AssertionError("no connection was expected")

    async with serve(never, "127.0.0.1", 0, process_request=refuse) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(kind, match=said):
            async with connect(f"ws://127.0.0.1:{port}/v1/stream"):
                pass


async def test_something_else_listens() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.org ESMTP\r\n")
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        told = await attempt(f"ws://127.0.0.1:{port}/v1/stream")
    assert "does not speak websocket" in told


async def test_a_server_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(server: Scripted) -> None:
        await server.socket.wait_closed()

    monkeypatch.setattr(connecting, "OPEN_TIMEOUT_S", 0.2)
    async with scripted(silent) as url:
        told = await attempt(url)
    assert told.startswith("ServerNotReady")
    assert "did not answer session.start" in told
