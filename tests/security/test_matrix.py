"""Who is let in, row by row, at a real server with keys and one listed origin.

Each row is one attempt; what the server must answer stands beside it: an HTTP status before the
websocket opens (101: it opens), or the code of the error that the client reads.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from cluster import Replica, replica
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from emotrace_service.client_secrets import PREFIX as SECRET_PREFIX
from emotrace_service.identity import Caller, Keys, digest_of, entry, new_key
from emotrace_service.tickets import LIFE_S, NotedHere, Tickets

KEY, ONE_SESSION = new_key(), new_key()
LISTED = "https://good.example"
STREAM, REALTIME = "/v1/stream", "/v1/realtime?intent=transcription"
POSTS = ("/v1/tickets", "/v1/realtime/client_secrets", "/v1/audio/analyze")
# What would be a line of its own, or paint the terminal, if it were written as it came.
INJECTED = 'canary\r\n{"level": "info", "event": "all is well"}\x1b[31m'


def with_key(key: str = KEY) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@dataclass(frozen=True)
class Server:
    replica: Replica
    keys: Keys

    def address(self, path: str) -> str:
        return self.replica.url.replace("http", "ws") + path

    def ticket(self, issued_at: float) -> str:
        keys = self.keys
        caller = keys.named("anna")
        assert caller is not None
        return Tickets(keys, NotedHere(time.monotonic), lambda: issued_at).issue(caller).value

    def fresh_ticket(self) -> str:
        return self.ticket(time.time())


@pytest.fixture(scope="module")
def server(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("matrix")
    file = folder / "keys.toml"
    file.write_text(entry("anna", KEY, 100) + "\n" + entry("ben", ONE_SESSION, 1))
    settings = {"EMOTRACE_KEYS": str(file), "EMOTRACE_ORIGINS": json.dumps([LISTED])}
    with replica(toy, folder, **settings) as running:
        yield Server(running, Keys.load(file))


async def opened(server: Server, path: str, headers: list[tuple[str, str]]) -> int:
    """The status that a websocket's handshake is answered with."""
    try:
        async with connect(
            server.address(path), additional_headers=headers, compression=None
        ) as socket:
            await socket.close()
    except InvalidStatus as refused:
        return refused.response.status_code
    return 101


async def first_answer(socket: ClientConnection, **start: Any) -> str:
    """The type of what the server says first, or the code of its error; then the session ends."""
    await socket.send(json.dumps({"type": "session.start", **start}))
    event = json.loads(await socket.recv())
    if event["type"] == "session.started":
        await ended(socket)
    return str(event.get("code", event["type"]))


async def ended(socket: ClientConnection) -> None:
    await socket.send('{"type": "session.end"}')
    async for _ in socket:
        pass
    assert socket.close_code == 1000


async def greeted(server: Server, headers: dict[str, str] | None = None, **start: Any) -> str:
    async with connect(
        server.address(STREAM), additional_headers=headers, compression=None
    ) as socket:
        return await first_answer(socket, **start)


# Of a websocket that comes with a key: which pages may open it.
ORIGINS: dict[str, tuple[str | None, int]] = {
    "absent": (None, 101),
    "listed": (LISTED, 101),
    "this machine's own": ("http://localhost:3000", 101),
    "empty": ("", 403),
    "null": ("null", 403),
    "evil": ("https://evil.example", 403),
    "file": ("file://", 403),
    "extension": ("chrome-extension://abcdefghijklmnop", 403),
    "listed name below another": ("https://good.example.evil.example", 403),
    "below the listed name": ("https://evil.good.example", 403),
    "listed name as the end of another": ("https://notgood.example", 403),
    "listed name in the credentials": ("https://good.example@evil.example", 403),
    "listed name in the fragment": ("https://evil.example#https://good.example", 403),
    "another port": ("https://good.example:8443", 403),
    "the usual port, written out": ("https://good.example:443", 403),  # browsers leave it out
    "another scheme": ("http://good.example", 403),
    "upper case": ("HTTPS://GOOD.EXAMPLE", 403),  # browsers write small letters
    "a path": ("https://good.example/", 403),
    "two in one": ("https://good.example, https://evil.example", 403),
    "localhost below another": ("http://localhost.evil.example", 403),
    "an address as a name's beginning": ("http://127.0.0.1.evil.example", 403),
    "localhost in the credentials": ("http://localhost:80@evil.example", 403),
    "no host": ("https://", 403),
}


