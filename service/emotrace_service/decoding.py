"""Decoding uploaded files outside of the server's process: each has a process of its own, confined
before it sees a byte (decoder_process.py). One more waits, so that nobody waits for it to start."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Callable
from typing import TypeVar

from emotrace_protocol.errors import ErrorCode
from emotrace_protocol.messages import AudioFormat
from emotrace_service.confined_process import NOT_FILTERED, ConfinedProcess, ProcessEnded
from emotrace_service.decoder_process import BLOCK, END, OPENED, REFUSED, REQUEST
from emotrace_service.errors import Advised
from emotrace_service.logs import Logger
from emotrace_service.settings import Settings

T = TypeVar("T")

DEADLINE_S = 20.0  # for one answer: the header, or a second of sound
# What a process may take beside what it has when it begins.
MEMORY_BYTES, COPIES = 256 * 1024 * 1024, 3  # of the file
PROCESSOR_S, PROCESSOR_S_A_MINUTE = 30, 2  # of its sound


class Decoding:
    """A file on its way. audio, total_ms: as emotrace_service.recordings.Recording has them."""

    def __init__(self, process: ConfinedProcess, deadline_s: float) -> None:
        self._process = process
        self._deadline_s = deadline_s
        self.audio = AudioFormat()
        self.total_ms = 0

    async def open(self, data: bytes, max_seconds: float) -> None:
        """Raises ProtocolError, as a Recording does."""
        await self._within(self._process.filtered)
        question = REQUEST.pack(max_seconds, len(data)), data
        kind, content = await self._within(lambda: self._answer(*question))
        assert kind == OPENED
        audio, self.total_ms = json.loads(content)
        self.audio = AudioFormat.model_validate_json(audio)

    async def blocks(self) -> AsyncGenerator[bytes]:
        """A second at a time. Raises ProtocolError where the file breaks off or is too long."""
        while (answer := await self._within(self._answer))[0] == BLOCK:
            yield answer[1]
        assert answer[0] == END

    def close(self) -> None:
        """At any time; nothing of it is left."""
        self._process.close()

    async def _within(self, work: Callable[[], T]) -> T:
        """On a thread, until the deadline. Raises ProtocolError where the process ends."""
        loop = asyncio.get_running_loop()
        deadline = loop.call_later(self._deadline_s, self._process.kill)
        try:
            return await asyncio.to_thread(work)
        except ProcessEnded:
            late = deadline.when() <= loop.time()
            broken = "cannot be decoded: it broke what should have read it"
            raise _undecodable("takes too long to decode" if late else broken) from None
        finally:
            deadline.cancel()

    def _answer(self, *question: bytes) -> tuple[int, bytes]:
        """The next one. Raises ProtocolError: what was refused."""
        self._process.ask(*question)
        kind, content = self._process.answer()
        if kind == REFUSED:
            code, cause = json.loads(content)
            raise Advised(ErrorCode(code), cause)
        return kind, content


def _undecodable(what: str) -> Advised:
    return Advised(
        ErrorCode.AUDIO_CONTAINER_INVALID, f"The file {what}. Write it anew as FLAC, and send that."
    )


class Decoders:
    """Of one server. deadline_s: of each answer of a process."""

    def __init__(self, settings: Settings, log: Logger, deadline_s: float = DEADLINE_S) -> None:
        self._memory_bytes = MEMORY_BYTES + COPIES * settings.max_upload_bytes
        self._processor_s = PROCESSOR_S + PROCESSOR_S_A_MINUTE * settings.max_file_minutes
        self._log = log
        self._deadline_s = deadline_s
        self._lock = threading.Lock()
        self._spare: ConfinedProcess | None = None
        self._closed = False

    def prepare(self) -> None:
        """Start the process of the first file, and say where the system cannot confine it."""
        with self._lock:
            if self._closed or self._spare is not None:
                return
            try:
                self._spare = self._start()
                if not self._spare.filtered():
                    self._log.warning(NOT_FILTERED)
            except ProcessEnded:
                self._log.error("no file can be decoded: the process that should does not start")

    async def open(self, data: bytes, max_seconds: float) -> Decoding:
        """A file whose header has been read; `close` it. Raises ProtocolError."""
        decoding = Decoding(await asyncio.to_thread(self._take), self._deadline_s)
        try:
            await decoding.open(data, max_seconds)
        except BaseException:
            decoding.close()
            raise
        return decoding

    def close(self) -> None:
        """No process waits any more."""
        with self._lock:
            self._closed = True
            if self._spare is not None:
                self._spare.close()
                self._spare = None

    def _take(self) -> ConfinedProcess:
        with self._lock:
            mine, self._spare = self._spare, None if self._closed else self._start()
        if mine is not None and mine.ended:
            mine.close()
            mine = None
        return mine or self._start()

    def _start(self) -> ConfinedProcess:
        return ConfinedProcess(
            "emotrace_service.decoder_process", self._memory_bytes, self._processor_s
        )
