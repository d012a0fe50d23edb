"""Microphone: the sound card's input as blocks, through PortAudio.

PortAudio calls back from a thread of its own. Its blocks wait in a bounded queue; when that is full
the session is slower than time, and to leave sound out would shift every time after it, so it is an
error. `sounddevice` is imported on use: it is an extra, and needs a system library.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType, TracebackType
from typing import Any, Self

import numpy as np

from emotrace_clients.errors import MicrophoneError
from emotrace_clients.levels import levels_dbfs

PREFERRED_RATES = (16_000, 48_000, 44_100, 24_000, 8_000)
MAX_WAITING_MS = 40_000  # a connection that is dead without a word is found out in less
STALL_S = 5.0

NO_DRIVER = (
    "The microphone needs the library PortAudio: `apt-get install libportaudio2` on Debian and "
    "Ubuntu, `dnf install portaudio` on Fedora (on macOS and Windows it comes with sounddevice)."
)
NO_PACKAGE = "The microphone needs the package sounddevice: `pip install 'emotrace[microphone]'`."
STOPPED = "The microphone stopped giving sound. Is it still plugged in?"
NO_DEVICE = (
    "No microphone was found. Plug one in, or allow this program to use it in the system's sound "
    "or privacy settings; `emotrace listen --list-devices` shows what there is. Without one, "
    "`emotrace stream FILE` takes a recording."
)


class Microphone:
    """An open input, as an async context manager; sound waits from then on.

    device: a number or part of a name of `device_names()`; None is the system's default.
    sample_rate: Hz, the first of PREFERRED_RATES that the device takes.
    dropped: how often the system left sound out because this computer was too busy.

    Raises MicrophoneError, with the cure.
    """

    def __init__(
        self,
        device: int | str | None,
        channels: int,
        block_ms: int,
        on_level: Callable[[tuple[float, ...]], None],
    ) -> None:
        self._sounddevice = _sounddevice()
        self.device = _input_device(self._sounddevice, device, channels)
        self.sample_rate = self._first_rate(channels)
        self.channels = channels
        self.dropped = 0
        self._block_ms = block_ms
        self._on_level = on_level
        self._waiting: deque[bytes] = deque()
        self._arrived = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._failure: MicrophoneError | None = None
        self._stream: Any = None

    async def __aenter__(self) -> Self:
        with ExitStack() as quiet:  # for as long as it is open: a device may be unplugged
            quiet.enter_context(_quiet_drivers())
            try:
                self._stream = self._sounddevice.RawInputStream(
                    samplerate=self.sample_rate,
                    blocksize=self.sample_rate * self._block_ms // 1000,
                    device=self.device,
                    channels=self.channels,
                    dtype="int16",
                    callback=self._called_back,
                    finished_callback=self._finished,
                )
                self._stream.start()
            except self._sounddevice.PortAudioError as error:
                raise MicrophoneError(
                    f"The microphone cannot be opened: {error}. Is another program using it? "
                    "`emotrace listen --list-devices` shows the others."
                ) from None
            self._quiet = quiet.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._quiet:
            self._stream.close()

    async def blocks(self) -> AsyncIterator[bytes]:
        """Blocks of s16le, `channels` interleaved, without end."""
        while True:
            try:
                async with asyncio.timeout(STALL_S):
                    await self._arrived.wait()
            except TimeoutError:  # some drivers do not tell that a device is gone
                self._fail(STOPPED)
            if self._failure is not None:
                raise self._failure
            block = self._waiting.popleft()
            if not self._waiting:
                self._arrived.clear()
            yield block

    def _first_rate(self, channels: int) -> int:
        reason = ""
        for rate in PREFERRED_RATES:
            try:
                with _quiet_drivers():
                    self._sounddevice.check_input_settings(
                        device=self.device, channels=channels, dtype="int16", samplerate=rate
                    )
            except (self._sounddevice.PortAudioError, ValueError) as error:
                reason = str(error)
            else:
                return rate
        raise MicrophoneError(
            f"The microphone gives none of the rates {', '.join(map(str, PREFERRED_RATES))} Hz "
            f"({reason}). Choose another with --device; --list-devices shows them."
        )

    def _called_back(self, data: Any, frames: int, time: Any, status: Any) -> None:
        """On PortAudio's thread."""
        self._loop.call_soon_threadsafe(self._take, bytes(data), bool(status.input_overflow))

    def _finished(self) -> None:
        """On PortAudio's thread: the stream ended, by closing it or by itself."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._fail, STOPPED)

    def _take(self, block: bytes, overflowed: bool) -> None:
        self.dropped += overflowed
        if len(self._waiting) >= MAX_WAITING_MS // self._block_ms:
            self._fail(
                f"{MAX_WAITING_MS / 1000:.0f} s of sound wait to be sent: the network or the "
                "server is slower than time. Use a server that is nearer, or less busy."
            )
            return
        self._waiting.append(block)
        self._on_level(levels_dbfs(np.frombuffer(block, "<i2").reshape(-1, self.channels)))
        self._arrived.set()

    def _fail(self, sentence: str) -> None:
        self._failure = self._failure or MicrophoneError(sentence)
        self._arrived.set()


def device_names() -> list[str]:
    """The inputs that there are, one line each: number, name, channels. Raises MicrophoneError."""
    inputs = _inputs(_sounddevice())
    return [f"{one['index']:3}  {one['name']}  ({one['max_input_channels']} in)" for one in inputs]


def _inputs(sounddevice: ModuleType) -> list[dict[str, Any]]:
    inputs = [one for one in sounddevice.query_devices() if one["max_input_channels"] > 0]
    if not inputs:
        raise MicrophoneError(NO_DEVICE)
    return inputs


def _sounddevice() -> ModuleType:
    try:
        with _quiet_drivers():
            import sounddevice
    except ModuleNotFoundError:
        raise MicrophoneError(NO_PACKAGE) from None
    except OSError:  # PortAudio itself is missing
        raise MicrophoneError(NO_DRIVER) from None
    module: ModuleType = sounddevice
    return module


def _input_device(sounddevice: ModuleType, device: int | str | None, channels: int) -> int:
    """The device's number. Raises MicrophoneError where there is none such."""
    inputs = _inputs(sounddevice)
    try:
        found = sounddevice.query_devices(device, "input")
    except (ValueError, sounddevice.PortAudioError) as error:
        there = "; ".join(f"{one['index']} {one['name']}" for one in inputs)
        if device is None:
            told = f"The system has no input that is used by default ({error}). Choose one with"
        elif isinstance(device, str) and "multiple" in str(error).lower():
            told = f"Several inputs are called {device!r}. Give the number of one with"
        else:
            told = f"There is no input device {device!r}. Give another with"
        raise MicrophoneError(f"{told} --device: {there}.") from None
    if found["max_input_channels"] < channels:
        raise MicrophoneError(
            f"{found['name']} has {found['max_input_channels']} input channel(s), and {channels} "
            "speakers need one each. Choose another with --device, or name fewer --speakers."
        )
    return int(found["index"])


@contextmanager
def _quiet_drivers() -> Iterator[None]:
    """Keeps PortAudio, ALSA and JACK, which print to the process's standard error, out of the view.
    What Python prints there is still printed."""
    python = sys.stderr
    python.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        with os.fdopen(os.dup(2), "w", buffering=1) as sys.stderr:
            os.dup2(nowhere, 2)
            yield
    finally:
        sys.stderr = python
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
