"""A process that decodes what strangers sent, at the end of whoever started it.

It is confined before it is sent a byte (sandbox.py), and not believed: what it answers has limits,
and it is ended where it breaks them or the deadline.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader, BufferedWriter
from typing import cast

from emotrace_service.confined_pipes import ANSWER, READY

INHERITED = ("PYTHONPATH", "LD_LIBRARY_PATH", "SYSTEMROOT")
START_S = 20.0  # of a busy machine
LARGEST_ANSWER = 16 * 1024 * 1024
NOT_FILTERED = (
    "files and pictures are decoded without a filter of system calls: "
    "this system has none, or forbids it"
)


class ProcessEnded(Exception):
    """It gives no answer: it is no more, or answered what is none."""


class ConfinedProcess:
    """Runs `module`, which calls confined_pipes.serve. Its limits are beside what it has at first.

    It has no files, arguments or environment but what it is given here. `close` it.
    Raises ProcessEnded where none can be started.
    """

    def __init__(self, module: str, memory_bytes: int, processor_s: int) -> None:
        environ = {name: os.environ[name] for name in INHERITED if name in os.environ}
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, str(memory_bytes), str(processor_s)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
                cwd="/" if os.name == "posix" else None,
            )
        except OSError as error:
            raise ProcessEnded from error
        self.pid = self._process.pid
        self._questions = cast(BufferedWriter, self._process.stdin)
        self._answers = cast(BufferedReader, self._process.stdout)
        self._filtered: bool | None = None

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def filtered(self) -> bool:
        """Once it is confined: whether its system calls are filtered. Raises ProcessEnded."""
        if self._filtered is None:
            with self.within(START_S):
                kind, content = self.answer()
            if kind != READY:
                raise ProcessEnded
            self._filtered = content == b"\1"
        return self._filtered

    def ask(self, *parts: bytes) -> None:
        with suppress(OSError):  # that it ended is told by the answer
            for part in parts:
                self._questions.write(part)
            self._questions.flush()

    def answer(self) -> tuple[int, bytes]:
        """The kind and content of its next answer. Raises ProcessEnded."""
        kind, size = ANSWER.unpack(self._read(ANSWER.size))
        return kind, self._read(size)

    def read_into(self, data: memoryview) -> None:
        """As many of its bytes as there is room for. Raises ProcessEnded."""
        if self._answers.readinto(data) < len(data):
            raise ProcessEnded

    def _read(self, size: int) -> bytes:
        data = self._answers.read(size) if size <= LARGEST_ANSWER else b""
        if len(data) < size:
            raise ProcessEnded
        return data

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Ends it where what is done meanwhile takes longer, and raises ProcessEnded."""
        begun = time.monotonic()
        deadline = threading.Timer(seconds, self.kill)
        deadline.daemon = True
        deadline.start()
        try:
            yield
        finally:
            deadline.cancel()
            if time.monotonic() - begun >= seconds:
                raise ProcessEnded

    def kill(self) -> None:
        """Whoever waits for its answer is told that it ended."""
        self._process.kill()

    def close(self) -> None:
        """At any time; nothing of it is left."""
        self.kill()
        for pipe in (self._questions, self._answers):
            with suppress(OSError):
                pipe.close()
        self._process.wait()