@pytest.mark.parametrize("row", ORIGINS)
async def test_an_origin(server: Server, row: str) -> None:
    origin, status = ORIGINS[row]
    headers = [] if origin is None else [("Origin", origin)]
    assert await opened(server, STREAM, [*with_key().items(), *headers]) == status


@pytest.mark.parametrize("path", [REALTIME, *POSTS])
async def test_an_evil_page_reaches_nothing_else(server: Server, path: str) -> None:
    headers = with_key() | {"Origin": "https://evil.example"}
    if path == REALTIME:
        assert await opened(server, path, list(headers.items())) == 403
        return
    async with httpx.AsyncClient() as http:
        answer = await http.post(server.replica.url + path, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "origin_forbidden")
    assert "access-control-allow-origin" not in answer.headers


# What a proxy might have said, and did not: an evil page cannot name itself the server's own.
FORWARDED = {
    "host": {"Host": "evil.example"},
    "x-forwarded-host": {"X-Forwarded-Host": "evil.example"},
    "forwarded": {"Forwarded": "host=evil.example;proto=https;for=127.0.0.1"},
    "x-forwarded-for": {"X-Forwarded-For": "127.0.0.1", "X-Real-IP": "127.0.0.1"},
    "x-original-url": {"X-Original-URL": "/healthz", "X-Rewrite-URL": "/healthz"},
}


@pytest.mark.parametrize("row", FORWARDED)
async def test_what_a_proxy_may_say_lets_no_page_in(server: Server, row: str) -> None:
    headers = {**with_key(), "Origin": "https://evil.example", **FORWARDED[row]}
    async with httpx.AsyncClient() as http:
        answer = await http.post(f"{server.replica.url}/v1/tickets", headers=headers)
    assert answer.status_code == 403


@dataclass
class Attempt:
    """Of a client without an origin. secret: given the server, what it presents as its token."""

    answer: str
    secret: Callable[[Server], str | None]


def foreign_ticket(_: Server) -> str:
    """Another server's, with a key of the same name."""
    caller = Caller("anna", 100)
    keys = Keys([(digest_of(new_key()), caller)])
    return Tickets(keys, NotedHere(time.monotonic), time.time).issue(caller).value


def client_secret(server: Server) -> str:
    """Made for the other endpoint."""
    answer = httpx.post(f"{server.replica.url}/v1/realtime/client_secrets", headers=with_key())
    value = str(answer.json()["value"])
    assert value.startswith(SECRET_PREFIX)
    return value


TOKENS = {
    "a key": Attempt("session.started", lambda _: KEY),
    "a ticket": Attempt("session.started", Server.fresh_ticket),
    "none": Attempt("unauthenticated", lambda _: None),
    "an empty one": Attempt("unauthenticated", lambda _: ""),
    "a guess": Attempt("unauthenticated", lambda _: new_key()),
    "what the server keeps of a key": Attempt("unauthenticated", lambda _: digest_of(KEY)),
    "a key's beginning": Attempt("unauthenticated", lambda _: KEY[:-1]),
    "a key and more": Attempt("unauthenticated", lambda _: KEY + "A"),
    "a key in another alphabet": Attempt("unauthenticated", lambda _: KEY.replace("e", "е", 1)),
    "an expired ticket": Attempt(
        "unauthenticated", lambda server: server.ticket(time.time() - LIFE_S - 1)
    ),
    "another server's ticket": Attempt("unauthenticated", foreign_ticket),
    "the other endpoint's secret": Attempt("unauthenticated", client_secret),
    "a ticket without its signature": Attempt(
        "unauthenticated", lambda server: server.fresh_ticket().partition(".")[0]
    ),
}


