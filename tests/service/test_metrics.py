"""Metrics: every label has a closed set of values, whatever clients send."""

from __future__ import annotations

from pathlib import Path

import httpx
from live import LiveServer, demo_pcm, live_server, pieces, settled, talk

from emotrace_protocol.messages import Marker, SessionDelete, SessionEnd, SessionStart

CANARY = "zanzibar-7c1f"


def series(server: LiveServer) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    """Name and labels of each."""
    families = server.serving.metrics.registry.collect()
    samples = [sample for family in families for sample in family.samples]
    return {(one.name, tuple(sorted(one.labels.items()))) for one in samples}


async def hostile(server: LiveServer) -> None:
    audio, pcm = demo_pcm(8.0)
    start = SessionStart(audio=audio, speakers=(CANARY, "B"), purpose=CANARY)
    for last in (SessionEnd(), SessionDelete()):
        async with talk(server) as client:
            await client.say(start, *pieces(pcm), Marker(id=CANARY), last)
            await client.closed()
    for first in (
        f'{{"type": "session.start", "bundle": "{CANARY}"}}',
        f'{{"type": "session.start", "language": "{CANARY}"}}',
        f'{{"type": "session.start", "purpose": "insurance", "{CANARY}": 1}}',
        f'{{"type": "session.resume", "session": "{CANARY}", "token": "x", "sequence": 0}}',
        f'{{"type": "session.start", "token": "{CANARY}"}}',
    ):
        async with talk(server) as client:
            await client.say(first, f'{{"type": "{CANARY}"}}', "{", b"\1" * 99)
            client.socket.transport.close()
    async with httpx.AsyncClient(base_url=server.url) as http:
        for address in (f"/{CANARY}", f"/v1/{CANARY}?token=x", f"/v1/notice?language={CANARY}"):
            await http.get(address, headers={"Origin": f"https://{CANARY}.example"})
        await http.delete(f"/v1/recordings/{CANARY}", headers={"Authorization": f"Bearer {CANARY}"})
        await http.post("/v1/audio/analyze", files={"file": b"RIFF"}, data={"start": CANARY})
        await http.post("/v1/audio/analyze", headers={"Origin": f"https://{CANARY}.example"})
        assert CANARY not in (await http.get("/metrics")).text


async def test_no_client_makes_a_series_of_its_own(toy: Path) -> None:
    with live_server(toy, workers="threads") as server:
        before = series(server)
        await hostile(server)
        assert await settled(server)
        assert series(server) == before
        refusals = server.metric("emotrace_refusals_total", code="bundle_unknown")
        assert refusals == 1, "what came was counted"
