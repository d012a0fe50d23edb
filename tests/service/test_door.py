"""The door of a real server: keys, tickets, addresses with secrets, sessions at once."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from fakes import toy_bundle
from live import LiveServer, demo_pcm, live_server, talk
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from emotrace_protocol import encode
from emotrace_protocol.events import SessionStarted
from emotrace_protocol.messages import Marker, SessionEnd, SessionResume, SessionStart
from emotrace_service.errors import StartRefused
from emotrace_service.identity import entry, new_key
from emotrace_service.loading import load_door
from emotrace_service.settings import Settings

KEY, OTHER = new_key(), new_key()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("door")
    keys = folder / "keys.toml"
    keys.write_text(entry("anna", KEY, 2) + "\n" + entry("ben", OTHER, 1))
    with live_server(toy_bundle(folder / "toy"), workers="threads", keys=keys) as running:
        yield running


def with_key(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def greeted(
    server: LiveServer, start: SessionStart, **headers: str
) -> tuple[str, int | None]:
    """What the server answers first, and the close code."""
    async with talk(server, **headers) as client:
        await client.say(start, SessionEnd())
        first = await client.hear()
        code = await client.closed()
    return getattr(first, "code", first.type), code


async def test_a_key_in_the_header_or_in_the_first_message_lets_in(server: LiveServer) -> None:
    assert await greeted(server, SessionStart(), **with_key(KEY)) == ("session.started", 1000)
    assert await greeted(server, SessionStart(token=KEY)) == ("session.started", 1000)


@pytest.mark.parametrize("token", [None, "", "emk_guess", "emt_guess.guess", OTHER[:-1]])
async def test_nobody_else_comes_in(server: LiveServer, token: str | None) -> None:
    assert await greeted(server, SessionStart(token=token)) == ("unauthenticated", 4401)


async def test_a_wrong_key_in_the_header_is_refused_before_the_websocket_opens(
    server: LiveServer,
) -> None:
    for path in ("/v1/stream", "/v1/realtime?intent=transcription"):
        with pytest.raises(InvalidStatus) as refused:
            async with connect(
                server.stream_url.replace("/v1/stream", path),
                additional_headers=with_key("emk_x"),
            ):
                pass
        assert refused.value.response.status_code == 401


async def test_a_secret_in_the_address_is_refused(server: LiveServer) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with connect(f"{server.stream_url}?token={KEY}"):
            pass
    assert refused.value.response.status_code == 400
    assert b"token_in_query" in (refused.value.response.body or b"")


async def test_a_ticket_lets_a_browser_in_once(server: LiveServer) -> None:
    async with httpx.AsyncClient() as http:
        url = f"{server.url}/v1/tickets"
        assert (await http.post(url)).status_code == 401
        given = await http.post(url, headers=with_key(KEY))
    ticket = given.json()["ticket"]
    assert await greeted(server, SessionStart(token=ticket)) == ("session.started", 1000)
    assert await greeted(server, SessionStart(token=ticket)) == ("ticket_used", 4401)


async def test_files_need_a_key_too(server: LiveServer) -> None:
    async with httpx.AsyncClient() as http:
        url = f"{server.url}/v1/audio/analyze"
        refused = await http.post(url, files={"file": b"x"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "unauthenticated")
        heard = await http.post(url, files={"file": b"x"}, headers=with_key(KEY))
        assert heard.json()["error"]["code"] == "audio_container_invalid"
        for path in ("/healthz", "/readyz", "/v1/models"):
            assert (await http.get(server.url + path)).status_code == 200
        assert (await http.get(f"{server.url}/v1/models")).json()["open"] is False


async def test_a_key_has_so_many_sessions_at_once_and_others_are_untouched(
    server: LiveServer,
) -> None:
    async with talk(server, **with_key(OTHER)) as first:
        await first.say(SessionStart())
        await first.until("session.started")
        assert await greeted(server, SessionStart(token=OTHER)) == ("concurrency_limit", 4429)
        assert await greeted(server, SessionStart(token=KEY)) == ("session.started", 1000)
        await first.say(SessionEnd())
        await first.until("session.ended")
        await first.closed()
    assert await greeted(server, SessionStart(token=OTHER)) == ("session.started", 1000)


async def test_a_session_is_resumed_without_the_key_and_counts_as_its_own(
    server: LiveServer,
) -> None:
    audio, _ = demo_pcm(0.1)
    async with talk(server, **with_key(OTHER)) as client:
        await client.say(SessionStart(audio=audio, resume=True), Marker(id="a"))
        started = await client.until("session.started")
        await client.until("marker.reached")
        client.socket.transport.abort()
    assert isinstance(started, SessionStarted)
    assert started.resume is not None
    async with talk(server) as again:
        await again.say(
            SessionResume(
                session=started.session, token=started.resume.token, sequence=len(client.heard)
            )
        )
        await again.until("session.resumed")
        assert await greeted(server, SessionStart(token=OTHER)) == ("concurrency_limit", 4429)
        await again.say(SessionEnd())
        await again.until("session.ended")
        await again.closed()


async def test_a_key_is_nowhere_in_what_is_kept(server: LiveServer) -> None:
    async with talk(server) as client:
        await client.say(SessionStart(token=KEY, resume=True), Marker(id="a"))
        await client.until("marker.reached")
        assert KEY not in repr([kept.snapshot for kept in server.serving.store._kept.values()])  # type: ignore[union-attr]
        assert not any(KEY in encode(event) for event in client.heard)


def test_a_server_that_others_can_reach_needs_keys_or_says_that_it_is_open() -> None:
    with pytest.raises(StartRefused, match=r"keys new NAME .* or say --open"):
        load_door(Settings(host="0.0.0.0"), None)
    assert load_door(Settings(host="0.0.0.0", open=True), None).open
    assert load_door(Settings(), None).open
