"""A Listener to a server that plays a script, and what such scripts say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from scripted_server import Scripted, final_fields

from emotrace_clients.integrations.listener import Listener
from emotrace_protocol.events import EmotionFinal, EmotionInterim, SpeechEnded, SpeechStarted

NOWHERE = "ws://127.0.0.1:9/v1/stream"
PIECE = bytes(640)  # 20 ms
PATIENT_MS = 200_000  # a test that waits so long has failed


@asynccontextmanager
async def listening(url: str, **options: Any) -> AsyncIterator[Listener]:
    listener = Listener(url, **options)
    try:
        yield listener
    finally:
        await listener.close()


async def speak(server: Scripted, utterance: int, speaker: str = "User") -> None:
    await server.say(SpeechStarted, utterance=utterance, speaker=speaker, start_ms=0)


async def end(server: Scripted, utterance: int) -> None:
    await server.say(
        SpeechEnded, utterance=utterance, speaker="User", start_ms=0, end_ms=900, reason="silence"
    )


async def judge(server: Scripted, utterance: int, speaker: str = "User") -> None:
    await server.say(EmotionFinal, **final_fields(utterance, speaker))


async def guess(server: Scripted, utterance: int) -> None:
    fields = final_fields(utterance, "User")
    for name in ("decoder", "explanation", "timings"):
        del fields[name]
    await server.say(EmotionInterim, **fields)


async def read(server: Scripted) -> None:
    """Takes whatever comes, for ever."""
    while True:
        await server.hear()
