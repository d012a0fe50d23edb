"""What the operator learns of sessions: as much as was asked for, and nothing of what was said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
from live import DEMO, demo_pcm, live_server, pieces, settled, talk
from typer.testing import CliRunner

from emotrace_protocol.events import SessionStarted
from emotrace_protocol.messages import (
    SessionEnd,
    SessionResume,
    SessionStart,
    UtteranceText,
)
from emotrace_service.audit_cli import app as audit_app
from emotrace_service.identity import entry, new_key

KEY = new_key()
CANARY = "zanzibar-7c1f"
QUICK: dict[str, Any] = {"workers": "threads", "text_wait_ms": 0}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def file_of(told: list[dict[str, Any]]) -> dict[str, Any]:
    (file,) = [one for one in told if one["event"] == "file.analyzed"]
    return file


async def test_the_audit_log_tells_of_sessions_files_and_refusals(
    toy: Path, tmp_path: Path
) -> None:
    path = tmp_path / "audit.jsonl"
    audio, pcm = demo_pcm(8.0)
    start = SessionStart(audio=audio, speakers=(CANARY, "B"), purpose="art", resume=True, token=KEY)
    keys = tmp_path / "keys.toml"
    keys.write_text(entry("clinic", KEY, 5))
    with live_server(toy, audit_log=path, keys=keys, **QUICK) as server:
        async with talk(server) as client:
            await client.say(start, *pieces(pcm), UtteranceText(text=CANARY, speaker=CANARY))
            started = await client.until("session.started")
            await client.until("emotion.final")
            client.socket.transport.abort()
        assert await settled(server)
        assert isinstance(started, SessionStarted)
        assert started.resume is not None
        async with talk(server) as again:
            await again.say(
                SessionResume(session=started.session, token=started.resume.token, sequence=1)
            )
            await again.until("session.resumed")
            await again.say(SessionEnd())
            await again.closed()
        assert await settled(server)
        async with talk(server) as other:
            await other.say('{"type": "session.start", "purpose": "Employee Monitoring"}')
            assert await other.closed() == 4403
        bearer = {"Authorization": f"Bearer {KEY}"}
        async with httpx.AsyncClient(headers=bearer, timeout=60) as http:
            url, files = f"{server.url}/v1/audio/analyze", {"file": DEMO.read_bytes()}
            done = await http.post(url, files=files, data={"start": '{"purpose": "a study"}'})
            assert done.status_code == 200
            refused = await http.post(url, files=files, data={"start": '{"purpose": "insurance"}'})
            assert refused.status_code == 403
            await http.get(f"{server.url}/v1/notice?language=tlh")
        assert server.metric("emotrace_refusals_total", code="purpose_prohibited") == 2
    told = lines(path)
    session = started.session
    opened, lost, resumed, ended = [one for one in told if one.get("session") == session]
    assert opened["event"] == "session.opened"
    assert opened["purpose"] == resumed["purpose"] == "art"
    assert opened["key"] == resumed["key"] == file_of(told)["key"] == "clinic"
    assert opened["modalities"] == ["acoustic"]
    assert (lost["event"], lost["reason"]) == ("session.ended", "lost")
    assert resumed["event"] == "session.resumed"
    assert (ended["event"], ended["reason"]) == ("session.ended", "client")
    assert ended["counts"]["finals"] == len(again.of("emotion.final")) > 0
    assert ended["counts"]["audio_ms"] >= 1_000
    assert file_of(told)["purpose"] == "a study"
    assert file_of(told)["counts"]["utterances"] == len(done.json()["utterances"]) > 0
    refusals = [one["code"] for one in told if one["event"] == "refused"]
    assert refusals == ["purpose_prohibited", "purpose_prohibited", "config_invalid"]
    assert told[-1]["event"] == "log.closed"
    for secret in (CANARY, KEY, started.resume.token):
        assert secret not in path.read_text()
    verified = CliRunner().invoke(audit_app, ["verify", str(path)])
    assert verified.exit_code == 0, verified.output
    changed = path.read_bytes().replace(b'"purpose":"art"', b'"purpose":"war"', 1)
    path.write_bytes(changed)
    assert CliRunner().invoke(audit_app, ["verify", str(path)]).exit_code == 1


def test_who_is_turned_away_at_the_door_is_counted_and_noted(toy: Path, tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    with live_server(toy, audit_log=path, **QUICK) as server:
        upgrade = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "MTIzNDU2Nzg5MDEyMzQ1Ng==",
        }
        for where, headers, status in (
            ("/v1/stream?token=x", {}, 400),
            ("/v1/stream", {"Origin": "https://evil.example"}, 403),
            ("/v1/realtime", {"Origin": "https://evil.example"}, 403),
        ):
            answer = httpx.get(f"{server.url}{where}", headers={**upgrade, **headers})
            assert answer.status_code == status, answer.text
        assert server.metric("emotrace_refusals_total", code="token_in_query") == 1
        assert server.metric("emotrace_refusals_total", code="origin_forbidden") == 2
    codes = [one["code"] for one in lines(path) if one["event"] == "refused"]
    assert codes == ["token_in_query", "origin_forbidden", "origin_forbidden"]
