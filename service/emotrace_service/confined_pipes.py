"""A confined process at its own end: it is asked on one pipe, and answers on the other.

Each answer is its kind (a byte), its length (uint32) and its content. The first is READY: whether
system calls are filtered (a byte). What the others are, each kind of process says for itself.
"""

from __future__ import annotations

import os
import signal
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from emotrace_service.sandbox import confine

ANSWER = struct.Struct("<BI")
READY = 0
INPUT, OUTPUT = 0, 1


def serve(rehearse: Callable[[], None], work: Callable[[], None]) -> NoReturn:
    """All of a process, whose arguments are its limits: of memory in bytes, of processor time in
    seconds.

    rehearse: goes once through all of the work; what Python and its libraries load late, they
    cannot load later.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches it too; the server ends it
    memory_bytes, processor_s = map(int, sys.argv[1:])
    rehearse()
    with suppress(BrokenPipeError):
        answer(READY, bytes([confine(memory_bytes, processor_s)]))
        work()
    os._exit(0)  # at its usual end Python would look at files


def read(size: int) -> bytes:
    """Whoever wanted an answer may be gone; then nobody needs this process any more."""
    data = bytearray(size)
    view, at = memoryview(data), 0
    while at < size:
        piece = os.read(INPUT, min(size - at, 1 << 20))
        if not piece:
            os._exit(0)
        view[at : at + len(piece)] = piece
        at += len(piece)
    return bytes(data)


def answer(kind: int, content: bytes) -> None:
    write(ANSWER.pack(kind, len(content)) + content)


def write(data: bytes | memoryview) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(OUTPUT, rest) :]
