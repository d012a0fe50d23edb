"""Paced dialogues against a running server: time from the end of speech to `emotion.final`.

    python tests/benchmarks/bench_live.py --dialogues 20 --seconds 300

Starts `emotrace-serve` with the shipped bundle on a free port, then N clients that each send the
demo dialogue over and over at the pace of time, each from another point of it. A client knows when
it sent every sample, so for each final it measures

    beyond = arrival of emotion.final - sending of the sample at (end of speech + endpointing wait)

which leaves out the silence that the endpointer must hear, and holds everything else: network,
queues, encoding, fusion, decoding. Clients and server share the machine. Memory of the server is
read each five seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import soundfile
from websockets.asyncio.client import connect

from emotrace_protocol import decode_event, encode
from emotrace_protocol.events import EmotionFinal, Failed, SessionEnded, SessionStarted, SpeechEnded
from emotrace_protocol.messages import AudioFormat, SessionEnd, SessionStart

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "clients" / "emotrace_clients" / "browser" / "demo" / "dialogue.flac"
FRAME_MS = 40


@dataclass
class Client:
    """What one paced dialogue saw. Times in seconds of this process's clock."""

    started: float = 0.0
    beyond_ms: list[float] = field(default_factory=list)
    server_lag_ms: list[float] = field(default_factory=list)
    ended: int = 0
    errors: list[str] = field(default_factory=list)
    totals: dict[str, int] = field(default_factory=dict)


async def dialogue(url: str, audio: np.ndarray, rate: int, offset: float, seconds: float) -> Client:
    seen = Client()
    start = SessionStart(
        audio=AudioFormat(sample_rate=rate, channels=audio.shape[1]), speakers=("A", "B")
    )
    hop = rate * FRAME_MS // 1000
    looped = np.roll(audio, -int(offset * len(audio)), axis=0)
    frames = [looped[i : i + hop].tobytes() for i in range(0, len(looped) - hop, hop)]
    async with connect(url, max_size=None, compression=None) as socket_:
        await socket_.send(encode(start))

        async def listen() -> None:
            async for text in socket_:
                now = time.monotonic()
                event = decode_event(str(text))
                if isinstance(event, EmotionFinal):
                    due_ms = event.end_ms + event.timings.endpointing_ms
                    sent = seen.started + FRAME_MS / 1000 * np.ceil(due_ms / FRAME_MS)
                    seen.beyond_ms.append((now - sent) * 1000)
                    seen.server_lag_ms.append(event.timings.lag_ms)
                elif isinstance(event, SpeechEnded):
                    seen.ended += 1
                elif isinstance(event, Failed):
                    seen.errors.append(event.code)
                elif isinstance(event, SessionEnded):
                    seen.totals = event.totals.model_dump()

        assert isinstance(decode_event(str(await socket_.recv())), SessionStarted)
        listening = asyncio.create_task(listen())
        seen.started = time.monotonic()
        for n in range(int(seconds * 1000 / FRAME_MS)):
            await asyncio.sleep(
                max(0.0, seen.started + (n + 1) * FRAME_MS / 1000 - time.monotonic())
            )
            await socket_.send(frames[n % len(frames)])
        await socket_.send(encode(SessionEnd()))
        await listening
    return seen


async def run(url: str, pid: int, arguments: argparse.Namespace) -> dict[str, object]:
    audio, rate = soundfile.read(DEMO, dtype="int16", always_2d=True)
    memory: list[tuple[float, float]] = []

    async def watch() -> None:
        begin = time.monotonic()
        while True:
            memory.append((time.monotonic() - begin, _rss_mib(pid)))
            await asyncio.sleep(5)

    watching = asyncio.create_task(watch())
    clients = await asyncio.gather(
        *(
            dialogue(url, audio, rate, n / arguments.dialogues, arguments.seconds)
            for n in range(arguments.dialogues)
        )
    )
    watching.cancel()
    beyond = np.array([x for c in clients for x in c.beyond_ms])
    lag = np.array([x for c in clients for x in c.server_lag_ms])
    return {
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "commit": _commit(),
        "dialogues": arguments.dialogues,
        "seconds": arguments.seconds,
        "utterances": sum(c.ended for c in clients),
        "finals": len(beyond),
        "errors": sorted({e for c in clients for e in c.errors}),
        "lost": sum(c.totals["utterances"] - c.totals["finals"] for c in clients),
        "end_of_speech_to_final_beyond_endpointing_ms": _percentiles(beyond),
        "server_lag_ms": _percentiles(lag),
        "server_memory_mib_by_minute": _by_minute(memory),
    }


def _by_minute(memory: list[tuple[float, float]]) -> list[float]:
    """The mean of each minute."""
    minutes = range(int(memory[-1][0] // 60) + 1)
    return [
        round(float(np.mean([mib for at, mib in memory if at // 60 == minute])), 1)
        for minute in minutes
    ]


def _commit() -> str:
    return subprocess.check_output(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, text=True
    ).strip()


def _percentiles(values: np.ndarray) -> dict[str, float]:
    return {f"p{q}": round(float(np.percentile(values, q)), 1) for q in (50, 95, 99)}


def _rss_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("the server is gone")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dialogues", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60)
    arguments = parser.parse_args()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [Path(sys.executable).with_name("emotrace-serve")],
        env={**os.environ, "EMOTRACE_PORT": str(port)},
        stdout=subprocess.DEVNULL,
    )
    try:
        _wait_ready(f"http://127.0.0.1:{port}/readyz", server)
        result = asyncio.run(run(f"ws://127.0.0.1:{port}/v1/stream", server.pid, arguments))
    finally:
        server.terminate()
        server.wait(30)
    print(json.dumps(result, indent=2))


def _wait_ready(url: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        if server.poll() is not None:
            sys.exit("the server ended before it was ready")
        try:
            if httpx.get(url).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    sys.exit("the server was not ready within a minute")


if __name__ == "__main__":
    main()
