"""A websocket server that plays a script, for tests of clients."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from emotrace_protocol import Message, ServerConversation, decode_message, encode
from emotrace_protocol.estimates import Contribution, DecoderResult, Explanation, Timings
from emotrace_protocol.events import (
    BundleInfo,
    DecoderInfo,
    EmotionFinal,
    Event,
    Limits,
    MarkerReached,
    ModalityStatus,
    SessionEnded,
    SessionStarted,
    Totals,
)
from emotrace_protocol.messages import Marker, SessionEnd, SessionStart

AUDIO_QUEUE_MS = 3_000


class Scripted:
    """The server's side of one connection. audio_bytes: heard so far."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket
        self.conversation = ServerConversation()
        self.audio_bytes = 0
        self.messages: list[Message] = []

    async def hear(self) -> Message | bytes:
        data = await self.socket.recv()
        if isinstance(data, bytes):
            self.audio_bytes += len(data)
            return data
        message, unknown = decode_message(data)
        assert not unknown
        self.conversation.receive(message)
        self.messages.append(message)
        return message

    async def say(self, event_type: type[Event], **fields: Any) -> None:
        await self.socket.send(encode(self.conversation.number(event_type, **fields)))

    async def start(self) -> SessionStart:
        """Answers session.start."""
        start = await self.hear()
        assert isinstance(start, SessionStart)
        await self.say(SessionStarted, **started(start))
        return start

    async def serve_until_end(self) -> None:
        """Echoes markers, then ends the session with true totals."""
        while not isinstance(message := await self.hear(), SessionEnd):
            if isinstance(message, Marker):
                await self.say(MarkerReached, id=message.id, audio_ms=0)
        await self.end()

    async def end(self, **changed: int) -> None:
        counts = self.conversation.counts
        totals = {
            "audio_ms": 0,
            "audio_bytes": self.audio_bytes,
            "messages": len(self.messages),
            "utterances": counts["speech.ended"],
            "finals": counts["emotion.final"],
            "revisions": counts["emotion.revised"],
            "rejected": counts["speech.rejected"],
            "failed": 0,
            "events": self.conversation.sent + 1,
        }
        await self.say(SessionEnded, reason="client", totals=Totals(**{**totals, **changed}))


Script = Callable[[Scripted], Awaitable[None]]


@asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[str]:
    """The address of a server that plays `script` to each connection and then closes it.

    A fault in the script fails the test.
    """
    faults: list[Exception] = []

    async def handle(socket: ServerConnection) -> None:
        try:
            await script(Scripted(socket))
        except ConnectionClosed:
            pass  # the client left
        except Exception as fault:
            faults.append(fault)

    async with serve(handle, "127.0.0.1", 0, compression=None) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/stream"
    if faults:
        raise faults[0]


def started(start: SessionStart) -> dict[str, Any]:
    """The fields of a session.started that answers `start`."""
    names = tuple("ABCDEFGH"[: start.audio.channels])
    return {
        "session": "s-1",
        "protocol_version": 1,
        "bundle": BundleInfo(name="toy", version="0", licence="CC0-1.0", languages=("en",)),
        "labels": ("anger", "happiness"),
        "modalities": (
            ModalityStatus(modality="acoustic", live=True),
            ModalityStatus(modality="lexical", live=start.transcription != "off", reason="off"),
        ),
        "audio": start.audio,
        "speakers": start.speakers or names,
        "decoder": DecoderInfo(
            shift_probability=0.3, concentration=1.0, beam=10, lag=2, commit=False
        ),
        "limits": Limits(
            max_message_bytes=1_048_576,
            max_text_characters=4_096,
            max_utterance_ms=15_000,
            audio_queue_ms=AUDIO_QUEUE_MS,
            idle_no_audio_ms=60_000,
            idle_no_speech_ms=900_000,
        ),
    }


def slot(utterance: int | None, speaker: str | None, anger: float, **fields: Any) -> Contribution:
    """One contribution of an explanation, by default of the speaker's own voice."""
    return Contribution(
        **{"offset": 0, "role": "self", "modality": "acoustic", "gate": 0.5, **fields},
        utterance=utterance,
        speaker=speaker,
        logits={"anger": anger, "happiness": -anger},
    )


def final_fields(utterance: int = 0, speaker: str = "A", **changed: Any) -> dict[str, Any]:
    """The fields of an emotion.final, all but its sequence."""
    posterior = {"anger": 0.8, "happiness": 0.2}
    return {
        "utterance": utterance,
        "speaker": speaker,
        "start_ms": 1_000 * utterance,
        "end_ms": 1_000 * utterance + 900,
        "label": "anger",
        "posterior": posterior,
        "confidence": 0.8,
        "abstained": False,
        "modalities": ("acoustic",),
        "missing": ("lexical",),
        "decoder": DecoderResult(
            label="anger",
            posterior=posterior,
            emission=0.2,
            shift=0.0,
            assignment=0.0,
            runner_up="happiness",
            gap=1.4,
        ),
        "explanation": Explanation(
            contributions=(slot(utterance, speaker, 0.7), slot(None, None, 0.0, offset=1)),
            bias={"anger": 0.0, "happiness": 0.0},
            logits={"anger": 0.7, "happiness": -0.7},
        ),
        "timings": Timings(
            endpointing_ms=500,
            queue_ms=0,
            transcription_ms=0,
            encoding_ms=1,
            fusion_ms=1,
            decoding_ms=0,
            lag_ms=2,
        ),
        **changed,
    }


def final(utterance: int = 0, speaker: str = "A", **changed: Any) -> EmotionFinal:
    """An emotion.final on its own."""
    return EmotionFinal(sequence=0, **final_fields(utterance, speaker, **changed))
