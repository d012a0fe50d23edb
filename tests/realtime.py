"""A Realtime client's end of a socket, in memory or real, and sound as such clients send it."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import soxr
from doubles import LOUD, RATE, MemorySocket, Stage, voice
from live import LiveServer
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from emotrace_models.types import FloatArray
from emotrace_service.client_secrets import Issued
from emotrace_service.pcm import alaw_table, mulaw_table
from emotrace_service.realtime import RealtimeSocket
from emotrace_service.realtime_config import Own, SessionConfig

Fields = dict[str, Any]
TRANSCRIPTION = "conversation.item.input_audio_transcription"
QUIET = SessionConfig(emotrace=Own(interim=False))


class RealtimeMemorySocket(MemorySocket):
    """What is heard are Realtime events."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Fields] = []
        self._events: asyncio.Queue[Fields] = asyncio.Queue()

    async def send(self, text: str) -> None:
        if self.stuck:
            await asyncio.Event().wait()
        event = json.loads(text)
        self.told.append(event)
        self._events.put_nowait(event)

    def tell(self, kind: str, **fields: Any) -> None:
        self.say(json.dumps({"type": kind, **fields}))

    def append(self, audio: bytes) -> None:
        self.tell("input_audio_buffer.append", audio=base64.b64encode(audio).decode())

    def end(self) -> None:
        self.tell("emotrace.session.end")

    async def next(self, kind: str) -> Fields:
        while True:
            event = await asyncio.wait_for(self._events.get(), 20)
            if event["type"] == kind:
                return event

    def all(self, kind: str) -> list[Fields]:
        return [event for event in self.told if event["type"] == kind]

    @property
    def kinds(self) -> list[str]:
        return [event["type"] for event in self.told]


def realtime(
    stage: Stage, config: SessionConfig | None = None, *, beta: bool = False
) -> tuple[RealtimeMemorySocket, RealtimeSocket, asyncio.Task[None]]:
    """A connection, accepted, on which nothing was said."""
    socket = RealtimeMemorySocket()
    issued = Issued("sess_1", config or SessionConfig(), (), 0.0)
    client = RealtimeSocket(socket, stage.serving, issued, beta=beta)
    return socket, client, asyncio.create_task(client.run())


async def played(
    stage: Stage, *audio: bytes, beta: bool = False, config: SessionConfig = QUIET, **inputs: Any
) -> RealtimeMemorySocket:
    """A whole session of these pieces of sound."""
    socket, _, task = realtime(stage, config, beta=beta)
    if inputs:
        socket.tell("session.update", session=update(**inputs))
    for piece in audio:
        socket.append(piece)
    socket.end()
    await asyncio.wait_for(task, 30)
    return socket


def update(**inputs: Any) -> Fields:
    """The `session` of a session.update with these fields of `audio.input`."""
    return {"type": "transcription", "audio": {"input": inputs}}


def sound(samples: FloatArray, rate: int = 24_000) -> bytes:
    """[sample] at 16 kHz -> s16le at another rate."""
    resampled = soxr.resample(samples, RATE, rate)
    return (resampled.clip(-1, 1) * 32_767).astype("<i2").tobytes()


def speech(seconds: float, rate: int = 24_000) -> bytes:
    return sound((2 * LOUD * voice(seconds)).astype(np.float32), rate)


def silence(seconds: float, rate: int = 24_000) -> bytes:
    return bytes(int(seconds * rate) * 2)


TURN = speech(1.0) + silence(0.8)  # one utterance, and the silence that ends it


def g711(pcm: bytes, law: str) -> bytes:
    """s16le -> the nearest code of the law for each sample."""
    table: NDArray[np.int16] = {"pcmu": mulaw_table, "pcma": alaw_table}[law]()
    order = np.argsort(table, kind="stable")
    levels = table[order].astype(np.int32)
    samples = np.frombuffer(pcm, "<i2").astype(np.int32)
    middles = (levels[1:] + levels[:-1]) // 2
    return order[np.searchsorted(middles, samples)].astype(np.uint8).tobytes()


@asynccontextmanager
async def connected(
    server: LiveServer, query: str = "", protocols: tuple[str, ...] = (), **headers: str
) -> AsyncIterator[ClientConnection]:
    async with connect(
        server.url.replace("http", "ws") + f"/v1/realtime{query}",
        subprotocols=[Subprotocol(one) for one in protocols] or None,
        additional_headers=headers,
        compression=None,
    ) as socket:
        yield socket


async def event(socket: ClientConnection) -> Fields:
    told: Fields = json.loads(await asyncio.wait_for(socket.recv(), 30))
    return told
