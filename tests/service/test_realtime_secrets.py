"""Client secrets: what they open, once, and what they say where they open nothing."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from live import LiveServer, live_server
from realtime import connected, event, silence, speech
from websockets.exceptions import ConnectionClosed, InvalidStatus

from emotrace_protocol.errors import ErrorCode, ProtocolError
from emotrace_service import client_secrets
from emotrace_service.client_secrets import ClientSecrets, SecretRefused
from emotrace_service.realtime_config import SessionConfig

CONFIG = SessionConfig()


@pytest.fixture(scope="module")
def server(toy: Path) -> Iterator[LiveServer]:
    with live_server(toy) as running:
        yield running


def test_a_secret_opens_one_session() -> None:
    held = ClientSecrets()
    value, issued = held.issue(CONFIG, (), 60, now=0.0)
    assert value.startswith("ek_")
    assert held.redeem(value, now=59.0) == issued
    with pytest.raises(SecretRefused) as refused:
        held.redeem(value, now=59.0)
    assert refused.value.code == "token_used"


def test_a_secret_expires() -> None:
    held = ClientSecrets()
    value, _ = held.issue(CONFIG, (), 60, now=0.0)
    with pytest.raises(SecretRefused) as refused:
        held.redeem(value, now=60.0)
    assert refused.value.code == "token_expired"
    assert "Ask for another" in str(refused.value)


def test_a_secret_that_nobody_gave_out() -> None:
    with pytest.raises(SecretRefused) as refused:
        ClientSecrets().redeem("ek_guess", now=0.0)
    assert refused.value.code == "token_unknown"


def test_a_secret_that_opened_nothing_still_opens() -> None:
    held = ClientSecrets()
    value, issued = held.issue(CONFIG, (), 60, now=0.0)
    held.redeem(value, now=1.0)
    held.give_back(value)
    assert held.redeem(value, now=2.0) == issued


def test_secrets_differ_and_only_their_hashes_are_kept() -> None:
    held = ClientSecrets()
    values = [held.issue(CONFIG, (), 60, now=0.0)[0] for _ in range(50)]
    assert len(set(values)) == 50
    kept = repr(vars(held))
    assert not any(value in kept or value.removeprefix("ek_") in kept for value in values)


def test_secrets_are_bounded_and_those_that_ended_go_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_secrets, "MAX_SECRETS", 3)
    held = ClientSecrets()
    used, _ = held.issue(CONFIG, (), 60, now=0.0)
    expired, _ = held.issue(CONFIG, (), 10, now=0.0)
    good, _ = held.issue(CONFIG, (), 60, now=0.0)
    held.redeem(used, now=1.0)
    for value, code in ((used, "token_used"), (expired, "token_expired")):
        with pytest.raises(SecretRefused) as refused:
            held.redeem(value, now=20.0)
        assert refused.value.code == code
    held.issue(CONFIG, (), 60, now=20.0)
    held.issue(CONFIG, (), 60, now=20.0)
    assert len(held) == 3
    with pytest.raises(ProtocolError) as full:
        held.issue(CONFIG, (), 60, now=20.0)
    assert full.value.code is ErrorCode.CAPACITY
    held.redeem(good, now=20.0)


def post(server: LiveServer, body: Any = None, **headers: str) -> httpx.Response:
    content = b"" if body is None else json.dumps(body).encode()
    url = f"{server.url}/v1/realtime/client_secrets"
    return httpx.post(url, content=content, headers=headers)


def secret(server: LiveServer, body: Any = None) -> str:
    answer = post(server, body)
    assert answer.status_code == 200, answer.text
    value: str = answer.json()["value"]
    return value


def test_what_creating_one_answers(server: LiveServer) -> None:
    answer = post(server, {"expires_after": {"anchor": "created_at", "seconds": 30}}).json()
    assert answer["value"].startswith("ek_")
    assert answer["session"]["object"] == "realtime.transcription_session"
    later = post(server).json()["expires_at"]
    assert 560 < later - answer["expires_at"] < 600


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"expires_after": {"seconds": 9}}, "expires_after.seconds"),
        ({"expires_after": {"seconds": 7_201}}, "expires_after.seconds"),
        ({"expires_after": {"anchor": "now"}}, "expires_after.anchor"),
        ({"session": {"type": "realtime"}}, "session.type"),
        ({"session": {"audio": {"input": {"speed": 2}}}}, "session.audio.input.speed"),
        ({"session": {"emotrace": {"bundle": "x"}}}, "session.emotrace.bundle"),
        ({"ttl": 5}, "ttl"),
        ([], None),
    ],
)
def test_what_is_refused(server: LiveServer, body: Any, param: str | None) -> None:
    answer = post(server, body)
    assert answer.status_code in (400, 422)
    assert answer.json()["error"]["param"] == param


def test_a_large_body_and_a_foreign_page_are_refused(server: LiveServer) -> None:
    assert post(server, {"session": 70_000 * "x"}).status_code == 413
    assert post(server, Origin="https://evil.example").status_code == 403


async def test_the_session_is_as_the_secret_was_asked_for(server: LiveServer) -> None:
    asked = {
        "type": "transcription",
        "audio": {
            "input": {
                "format": {"type": "audio/pcm", "rate": 24_000},
                "transcription": {"prompt": "expect names"},
                "turn_detection": {"type": "server_vad", "silence_duration_ms": 300},
            }
        },
        "emotrace": {"speaker": "Ann", "interim": False},
    }
    created = post(server, {"session": asked}).json()
    headers = {"Authorization": f"Bearer {created['value']}"}
    async with connected(server, **headers) as socket:
        told = await event(socket)
        assert told["session"] == created["session"]
        warned = await event(socket)
        assert warned["param"].endswith("transcription.prompt")
        audio = base64.b64encode(speech(1.2) + silence(0.6)).decode()
        await socket.send(json.dumps({"type": "input_audio_buffer.append", "audio": audio}))
        await socket.send(json.dumps({"type": "emotrace.session.end"}))
        kinds = [told["type"]]
        while kinds[-1] != "emotrace.session.ended":
            told = await event(socket)
            kinds.append(told["type"])
            if told["type"] == "emotrace.session.started":
                assert told["speakers"] == ["Ann"]
    assert "emotrace.emotion.interim" not in kinds


async def test_a_second_use_is_refused_before_the_websocket_opens(server: LiveServer) -> None:
    headers = {"Authorization": f"Bearer {secret(server)}"}
    async with connected(server, **headers) as socket:
        assert (await event(socket))["type"] == "session.created"
    for presented, code in (
        (headers, "token_used"),
        ({"Authorization": "Bearer ek_guess"}, "token_unknown"),
    ):
        with pytest.raises(InvalidStatus) as refused:
            async with connected(server, **presented):
                pass
        assert refused.value.response.status_code == 401
        error = json.loads(refused.value.response.body or b"")["error"]
        assert (error["type"], error["code"]) == ("invalid_request_error", code)


async def test_a_page_presents_its_secret_as_a_subprotocol(server: LiveServer) -> None:
    protocols = ("realtime", f"openai-insecure-api-key.{secret(server)}")
    async with connected(server, protocols=protocols) as socket:
        assert socket.subprotocol == "realtime"
        assert (await event(socket))["type"] == "session.created"
    async with connected(server, protocols=protocols) as socket:
        error = (await event(socket))["error"]
        assert error["code"] == "token_used"
        assert "POST /v1/realtime/client_secrets" in error["message"]
        with pytest.raises(ConnectionClosed):
            await event(socket)
        assert socket.close_code == 4401


async def test_a_page_is_told_that_its_secret_expired(server: LiveServer) -> None:
    value = secret(server, {"expires_after": {"seconds": 10}})
    before = server.serving.clock
    server.serving.clock = lambda: before() + 11
    try:
        protocols = ("realtime", f"openai-insecure-api-key.{value}")
        async with connected(server, protocols=protocols) as socket:
            assert (await event(socket))["error"]["code"] == "token_expired"
    finally:
        server.serving.clock = before


async def test_a_secret_is_not_used_up_by_a_full_server(toy: Path) -> None:
    with live_server(toy, max_sessions=1) as server:
        headers = {"Authorization": f"Bearer {secret(server)}"}
        async with connected(server) as first:
            await event(first)
            async with connected(server, **headers) as second:
                assert (await event(second))["error"]["code"] == "capacity"
        told = {"type": "error", "error": {"code": "capacity"}}
        while told["type"] == "error":  # until the server has noticed that the first one left
            assert told["error"]["code"] == "capacity"
            async with connected(server, **headers) as again:
                told = await event(again)
        assert told["type"] == "session.created"
