"""What the commands do: files, or a microphone, through a session and into a view."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Protocol

from rich.console import Console

from emotrace_clients.audio_files import AudioFiles
from emotrace_clients.channels import SameSound
from emotrace_clients.connecting import DEFAULT_URL, connect
from emotrace_clients.errors import SessionFailed, SourceError
from emotrace_clients.levels import SILENT_DBFS
from emotrace_clients.lines import JsonLines, PlainLines
from emotrace_clients.microphone import Microphone
from emotrace_clients.progress import FileProgress
from emotrace_clients.session import Session
from emotrace_clients.sound_readers import FloatArray
from emotrace_clients.streaming import BLOCK_MS, converse, hurried, paced, until
from emotrace_clients.terminal import LiveView
from emotrace_clients.turns import Turn, TurnMatcher
from emotrace_protocol import ErrorCode, ServerEvent
from emotrace_protocol.messages import MAX_CHANNELS, AudioFormat

STOP_HINT = "Ctrl-C ends the session"
LONG_S = 600.0
SILENT_AFTER_BLOCKS = 5_000 // BLOCK_MS


class View(Protocol):
    def show(self, event: ServerEvent) -> None: ...

    def note(self, sentence: str) -> None:
        """Something that no event says."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What the commands have in common. speakers: empty for the server's names.

    labels: names, or a scheme; None for the bundle's own. mono: each file is one speaker.
    """

    url: str = DEFAULT_URL
    speakers: tuple[str, ...] = ()
    transcription: str = "auto"
    language: str | None = None
    interim: bool = True
    bundle: str | None = None
    labels: tuple[str, ...] | str | None = None
    json: bool = False
    mono: bool = False


async def play(
    choices: Choices, paths: Sequence[Path], *, fast: bool, turns: Sequence[Turn] | None
) -> None:
    """Streams sound files, at the pace of time or as fast as the server goes.

    Raises SourceError, and what `connect` and Session raise.
    """
    with AudioFiles(paths, mono=choices.mono) as files, _view(choices) as view:
        if isinstance(view, LiveView):
            progress = FileProgress(files.duration_s, view.console)
            view.progress = progress.bar
            await send_files(choices, files, view, progress, fast=fast, turns=turns)
        else:
            progress = FileProgress(files.duration_s, Console(stderr=True))
            with progress.bar:
                await send_files(choices, files, view, progress, fast=fast, turns=turns)


async def send_files(
    choices: Choices,
    files: AudioFiles,
    view: View,
    progress: FileProgress,
    *,
    fast: bool,
    turns: Sequence[Turn] | None,
) -> None:
    """A session from its start to its totals. Ctrl-C ends it early, and properly."""
    if choices.speakers and len(choices.speakers) != files.channels:
        raise SourceError(
            f"{len(choices.speakers)} speakers are named and the sound has {files.channels} "
            "channels: name one a channel, or make each file one with --mono"
        )
    if not fast and (files.duration_s or 0) > LONG_S:
        view.note("This takes as long as the sound does; --fast goes as fast as the server.")
    audio = AudioFormat(sample_rate=files.sample_rate, channels=files.channels)
    if fast:  # nobody watches an utterance grow, and the server has more to do
        choices = replace(choices, interim=False)
    blocks = progress.counted(
        _compared(files.blocks(BLOCK_MS), files.sample_rate, view.note), files.sample_rate
    )
    with _stop_on_signal() as stop:
        async with _connect(choices, audio, view, words=turns is not None) as session:
            sent = (
                hurried(blocks) if fast else paced(blocks, BLOCK_MS, time.monotonic, asyncio.sleep)
            )
            matcher = None if turns is None else TurnMatcher(turns)
            try:
                await converse(session, until(sent, stop), view.show, matcher)
            except SessionFailed as error:
                raise _of_a_file(error, session.started.limits.idle_no_speech_ms) from None


async def listen(choices: Choices, device: int | str | None) -> None:
    """Streams the microphone until Ctrl-C. Raises MicrophoneError, and what Session raises."""
    channels = max(1, len(choices.speakers))
    if channels > MAX_CHANNELS:
        raise SourceError(
            f"{channels} speakers are too many: at most {MAX_CHANNELS}, one a channel"
        )
    with _view(choices) as view, _stop_on_signal() as stop:
        silent = 0

        def on_level(levels_dbfs: tuple[float, ...]) -> None:
            nonlocal silent
            if isinstance(view, LiveView):
                view.levels_dbfs = levels_dbfs
                silent = silent + 1 if max(levels_dbfs) <= SILENT_DBFS else -sys.maxsize
                if silent == SILENT_AFTER_BLOCKS:
                    view.note(
                        "Nothing but silence comes from the microphone. Is it muted, or is another "
                        "one meant? `emotrace listen --list-devices` shows them."
                    )

        microphone = Microphone(device, channels, BLOCK_MS, on_level)
        audio = AudioFormat(sample_rate=microphone.sample_rate, channels=channels)
        async with _connect(choices, audio, view, words=False) as session, microphone:
            await converse(session, until(microphone.blocks(), stop), view.show)
        if microphone.dropped:
            print(
                f"This computer was too busy and left sound out {microphone.dropped} times: "
                "times after that are too early. Close other programs.",
                file=sys.stderr,
            )


def _connect(
    choices: Choices, audio: AudioFormat, view: View, *, words: bool
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
        on_connection=lambda change: view.note(change.message),
    )


def _compared(
    blocks: Iterator[FloatArray], sample_rate: int, note: Callable[[str], None]
) -> Iterator[FloatArray]:
    """The same blocks; says where channels carry the same sound."""
    same = SameSound(sample_rate)
    for block in blocks:
        if same.push(block):
            note(
                "All channels carry the same sound, so that each utterance comes once a channel: "
                "--mono takes them as one."
            )
        yield block


def _of_a_file(error: SessionFailed, limit_ms: int) -> SessionFailed | SourceError:
    if error.event.code != ErrorCode.IDLE_NO_SPEECH:
        return error
    return SourceError(
        f"There are {limit_ms / 60_000:g} minutes without speech in the sound, and the server "
        "ends such sessions. Cut them out, or let the server wait longer "
        "(EMOTRACE_IDLE_NO_SPEECH_MS)."
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
