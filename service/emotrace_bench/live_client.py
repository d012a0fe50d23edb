"""Many paced clients in one process: each sends a dialogue at the pace of time and times answers.

A client knows when it sent every sample. For each final estimate it measures

    beyond = arrival of emotion.final - sending of the sample at (end of speech + endpointing wait)

which leaves out the silence that the endpointer must hear, and holds everything else. The
generator is open-loop: it sends when time comes, however late the answers are.
"""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from emotrace_bench.scenario import Scenario
from emotrace_protocol import encode
from emotrace_protocol.messages import AudioFormat, SessionEnd, SessionStart

FRAME_MS = 40


@dataclass
class Heard:
    """What one client saw; milliseconds. arrived_s: when each final came, since the start.

    refused: the error code that kept it out, and how soon that came. first_interim_ms: from where
    an utterance begins (0.2 s before its speech) to its first estimate, of audio and by the clock.
    """

    beyond_ms: list[float] = field(default_factory=list)
    arrived_s: list[float] = field(default_factory=list)
    timings: list[dict[str, float]] = field(default_factory=list)
    first_interim_ms: list[tuple[float, float]] = field(default_factory=list)
    interims: int = 0
    degraded: int = 0
    errors: list[str] = field(default_factory=list)
    refused: str | None = None
    refused_ms: float = 0.0
    retry_after_ms: int | None = None
    utterances: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Load:
    """clients: how many. seconds: how long each sends. begin_over_s: they come one after the other
    within this time. interim: whether they want interim estimates. after_s: finals before it are
    not counted, since the machine is still filling up."""

    clients: int
    seconds: float
    begin_over_s: float
    interim: bool = True
    after_s: float = 0.0


async def run(url: str, sound: Scenario, load: Load) -> list[Heard]:
    messages = sound.messages(FRAME_MS)
    began = time.monotonic()
    return await asyncio.gather(
        *(_client(url, sound, messages, load, number, began) for number in range(load.clients))
    )


async def _client(
    url: str, sound: Scenario, messages: list[bytes], load: Load, number: int, began: float
) -> Heard:
    """Each begins at another place of the dialogue, and goes round."""
    seen = Heard()
    place = number / load.clients
    offset = int(place * len(messages))
    await asyncio.sleep(max(0.0, began + place * load.begin_over_s - time.monotonic()))
    channels = sound.samples.shape[1]
    start = SessionStart(
        audio=AudioFormat(sample_rate=sound.rate, channels=channels), interim=load.interim
    )
    asked = time.monotonic()
    try:
        async with connect(url, max_size=None, compression=None, open_timeout=60) as socket:
            with suppress(ConnectionClosed):  # who is refused may hear of it before saying anything
                await socket.send(encode(start))
            first = json.loads(await socket.recv())
            if first["type"] != "session.started":
                seen.refused = first.get("code", first["type"])
                seen.refused_ms = (time.monotonic() - asked) * 1_000
                seen.retry_after_ms = first.get("retry_after_ms")
                return seen
            started = time.monotonic()
            listening = asyncio.create_task(_listen(socket, seen, started, began + load.after_s))
            for n in range(int(load.seconds * 1_000 / FRAME_MS)):
                due = started + (n + 1) * FRAME_MS / 1_000
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                await socket.send(messages[(offset + n) % len(messages)])
            await socket.send(encode(SessionEnd()))
            await listening
    except (ConnectionClosed, OSError) as error:
        seen.errors.append(type(error).__name__)
    return seen


async def _listen(socket: Any, seen: Heard, started: float, counted_from: float) -> None:
    starts: dict[int, int] = {}
    cut: set[int] = set()  # utterances that the end of the audio cut off: nobody waits for those
    async for text in socket:
        now = time.monotonic()
        event = json.loads(text)
        kind = event["type"]
        if kind == "speech.ended" and event["reason"] != "silence":
            cut.add(event["utterance"])
        elif kind == "emotion.final" and now >= counted_from and event["utterance"] not in cut:
            due_ms = event["end_ms"] + event["timings"]["endpointing_ms"]
            sent = started + FRAME_MS / 1_000 * float(np.ceil(due_ms / FRAME_MS))
            seen.beyond_ms.append((now - sent) * 1_000)
            seen.arrived_s.append(now - started)
            seen.timings.append(event["timings"])
        elif kind == "speech.started":
            starts[event["utterance"]] = event["start_ms"]
        elif kind == "emotion.interim":
            seen.interims += 1
            begun = starts.pop(event["utterance"], None)
            if begun is not None:
                seen.first_interim_ms.append(
                    (event["end_ms"] - begun, (now - started) * 1_000 - begun)
                )
        elif kind == "service.degraded":
            seen.degraded = max(seen.degraded, event["level"])
        elif kind == "error":
            seen.errors.append(event["code"])
        elif kind == "session.ended":
            totals = event["totals"]
            seen.utterances = totals["utterances"]
            seen.lost = totals["utterances"] - totals["finals"] - totals["rejected"]
