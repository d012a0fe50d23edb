"""Rows 1 to 17 of docs/faults.md: who comes in, and how a session begins."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
from cluster import Replica, replica
from faults.raw import BINARY, Wire, all_gone, frame, handshake, session, wire

from emotrace_protocol.messages import Marker, ProhibitedPurpose, SessionEnd, SessionStart
from emotrace_service.identity import entry, new_key

KEY, OTHER = new_key(), new_key()
CONNECTIONS = 20
RACES = [5_000, pytest.param(10_000, marks=pytest.mark.long)]  # of a newcomer with all at its side


@pytest.fixture(scope="module")
def guarded(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    """A server with two keys and few places."""
    folder = tmp_path_factory.mktemp("guarded")
    keys = folder / "keys.toml"
    keys.write_text(entry("anna", KEY, 1_000) + "\n" + entry("ben", OTHER, 10))
    with replica(
        toy,
        folder,
        EMOTRACE_KEYS=str(keys),
        EMOTRACE_MAX_SESSIONS=str(CONNECTIONS),
        EMOTRACE_NEW_SESSIONS_A_SECOND="10000",
    ) as running:
        yield running


def authorization(key: str) -> str:
    return f"Authorization: Bearer {key}"


async def refusal(server: Replica, *headers: str, path: str = "/v1/stream") -> tuple[int, str]:
    """Status and code of a handshake that fails."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(handshake(*headers, path=path))
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    return int(head.split()[1]), json.loads(body)["error"]["code"]


async def greeted(server: Replica, start: SessionStart, *headers: str) -> tuple[list[str], int]:
    """Types or error codes of what the server says, and the close code."""
    async with wire(server, *headers) as client:
        await client.say(start)
        await client.say(SessionEnd())
        code = await client.rest()
    assert code is not None
    return [event.get("code", event["type"]) for event in client.heard], code


async def test_row_001_no_token(guarded: Replica) -> None:
    assert await greeted(guarded, SessionStart()) == (["unauthenticated"], 4401)
    async with httpx.AsyncClient() as http:
        answer = await http.post(f"{guarded.url}/v1/audio/analyze", files={"file": b"x"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthenticated")


async def test_row_002_nothing_is_said(guarded: Replica) -> None:
    async with wire(guarded) as client:
        assert await client.rest() == 4408
    assert client.errors() == ["start_timeout"]


@pytest.mark.parametrize("key", ["emk_guess", KEY[:-1], KEY + "x", KEY.lower(), ""])
async def test_row_003_a_wrong_key(guarded: Replica, key: str) -> None:
    assert await greeted(guarded, SessionStart(token=key)) == (["unauthenticated"], 4401)
    assert await refusal(guarded, authorization(key or "x")) == (401, "unauthenticated")


async def test_row_004_a_ticket_that_is_used_twice(guarded: Replica) -> None:
    async with httpx.AsyncClient() as http:
        name, _, value = authorization(KEY).partition(": ")
        answer = await http.post(f"{guarded.url}/v1/tickets", headers={name: value})
    ticket = answer.json()["ticket"]
    async with wire(guarded) as first:
        await first.say(SessionStart(token=ticket))
        await first.until("session.started")
        assert await greeted(guarded, SessionStart(token=ticket)) == (["ticket_used"], 4401)
        await first.say(Marker(id="still here"))
        await first.until("marker.reached")


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "https://evil.example",
        "https://good.example.evil.io",
        "http://127.0.0.1.evil.io",
        "http://localhost.evil.io",
        "HTTP://EVIL.EXAMPLE",
        "file://",
        "",
    ],
)
async def test_row_005_a_foreign_page(guarded: Replica, origin: str) -> None:
    answer = await refusal(guarded, f"Origin: {origin}", authorization(KEY))
    assert answer == (403, "origin_forbidden")


async def test_row_006_a_program_with_a_key(guarded: Replica) -> None:
    said, code = await greeted(guarded, SessionStart(), authorization(KEY))
    assert (said[0], said[-1], code) == ("session.started", "session.ended", 1000)


