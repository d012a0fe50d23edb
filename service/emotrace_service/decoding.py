"""Decoding uploaded files outside of the server's process: each has a process of its own, confined
before it sees a byte (decoder_process.py). One more waits, so that nobody waits for it to start."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Any

from emotrace_protocol.errors import ErrorCode
from emotrace_protocol.messages import AudioFormat
from emotrace_service.decoder_process import (
    ANSWER,
    BLOCK,
    END,
    OPENED,
    REFUSED,
    REQUEST,
)
from emotrace_service.errors import Advised
from emotrace_service.logs import Logger
from emotrace_service.settings import Settings

DEADLINE_S = 20.0  # for one answer: the header, or a second of sound
# What a process may take beside what it has when it begins.
MEMORY_BYTES, COPIES = 256 * 1024 * 1024, 3  # of the file
PROCESSOR_S, PROCESSOR_S_A_MINUTE = 30, 2  # of its sound
INHERITED = ("PYTHONPATH", "LD_LIBRARY_PATH", "SYSTEMROOT")
NOT_FILTERED = (
    "files are decoded without a filter of system calls: this system has none, or forbids it"
)


class Decoding:
    """A file on its way. audio, total_ms: as emotrace_service.recordings.Recording has them."""

    def __init__(self, process: subprocess.Popen[bytes], deadline_s: float) -> None:
        self._process = process
        self._deadline_s = deadline_s
        self.audio = AudioFormat()
        self.total_ms = 0

    async def open(self, data: bytes, max_seconds: float) -> bool:
        """Whether system calls are filtered. Raises ProtocolError, as a Recording does."""
        ready = await self._within(self._answer)
        await self._within(self._ask, data, max_seconds)
        kind, content = await self._within(self._answer)
        assert kind == OPENED
        audio, self.total_ms = json.loads(content)
        self.audio = AudioFormat.model_validate_json(audio)
        return bool(json.loads(ready[1])["filter"])

    async def blocks(self) -> AsyncGenerator[bytes]:
        """A second at a time. Raises ProtocolError where the file breaks off or is too long."""
        while (answer := await self._within(self._answer))[0] == BLOCK:
            yield answer[1]
        assert answer[0] == END

    def close(self) -> None:
        """At any time; nothing of it is left."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(OSError):
                pipe.close()
        self._process.wait()

    async def _within(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """On a thread, until the deadline."""
        task = asyncio.create_task(asyncio.to_thread(work, *arguments))
        task.add_done_callback(_forget)
        done, _ = await asyncio.wait([task], timeout=self._deadline_s)
        if not done:
            self._process.kill()  # so that the thread is free again
            with suppress(Advised):
                await task
            raise _undecodable("takes too long to decode")
        return task.result()

    def _ask(self, data: bytes, max_seconds: float) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):  # that it ended is told by the answer
            self._process.stdin.write(REQUEST.pack(max_seconds, len(data)))
            self._process.stdin.write(data)
            self._process.stdin.flush()

    def _answer(self) -> tuple[int, bytes]:
        """Raises ProtocolError: what was refused, or that the process is no more."""
        assert self._process.stdout is not None
        head = self._process.stdout.read(ANSWER.size)
        kind, size = ANSWER.unpack(head) if len(head) == ANSWER.size else (None, 0)
        content = self._process.stdout.read(size)
        if kind is None or len(content) < size:
            raise _undecodable("cannot be decoded: it broke what should have read it")
        if kind == REFUSED:
            code, cause = json.loads(content)
            raise Advised(ErrorCode(code), cause)
        return kind, content


def _forget(task: asyncio.Task[Any]) -> None:
    """Whoever waited for it may be gone; then nobody looks at how it failed."""
    if not task.cancelled():
        task.exception()


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
        self._spare: subprocess.Popen[bytes] | None = None
        self._warned = False
        self._closed = False

    def prepare(self) -> None:
        """Start the process of the first file."""
        with self._lock:
            if not self._closed:
                self._spare = self._spare or self._start()

    async def open(self, data: bytes, max_seconds: float) -> Decoding:
        """A file whose header has been read; `close` it. Raises ProtocolError."""
        decoding = Decoding(await asyncio.to_thread(self._take), self._deadline_s)
        try:
            filtered = await decoding.open(data, max_seconds)
        except BaseException:
            decoding.close()
            raise
        if not (filtered or self._warned):
            self._warned = True
            self._log.warning(NOT_FILTERED)
        return decoding

    def close(self) -> None:
        """No process waits any more."""
        with self._lock:
            self._closed = True
            if self._spare is not None:
                Decoding(self._spare, self._deadline_s).close()
                self._spare = None

    def _take(self) -> subprocess.Popen[bytes]:
        with self._lock:
            mine, self._spare = self._spare, None if self._closed else self._start()
        if mine is not None and mine.poll() is not None:
            Decoding(mine, self._deadline_s).close()
            mine = None
        return mine or self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        """A process with no files, arguments or environment but these."""
        environ = {name: os.environ[name] for name in INHERITED if name in os.environ}
        program = [sys.executable, "-P", "-m", "emotrace_service.decoder_process"]
        return subprocess.Popen(
            [*program, str(self._memory_bytes), str(self._processor_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
            cwd="/" if os.name == "posix" else None,
        )
