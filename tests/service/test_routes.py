"""What the server says of itself, whom it lets in, and what it never says."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fakes import toy_bundle
from live import LiveServer, demo_pcm, live_server, pieces, stream, talk
from websockets.exceptions import InvalidStatus

from emotrace_models.types import Modality
from emotrace_protocol.messages import SessionEnd, SessionStart, UtteranceText
from emotrace_service import logs, pages
from emotrace_service.origins import is_allowed
from emotrace_service.settings import Settings

CANARY = "zanzibar-7c1f"


@pytest.fixture(scope="module")
def server(toy: Path) -> Iterator[LiveServer]:
    with live_server(toy, max_sessions=1) as running:
        yield running


def test_health_and_readiness_say_what_is_live_and_why_not(server: LiveServer) -> None:
    assert httpx.get(f"{server.url}/healthz").json() == {"status": "ok"}
    answer = httpx.get(f"{server.url}/readyz")
    assert answer.status_code == 200
    told = {one["modality"]: one for one in answer.json()["modalities"]}
    assert told["acoustic"]["live"]
    assert not told["lexical"]["live"]
    assert "models pull" in told["lexical"]["reason"]
    assert "bundle" in told["facial"]["reason"]


def test_readiness_waits_for_warm_models_and_tells_a_fault(server: LiveServer) -> None:
    server.serving.ready = False
    try:
        answer = httpx.get(f"{server.url}/readyz")
        assert (answer.status_code, answer.json()["ready"]) == (503, False)
        assert "warming" in answer.json()["reason"]
        server.serving.fault = "The models cannot be run: ValueError."
        assert "ValueError" in httpx.get(f"{server.url}/readyz").json()["reason"]
    finally:
        server.serving.ready, server.serving.fault = True, None


def test_models_come_with_labels_and_card(server: LiveServer) -> None:
    answer = httpx.get(f"{server.url}/v1/models").json()
    (model,) = answer["models"]
    assert answer["default"] == model["name"] == "toy"
    assert answer["open"] is True
    assert model["labels"] == ["anger", "happiness", "neutral", "sadness"]
    assert model["modalities"] == ["acoustic", "lexical"]
    assert model["card"].startswith("# toy")


def test_metrics_have_closed_label_sets(server: LiveServer) -> None:
    text = httpx.get(f"{server.url}/metrics").text
    assert "emotrace_sessions 0.0" in text
    assert 'emotrace_modality_live{modality="acoustic"} 1.0' in text
    assert 'emotrace_refusals_total{code="rate_limited"} 0.0' in text
    assert 'emotrace_stage_seconds_count{stage="lag"}' in text


def test_the_page_is_fetched_again_each_time(server: LiveServer) -> None:
    answer = httpx.get(f"{server.url}/")
    assert answer.headers["cache-control"] == "no-cache"
    assert "Emotrace" in answer.text


def test_a_server_without_the_page_says_so(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "CLIENT_PACKAGE", "no_such_package")
    assert pages.browser_folder() is None
    with live_server(toy) as bare:
        answer = httpx.get(f"{bare.url}/")
    assert answer.status_code == 404
    assert "not installed" in answer.text


@pytest.mark.parametrize(
    ("origin", "host", "open_host", "allowed"),
    [
        (None, "127.0.0.1:8080", "127.0.0.1", True),
        ("http://127.0.0.1:8080", "127.0.0.1:8080", "127.0.0.1", True),
        ("http://localhost:3000", "127.0.0.1:8080", "127.0.0.1", True),
        ("http://[::1]:8080", "[::1]:8080", "::1", True),
        ("null", "127.0.0.1:8080", "127.0.0.1", False),
        ("https://evil.example", "127.0.0.1:8080", "127.0.0.1", False),
        ("http://evil.example:8080", "evil.example:8080", "127.0.0.1", False),  # DNS rebinding
        ("http://localhost.evil.example", "127.0.0.1:8080", "127.0.0.1", False),
        ("http://[bad", "127.0.0.1:8080", "127.0.0.1", False),
        ("file:///etc", "127.0.0.1:8080", "127.0.0.1", False),
        ("https://app.example", "app.example", "0.0.0.0", True),
        ("https://app.example:444", "app.example", "0.0.0.0", False),
        ("https://listed.example", "app.example", "127.0.0.1", True),
    ],
)
def test_origins(origin: str | None, host: str, open_host: str, allowed: bool) -> None:
    settings = Settings(host=open_host, origins=("https://listed.example",))
    assert is_allowed(origin, host, settings) is allowed


async def test_a_foreign_page_is_refused_before_the_websocket_opens(server: LiveServer) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with talk(server, Origin="https://evil.example"):
            pass
    assert refused.value.response.status_code == 403
    assert b"origin_forbidden" in (refused.value.response.body or b"")
    async with httpx.AsyncClient() as http:
        posted = await http.post(
            f"{server.url}/v1/audio/analyze", headers={"Origin": "https://evil.example"}
        )
    assert posted.status_code == 403
    async with talk(server, Origin=server.url) as client:
        await client.say(SessionStart(), SessionEnd())
        assert await client.closed() == 1000


async def test_a_full_server_says_when_to_come_again(server: LiveServer) -> None:
    async with talk(server) as first:
        await first.say(SessionStart())
        await first.until("session.started")
        async with talk(server) as second:
            await second.say(SessionStart())
            assert await second.closed() == 1013
        (failed,) = second.heard
        assert failed.code == "capacity"
        assert 2_500 <= failed.retry_after_ms <= 5_000
        async with httpx.AsyncClient() as http:
            posted = await http.post(f"{server.url}/v1/audio/analyze", files={"file": b"x"})
        assert posted.status_code == 503
        assert posted.headers["retry-after"] in ("3", "4", "5")
        await first.say(SessionEnd())
        assert await first.closed() == 1000


async def test_nothing_that_was_said_is_ever_logged_or_counted(
    server: LiveServer, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("json")
    audio, pcm = demo_pcm(4.0, channel=0)
    start = SessionStart(interim=False, audio=audio, speakers=(f"s-{CANARY}",))
    async with talk(server) as client:
        await client.say(start)
        await client.until("session.started")
        await client.say(UtteranceText(text=f"secret {CANARY}", speaker=f"t-{CANARY}"))
        await client.say('{"type": "marker", "id": 5, "x": "' + CANARY + '"}', f"{{{CANARY}")
        await client.say(*pieces(pcm), SessionEnd())
        assert await client.closed() == 1000
    assert any(CANARY in str(event) for event in client.heard), "the client does hear it"
    printed = capsys.readouterr()
    async with httpx.AsyncClient() as http:
        metrics = (await http.get(f"{server.url}/metrics")).text
    for label in client.heard[0].labels:
        assert label not in metrics
        assert label not in printed.out + printed.err
    assert CANARY not in printed.out + printed.err + metrics
    assert '"event": "session over"' in printed.err, "the log was looked at"


def test_the_text_of_an_exception_stays_out_of_the_log(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure("json")
    try:
        raise ValueError(CANARY)
    except ValueError:
        logging.getLogger("uvicorn.error").exception("It broke")
        logs.logger().exception("ours too")
    printed = capsys.readouterr().err
    assert CANARY not in printed
    assert printed.count("ValueError") == 2
    assert "test_routes.py" in printed


async def test_a_bundle_without_words_runs_on_sound_alone(tmp_path: Path) -> None:
    bundle = toy_bundle(tmp_path / "sound", modalities=(Modality.ACOUSTIC,), name="sound")
    audio, pcm = demo_pcm(3.5)
    with live_server(bundle) as running:
        _, heard, _ = await stream(running, SessionStart(audio=audio), pieces(pcm))
        async with talk(running) as client:
            await client.say(SessionStart(), UtteranceText(text="x", speaker="A"), SessionEnd())
            await client.closed()
    finals = [event for event in heard if event.type == "emotion.final"]
    assert finals[0].modalities == ("acoustic",)
    assert finals[0].missing == ()
    assert [one.code for one in client.of("warning")] == ["modality_missing"]