@pytest.mark.parametrize("row", TOKENS)
async def test_a_token_in_the_first_message(server: Server, row: str) -> None:
    attempt = TOKENS[row]
    secret = await asyncio.to_thread(attempt.secret, server)
    assert await greeted(server, token=secret) == attempt.answer


# A header that says nothing leaves the question to the first message.
UNSAYABLE = {"none", "an empty one", "a key in another alphabet"}


@pytest.mark.parametrize("row", sorted(set(TOKENS) - UNSAYABLE))
async def test_a_token_in_the_header(server: Server, row: str) -> None:
    attempt = TOKENS[row]
    secret = await asyncio.to_thread(attempt.secret, server)
    expected = 101 if attempt.answer == "session.started" else 401
    headers = {"Authorization": f"Bearer {secret}"}
    assert await opened(server, STREAM, list(headers.items())) == expected


@pytest.mark.parametrize("scheme", ["Basic", "Digest", "Bearer"])
async def test_a_header_of_another_kind_is_no_key(server: Server, scheme: str) -> None:
    """HTTP has no first message, so it is refused at once."""
    value = f"{scheme} {KEY}" if scheme != "Bearer" else "Bearer"
    async with httpx.AsyncClient() as http:
        url = f"{server.replica.url}/v1/tickets"
        answer = await http.post(url, headers={"Authorization": value})
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthenticated")


async def test_a_ticket_is_used_once_wherever_it_is_shown(server: Server) -> None:
    ticket = server.fresh_ticket()
    assert await greeted(server, with_key(ticket)) == "session.started"
    assert await greeted(server, token=ticket) == "ticket_used"
    assert await opened(server, STREAM, list(with_key(ticket).items())) == 401
    assert await opened(server, REALTIME, list(with_key(ticket).items())) == 401


@pytest.mark.parametrize("path", POSTS[:2])
async def test_a_ticket_begets_nothing_that_outlives_it(server: Server, path: str) -> None:
    async with httpx.AsyncClient() as http:
        answer = await http.post(server.replica.url + path, headers=with_key(server.fresh_ticket()))
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthenticated")


@pytest.mark.parametrize("name", ["token", "Access_Token", "api_key", "KEY", "ticket"])
@pytest.mark.parametrize("path", [STREAM, *POSTS])
async def test_a_secret_in_the_address(server: Server, path: str, name: str) -> None:
    if path == STREAM:
        assert await opened(server, f"{path}?{name}={KEY}", []) == 400
        return
    async with httpx.AsyncClient() as http:
        answer = await http.post(f"{server.replica.url}{path}?{name}={KEY}", headers=with_key())
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "token_in_query")


async def resumed(server: Server, session: str, token: str) -> str:
    async with connect(server.address(STREAM), compression=None) as socket:
        message = {"type": "session.resume", "session": session, "token": token, "sequence": 1}
        await socket.send(json.dumps(message))
        event = json.loads(await socket.recv())
    return str(event.get("code", event["type"]))


async def test_another_ones_session_is_as_unknown_as_none(server: Server) -> None:
    names, tokens = [], []
    for _ in range(2):
        socket = await connect(server.address(STREAM), compression=None)
        await socket.send(json.dumps({"type": "session.start", "token": KEY, "resume": True}))
        event = json.loads(await socket.recv())
        names.append(event["session"])
        tokens.append(event["resume"]["token"])
        socket.transport.abort()
    for session, token in (
        (names[0], tokens[1]),  # another session's token
        (names[0], ""),
        (names[0], tokens[0][:-1]),
        ("0" * 16, tokens[0]),
    ):
        assert await resumed(server, session, token) == "session_unknown"
    assert await resumed(server, names[0], tokens[0]) == "session.resumed"


