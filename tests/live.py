"""A real server on a loopback port, in a thread, and a client that notes all it hears."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import soundfile
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from emotrace_protocol import Event, Message, decode_event, encode
from emotrace_protocol.events import SessionEnded, SessionStarted
from emotrace_protocol.messages import AudioFormat, SessionEnd, SessionStart
from emotrace_service.__main__ import bound
from emotrace_service.app import create_app
from emotrace_service.server import GracefulServer, uvicorn_config
from emotrace_service.serving import Serving
from emotrace_service.settings import Settings

DEMO = Path(__file__).parents[1] / "clients/emotrace_clients/browser/demo/dialogue.flac"
TIMINGS = "timings"


@dataclass(frozen=True)
class LiveServer:
    """stop: as a signal does."""

    url: str
    serving: Serving
    stop: Callable[[], None]

    @property
    def stream_url(self) -> str:
        return self.url.replace("http", "ws") + "/v1/stream"

    def metric(self, name: str, **labels: str) -> float:
        value = self.serving.metrics.registry.get_sample_value(name, labels)
        assert value is not None, name
        return value


@contextmanager
def live_server(bundle: Path, **options: Any) -> Iterator[LiveServer]:
    """Starts a server, waits until its models are warm, and ends it."""
    settings = Settings(
        **{"bundle": str(bundle), "port": 0, "whisper": "none", "audio_queue_ms": 60_000, **options}
    )
    warm = threading.Event()
    with bound(settings) as listener:
        listener.listen()
        port = listener.getsockname()[1]
        app = create_app(settings, on_ready=lambda _: warm.set())
        serving: Serving = app.state.serving
        server = GracefulServer(uvicorn_config(app), serving)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            assert warm.wait(60), "the server did not become ready"
            stop = partial(server.handle_exit, 0, None)
            yield LiveServer(f"http://127.0.0.1:{port}", serving, stop)
        finally:
            server.should_exit = True
            thread.join(30)
    assert not thread.is_alive(), "the server did not end"


@dataclass
class Talk:
    """A client's side of one connection."""

    socket: ClientConnection
    heard: list[Event] = field(default_factory=list)

    async def say(self, *messages: Message | bytes | str) -> None:
        for message in messages:
            await self.socket.send(encode(message) if isinstance(message, Message) else message)

    async def hear(self) -> Event:
        event = decode_event(str(await asyncio.wait_for(self.socket.recv(), 30)))
        self.heard.append(event)
        return event

    async def until(self, event_type: str) -> Event:
        """The next event of that type; what comes before is in `heard`."""
        while (event := await self.hear()).type != event_type:
            pass
        return event

    async def closed(self) -> int | None:
        """Hear all there is; the close code."""
        try:
            while True:
                await self.hear()
        except ConnectionClosed:
            return self.socket.close_code

    def of(self, event_type: str) -> list[Any]:
        return [event for event in self.heard if event.type == event_type]


@asynccontextmanager
async def talk(server: LiveServer, **headers: str) -> AsyncIterator[Talk]:
    async with connect(
        server.stream_url, compression=None, additional_headers=headers, max_size=None
    ) as socket:
        yield Talk(socket)


async def stream(
    server: LiveServer, start: SessionStart, chunks: Sequence[bytes]
) -> tuple[SessionStarted, list[Event], SessionEnded]:
    """A whole session: start, audio as fast as it goes, end. Gives what was heard."""
    async with talk(server) as client:
        await client.say(start)
        started = await client.until("session.started")
        await client.say(*chunks, SessionEnd())
        ended = await client.until("session.ended")
        await client.closed()
    assert isinstance(started, SessionStarted)
    assert isinstance(ended, SessionEnded)
    return started, client.heard, ended


async def settled(server: LiveServer) -> bool:
    """Whether the server forgets all sessions, given turns to notice who is gone."""
    async with httpx.AsyncClient() as http:
        for _ in range(500):
            await http.get(f"{server.url}/healthz")
            if not server.metric("emotrace_sessions"):
                return True
    return False


def demo_pcm(seconds: float | None = None, channel: int | None = None) -> tuple[AudioFormat, bytes]:
    """The demo dialogue as s16le: its first seconds, all channels or one."""
    samples, rate = soundfile.read(DEMO, dtype="int16", always_2d=True)
    if seconds is not None:
        samples = samples[: int(seconds * rate)]
    if channel is not None:
        samples = samples[:, channel : channel + 1]
    audio = AudioFormat(sample_rate=rate, channels=samples.shape[1])
    return audio, np.ascontiguousarray(samples, dtype="<i2").tobytes()


def pieces(pcm: bytes, size: int = 128_000) -> list[bytes]:
    """A second or so a message."""
    return [pcm[at : at + size] for at in range(0, len(pcm), size)]


def silence(seconds: float, rate: int = 16_000, channels: int = 1) -> bytes:
    return bytes(int(seconds * rate) * channels * 2)


def comparable(heard: Sequence[Event]) -> list[dict[str, Any]]:
    """Events without what differs from run to run: the session's name and timings."""
    plain = []
    for event in heard:
        fields = event.model_dump(mode="json")
        fields.pop(TIMINGS, None)
        fields.pop("session", None)
        plain.append(fields)
    return plain


def close_to(one: Any, other: Any, tolerance: float = 1e-4) -> bool:
    """Equal, but for numbers: probabilities may differ by 1e-5, logits and costs by tenfold."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(
            close_to(one[key], other[key], 1e-5 if key == "posterior" else tolerance) for key in one
        )
    if isinstance(one, list) and isinstance(other, list):
        pairs = zip(one, other, strict=False)
        return len(one) == len(other) and all(close_to(a, b, tolerance) for a, b in pairs)
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= tolerance
    return bool(one == other)


def post_file(
    server: LiveServer, data: bytes, start: dict[str, Any] | None = None, **fields: str
) -> httpx.Response:
    """POST /v1/audio/analyze."""
    form = {"start": json.dumps(start or {}), **fields}
    return httpx.post(f"{server.url}/v1/audio/analyze", files={"file": data}, data=form, timeout=60)
