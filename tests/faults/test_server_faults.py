"""Rows 81 to 108 of docs/faults.md that no other test proves: what goes wrong inside a server."""

from __future__ import annotations

import asyncio
import io
import json
import os
import resource
import signal
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
import torch
from cluster import Replica, replica
from doubles import Stage
from eventually import eventually
from fakes import toy_bundle
from faults.raw import BINARY, TEXT, all_gone, frame, session, wire
from live import (
    DEMO,
    LiveServer,
    close_to,
    comparable,
    demo_pcm,
    live_server,
    pieces,
    stream,
    talk,
)
from redis_server import redis_server

from emotrace_models.predictor import Encoded, Fused, Predictor
from emotrace_protocol import Event
from emotrace_protocol.messages import Marker, SessionEnd, SessionStart
from emotrace_service import redis_store
from emotrace_service.watching import Watch

SPARE = 10
SOUND = frame(BINARY, bytes(3_200))


async def test_row_085_the_loop_stands_still(server: Replica) -> None:
    """The process is stopped for as long: that a health check fails meanwhile is the same."""
    async with session(server) as client, httpx.AsyncClient(timeout=0.5) as http:
        server.signal(signal.SIGSTOP)
        try:
            stopped = time.monotonic()
            with pytest.raises(httpx.TimeoutException):
                await http.get(f"{server.url}/healthz")
            await asyncio.sleep(3.0 - (time.monotonic() - stopped))
        finally:
            server.signal(signal.SIGCONT)
        await client.send(SOUND)
        await client.say(Marker(id="goes on"))
        await client.until("marker.reached")
        text = (await http.get(f"{server.url}/metrics", timeout=30)).text
    counts = {
        line.partition('le="')[2].partition('"')[0]: float(line.split()[-1])
        for line in text.splitlines()
        if line.startswith("emotrace_loop_lag_seconds_bucket")
    }
    assert counts["+Inf"] > counts["1.0"], "a lag of three seconds was counted"


async def test_row_085_where_it_stands_still_is_logged(
    toy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = Stage(toy)
    watching = asyncio.create_task(Watch(stage.serving).run())
    await asyncio.sleep(0.1)
    block(2.0)
    await asyncio.sleep(0.1)
    watching.cancel()
    said = capsys.readouterr()
    lines = [line for line in (said.out + said.err).splitlines() if "stands still" in line]
    assert len(lines) == 1
    assert " block" in lines[0]


def block(seconds: float) -> None:
    time.sleep(seconds)


async def test_row_088_redis_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_store, "OUTAGE_S", 0.5)
    bundle = toy_bundle(tmp_path / "toy")
    (tmp_path / "redis").mkdir()
    audio, pcm = demo_pcm(6.0)
    with (
        redis_server(tmp_path / "redis") as redis,
        live_server(bundle, workers="threads", session_store=redis.url) as server,
    ):
        async with talk(server) as client:
            await client.say(SessionStart(audio=audio, interim=False, resume=True))
            started: Any = await client.until("session.started")
            assert started.resume is not None
            with redis.client as operator:
                operator.config_set("maxmemory", 1)
                operator.config_set("maxmemory-policy", "noeviction")
            await client.say(*pieces(pcm), SessionEnd())
            await client.until("session.ended")
            assert await client.closed() == 1000
    assert [warning.code for warning in client.of("warning")] == ["resume_lost"]
    assert client.of("emotion.final"), "the session itself goes on"