RATES: dict[str, Callable[[Server], Awaitable[None]]] = {}


def rate(row: Callable[[Server], Awaitable[None]]) -> Callable[[Server], Awaitable[None]]:
    RATES[row.__name__] = row
    return row


async def first_started(socket: ClientConnection, key: str) -> None:
    await socket.send(json.dumps({"type": "session.start", "token": key}))
    assert json.loads(await socket.recv())["type"] == "session.started"


@rate
async def a_second_session_of_a_key_that_has_one(server: Server) -> None:
    async with connect(server.address(STREAM), compression=None) as first:
        await first_started(first, ONE_SESSION)
        for at in ("10.0.0.1", "10.0.0.2", "unknown, 10.0.0.3"):  # addresses make no difference
            headers = {"X-Forwarded-For": at, **with_key(ONE_SESSION)}
            assert await greeted(server, headers) == "concurrency_limit"
        assert await greeted(server, token=KEY) == "session.started"
        await ended(first)


@rate
async def a_file_beside_the_only_session(server: Server) -> None:
    async with connect(server.address(STREAM), compression=None) as first:
        await first_started(first, ONE_SESSION)
        async with httpx.AsyncClient() as http:
            url = f"{server.replica.url}/v1/audio/analyze"
            answer = await http.post(url, headers=with_key(ONE_SESSION), files={"file": b"x"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "concurrency_limit")
        await ended(first)


@rate
async def six_thousand_messages_at_once(server: Server) -> None:
    async with connect(server.address(STREAM), compression=None) as socket:
        await first_started(socket, KEY)
        with suppress(ConnectionClosed):
            for _ in range(6_000):
                await socket.send('{"type": "ack", "sequence": 0}')
        with suppress(ConnectionClosed):
            async for _ in socket:
                pass
        assert socket.close_code == 4429
    assert await greeted(server, token=KEY) == "session.started"


@rate
async def a_body_beyond_what_is_read(server: Server) -> None:
    async with httpx.AsyncClient() as http:
        url = f"{server.replica.url}/v1/realtime/client_secrets"
        answer = await http.post(url, headers=with_key(), content=bytes(200_000))
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "message_too_large")


@pytest.mark.parametrize("row", RATES)
async def test_a_limit(server: Server, row: str) -> None:
    await RATES[row](server)


async def test_nothing_that_a_client_says_becomes_a_line_of_the_log(server: Server) -> None:
    """Every row above has left its lines by now; these try hardest."""
    hostile = {"User-Agent": "canary ]0;", "X-Request-ID": "canary", "Referer": "canary"}
    async with httpx.AsyncClient() as http:
        with suppress(httpx.TransportError):  # what is no header ends the connection
            await http.get(server.replica.url, headers={"User-Agent": "canary\x1b[31m"})
        for path in ("/canary%0d%0a{}", "/v1/models/canary%1b[2J", "/v1/audio/analyze?canary=1"):
            await http.get(server.replica.url + path, headers=hostile)
        await http.post(
            f"{server.replica.url}/v1/audio/analyze",
            headers=hostile | with_key(),
            files={"file": (INJECTED, b"x")},
            data={"start": INJECTED},
        )
    for start in (
        {"token": INJECTED},
        {"token": KEY, "bundle": INJECTED},
        {"token": KEY, "purpose": INJECTED, "speakers": [INJECTED[:6]]},
        {"token": KEY, INJECTED: 1},
        {"token": KEY, "language": INJECTED},
    ):
        await greeted(server, hostile, **start)
    await resumed(server, INJECTED, INJECTED)
    log = server.replica.log.read_text()
    lines = [line for line in log.splitlines() if line.startswith("{")]
    assert len(lines) > 20
    for line in lines:
        assert {"event", "level", "timestamp"} <= set(json.loads(line)), line
    for needle in ("canary", "all is well", "\x1b", "\\u001b", KEY, ONE_SESSION):
        assert needle not in log, needle