@pytest.mark.parametrize("name", ["token", "api_key", "ticket", "access_token"])
async def test_row_007_a_secret_in_the_address(guarded: Replica, name: str) -> None:
    path = f"/v1/stream?{name}=emk_a-secret-in-the-address"
    assert await refusal(guarded, authorization(KEY), path=path) == (400, "token_in_query")
    assert "a-secret-in-the-address" not in guarded.log.read_text()


async def test_row_008_a_subprotocol(guarded: Replica) -> None:
    offered = "Sec-WebSocket-Protocol: emotrace.v9, chat"
    assert await refusal(guarded, offered, authorization(KEY)) == (422, "protocol_unsupported")


async def crowd(stack: AsyncExitStack, server: Replica, number: int, key: str) -> list[Wire]:
    """So many connections that start a session at once, each with its first answer."""

    async def come() -> Wire:
        client = await stack.enter_async_context(wire(server))
        await client.say(SessionStart(token=key))
        await client.next()
        return client

    return await asyncio.gather(*[come() for _ in range(number)])


def answers(clients: list[Wire]) -> Counter[str]:
    return Counter(one.heard[0].get("code", one.heard[0]["type"]) for one in clients)


async def test_row_011_one_connection_too_many(guarded: Replica) -> None:
    await all_gone(guarded)
    async with AsyncExitStack() as stack:
        inside = await crowd(stack, guarded, CONNECTIONS, KEY)
        assert answers(inside) == {"session.started": CONNECTIONS}
        async with wire(guarded) as late:
            await late.say(SessionStart(token=KEY))
            assert await late.rest() == 1013
        (error,) = late.heard
        assert (error["code"], error["retryable"]) == ("capacity", True)
        assert error["retry_after_ms"] > 0
        async with httpx.AsyncClient() as http:
            answer = await http.post(
                f"{guarded.url}/v1/audio/analyze",
                files={"file": b"x"},
                headers={"Authorization": f"Bearer {KEY}"},
            )
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        for client in inside:
            await client.say(Marker(id="untouched"))
            await client.until("marker.reached")


async def test_row_012_one_session_of_a_key_too_many(guarded: Replica) -> None:
    await all_gone(guarded)
    async with AsyncExitStack() as stack:
        inside = await crowd(stack, guarded, 11, OTHER)
        assert answers(inside) == {"session.started": 10, "concurrency_limit": 1}
        refused = next(one for one in inside if "concurrency_limit" in one.errors())
        assert await refused.rest() == 4429
        said, code = await greeted(guarded, SessionStart(token=KEY))
        assert (said[-1], code) == ("session.ended", 1000), "another key is untouched"


async def test_row_014_a_second_start(server: Replica) -> None:
    async with session(server) as client:
        await client.say(SessionStart(speakers=("B",)))
        await client.send(frame(BINARY, bytes(3_200)))
        await client.say(SessionEnd())
        assert await client.rest() == 1000
    assert client.errors() == ["already_started"]
    assert client.heard[-1]["totals"]["audio_ms"] == 100


async def test_row_015_sound_before_the_start(server: Replica) -> None:
    async with wire(server) as client:
        await client.send(frame(BINARY, bytes(3_200)))
        assert await client.rest() == 4400
    assert client.errors() == ["not_started"]


@pytest.mark.parametrize("purpose", [*ProhibitedPurpose, "Law  Enforcement", "INSURANCE"])
async def test_row_016_a_prohibited_purpose(server: Replica, purpose: str) -> None:
    said, code = await greeted(server, SessionStart(purpose=purpose))
    assert (said, code) == (["purpose_prohibited"], 4403)


async def test_row_016_no_purpose_is_no_fault(server: Replica) -> None:
    for purpose in (None, "a diary of my own"):
        said, code = await greeted(server, SessionStart(purpose=purpose))
        assert (said[-1], code) == ("session.ended", 1000)


@pytest.mark.parametrize("races", RACES)
async def test_row_108_many_who_come_at_once(guarded: Replica, races: int) -> None:
    for _ in range(races // (5 * CONNECTIONS)):
        await all_gone(guarded)
        async with AsyncExitStack() as stack:
            clients = await crowd(stack, guarded, 5 * CONNECTIONS, KEY)
            expected = {"session.started": CONNECTIONS, "capacity": 4 * CONNECTIONS}
            assert answers(clients) == expected