async def test_row_089_memory_for_a_batch_runs_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each dialogue of a batch is computed alone then, and nobody loses an estimate."""
    audio, pcm = demo_pcm(9.0)
    start = SessionStart(audio=audio, interim=False)
    whole, too_large = Predictor.fuse, []

    def fuse(self: Predictor, encoded: Sequence[Encoded]) -> list[Fused]:
        if len(encoded) > 1:
            too_large.append(len(encoded))
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return whole(self, encoded)

    options = {"workers": "threads", "threads": 1, "batch_wait_ms": 100}
    with live_server(toy_bundle(tmp_path / "toy"), **options) as server:
        _, calm, _ = await stream(server, start, pieces(pcm))
        monkeypatch.setattr(Predictor, "fuse", fuse)
        for _ in range(10):
            talks = await asyncio.gather(*[stream(server, start, pieces(pcm)) for _ in range(6)])
            if too_large:
                break
    assert too_large, "no batch was made"
    assert finals(calm)
    for _, heard, ended in talks:
        assert close_to(finals(heard), finals(calm))
        assert ended.totals.failed == 0


def finals(heard: Sequence[Event]) -> list[dict[str, Any]]:
    said = comparable([event for event in heard if event.type == "emotion.final"])
    return [{name: event[name] for name in ("utterance", "posterior")} for event in said]


@pytest.mark.parametrize("number", [float("nan"), float("-inf")])
async def test_row_091_the_model_returns_no_numbers(tmp_path: Path, number: float) -> None:
    """NaN would stop at the decoder as well; a logit of minus infinity is a probability of 0."""
    audio, pcm = demo_pcm(9.0)
    with live_server(toy_bundle(tmp_path / "toy"), workers="threads", threads=1) as server:
        weight = classifier(server)
        whole = weight.clone()
        async with talk(server) as client, talk(server) as other:
            await client.say(SessionStart(audio=audio, interim=False))
            await client.until("session.started")
            weight[0] = number
            await client.say(*pieces(pcm), Marker(id="while it was broken"))
            await client.until("marker.reached")
            failed = client.of("error")
            assert failed
            assert {error.code for error in failed} == {"inference_failed"}
            assert not any(error.fatal for error in failed)
            assert not client.of("emotion.final")
            weight.copy_(whole)
            await other.say(SessionStart(audio=audio, interim=False), *pieces(pcm), SessionEnd())
            await other.until("session.ended")
            await client.say(*pieces(pcm), SessionEnd())
            assert await client.closed() == 1000
    assert not other.of("error")
    for heard in (client, other):
        finals = heard.of("emotion.final")
        assert finals
        assert all(np.isfinite(list(final.posterior.values())).all() for final in finals)


def classifier(server: LiveServer) -> torch.Tensor:
    """What the bundle that the server computes with adds to the logits, one a class."""
    bias = server.serving.bundle.fusion.classifier.bias  # type: ignore[union-attr]
    return bias.data  # type: ignore[return-value,union-attr]


async def test_row_095_the_disk_is_full(toy: Path, tmp_path: Path) -> None:
    """The server may write no byte more to any file: not to its log either."""
    audio, pcm = demo_pcm(4.0)
    with replica(toy, tmp_path) as server:
        assert server.process is not None
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (0, 0))
        before = server.log.stat().st_size
        async with wire(server) as client:
            await client.say(SessionStart(audio=audio, interim=False, resume=True))
            await client.send(*[frame(BINARY, piece) for piece in pieces(pcm)])
            await client.say(SessionEnd())
            assert await client.rest() == 1000
        assert not client.errors()
        assert any(event["type"] == "emotion.final" for event in client.heard)
        async with httpx.AsyncClient(timeout=60) as http:
            file = {"file": DEMO.read_bytes()}
            answer = await http.post(f"{server.url}/v1/audio/analyze", files=file)
        assert answer.status_code == 200
        assert server.log.stat().st_size == before, "the limit is real"


async def test_row_096_no_descriptors_are_left(toy: Path, tmp_path: Path) -> None:
    with replica(toy, tmp_path) as server, ExitStack() as crowd:
        async with session(server) as client:
            assert server.process is not None
            process = server.process.pid
            held = Path(f"/proc/{process}/fd")
            most = max(int(name) for name in os.listdir(held)) + 1 + SPARE
            _, highest = resource.prlimit(process, resource.RLIMIT_NOFILE)
            resource.prlimit(process, resource.RLIMIT_NOFILE, (most, highest))
            for _ in range(most + SPARE):
                come = socket.create_connection(("127.0.0.1", server.port))
                crowd.callback(come.close)
            # uvloop keeps one in reserve, with which it turns away whoever comes then.
            await eventually(lambda: len(os.listdir(held)) >= most - 1)
            await client.send(SOUND)
            await client.say(Marker(id="untouched"))
            await client.until("marker.reached")
            crowd.close()
            await eventually(lambda: len(os.listdir(held)) < most - SPARE // 2)
            async with session(server) as late:
                await late.say(SessionEnd())
                assert await late.rest() == 1000
        assert server.process.poll() is None


def series(page: str) -> set[str]:
    """Names with their labels, without their values."""
    return {line.rpartition(" ")[0] for line in page.splitlines() if not line.startswith("#")}


async def test_row_102_metrics_are_asked_for_without_end(server: Replica) -> None:
    async with session(server) as client, httpx.AsyncClient(timeout=60) as http:
        url = f"{server.url}/metrics"
        before = series((await http.get(url)).text)
        for number in range(50):  # what might become a label
            name = f"of-a-client-{number}"
            await http.request(f"X{number}", f"{server.url}/{name}?{name}={name}")
            await http.get(url, headers={"User-Agent": name, "Origin": f"http://{name}.example"})
            async with wire(server, f"Origin: http://{name}.example"):
                pass
            async with wire(server) as other:
                await other.send(frame(TEXT, json.dumps({"type": name, name: name}).encode()))
        begun = time.monotonic()
        pages = [(await http.get(url)).text for _ in range(200)]
        passed_s = time.monotonic() - begun
        await client.send(SOUND)
        await client.say(Marker(id="goes on"))
        await client.until("marker.reached")
    # Each page that is made anew has used more processor time than the one before.
    assert len(set(pages)) <= 2 + passed_s / 0.1
    assert series(pages[-1]) == before
    assert "of-a-client" not in pages[-1]


async def test_row_106_a_file_that_is_sent_twice(server: Replica) -> None:
    """There is nothing that a second request could do twice."""
    samples, rate = soundfile.read(DEMO, dtype="int16", always_2d=True, stop=16_000 * 6)
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, format="WAV", subtype="PCM_16")
    async with httpx.AsyncClient(timeout=60) as http:
        url = f"{server.url}/v1/audio/analyze"
        one, other = [
            (await http.post(url, files={"file": stream.getvalue()})).json() for _ in range(2)
        ]
    assert one["utterances"]
    assert one["utterances"] == other["utterances"]
    await all_gone(server)
