"""What the commands do: files, or a microphone, through a session and into a view."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Protocol

from rich.console import Console

from emotrace_clients.audio_files import AudioFiles
from emotrace_clients.connecting import DEFAULT_URL, connect
from emotrace_clients.errors import SourceError
from emotrace_clients.lines import JsonLines, PlainLines
from emotrace_clients.microphone import Microphone
from emotrace_clients.session import Session
from emotrace_clients.streaming import BLOCK_MS, converse, hurried, paced, until
from emotrace_clients.terminal import LiveView
from emotrace_clients.turns import Turn, TurnMatcher
from emotrace_protocol import ServerEvent
from emotrace_protocol.messages import MAX_CHANNELS, AudioFormat

STOP_HINT = "Ctrl-C ends the session"


class View(Protocol):
    def show(self, event: ServerEvent) -> None: ...


@dataclass(frozen=True, slots=True)
class Choices:
    """What the commands have in common. speakers: empty for the server's names.

    labels: names, or a scheme; None for the bundle's own.
    """

    url: str = DEFAULT_URL
    speakers: tuple[str, ...] = ()
    transcription: str = "auto"
    language: str | None = None
    interim: bool = True
    bundle: str | None = None
    labels: tuple[str, ...] | str | None = None
    json: bool = False


async def play(
    choices: Choices, paths: Sequence[Path], *, fast: bool, turns: Sequence[Turn] | None
) -> None:
    """Streams sound files, at the pace of time or as fast as the server goes.

    Raises SourceError, and what `connect` and Session raise.
    """
    with AudioFiles(paths) as files, _view(choices) as view, _stop_on_signal() as stop:
        if choices.speakers and len(choices.speakers) != files.channels:
            raise SourceError(
                f"{len(choices.speakers)} speakers are named and the sound has {files.channels} "
                "channels: name one a channel"
            )
        audio = AudioFormat(sample_rate=files.sample_rate, channels=files.channels)
        if fast:  # nobody watches an utterance grow, and the server has more to do
            choices = replace(choices, interim=False)
        async with _connect(choices, audio, words=turns is not None) as session:
            blocks = (
                hurried(files.blocks(BLOCK_MS))
                if fast
                else paced(files.blocks(BLOCK_MS), BLOCK_MS, time.monotonic, asyncio.sleep)
            )
            matcher = None if turns is None else TurnMatcher(turns)
            await converse(session, until(blocks, stop), view.show, matcher)


async def listen(choices: Choices, device: int | str | None) -> None:
    """Streams the microphone until Ctrl-C. Raises MicrophoneError, and what Session raises."""
    channels = max(1, len(choices.speakers))
    if channels > MAX_CHANNELS:
        raise SourceError(
            f"{channels} speakers are too many: at most {MAX_CHANNELS}, one a channel"
        )
    with _view(choices) as view, _stop_on_signal() as stop:

        def on_level(levels_dbfs: tuple[float, ...]) -> None:
            if isinstance(view, LiveView):
                view.levels_dbfs = levels_dbfs

        microphone = Microphone(device, channels, BLOCK_MS, on_level)
        audio = AudioFormat(sample_rate=microphone.sample_rate, channels=channels)
        async with _connect(choices, audio, words=False) as session, microphone:
            await converse(session, until(microphone.blocks(), stop), view.show)
        if microphone.dropped:
            print(
                f"This computer was too busy and left sound out {microphone.dropped} times: "
                "times after that are too early. Close other programs.",
                file=sys.stderr,
            )


def _connect(
    choices: Choices, audio: AudioFormat, *, words: bool
) -> AbstractAsyncContextManager[Session]:
    return connect(
        choices.url,
        audio=audio,
        speakers=choices.speakers or None,
        transcription="client" if words else choices.transcription,
        language=choices.language,
        interim=choices.interim,
        bundle=choices.bundle,
        labels=choices.labels,
    )


@contextmanager
def _view(choices: Choices) -> Iterator[View]:
    console = Console()
    if not choices.json and console.is_terminal:
        with LiveView(console, hint=STOP_HINT) as view:
            yield view
    else:
        yield (JsonLines if choices.json else PlainLines)(lambda line: print(line, flush=True))


@contextmanager
def _stop_on_signal() -> Iterator[asyncio.Event]:
    """An event that the first Ctrl-C (or SIGTERM) sets; the second one interrupts as usual."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in kept.items():
            signal.signal(number, handler)

    def once(number: int, frame: FrameType | None) -> None:
        restore()
        loop.call_soon_threadsafe(stop.set)

    for number in kept:
        signal.signal(number, once)
    try:
        yield stop
    finally:
        restore()
