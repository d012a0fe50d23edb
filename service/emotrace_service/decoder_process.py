"""The process that decodes one uploaded file, in a sandbox: bytes come in, sound goes out.

    in    how many seconds there may be (float64), number of bytes (uint64), the file
    out   READY once it is confined; OPENED and BLOCKs, or REFUSED; END

Its arguments are its limits, of memory in bytes and of processor time in seconds.
Each answer is its kind (a byte), its length (uint32) and its content. docs/decisions/0026.
"""

from __future__ import annotations

import io
import json
import os
import struct
import sys
from contextlib import suppress

from emotrace_protocol.errors import ProtocolError
from emotrace_service.recordings import Recording
from emotrace_service.sandbox import confine

REQUEST = struct.Struct("<dQ")
ANSWER = struct.Struct("<BI")
READY, OPENED, BLOCK, REFUSED, END = range(5)
INPUT, OUTPUT = 0, 1


def main() -> None:
    memory_bytes, processor_s = map(int, sys.argv[1:])
    rehearse()
    answer(READY, json.dumps({"filter": confine(memory_bytes, processor_s)}).encode())
    seconds, size = REQUEST.unpack(read(REQUEST.size))
    try:
        recording = Recording(read(size), seconds)
        audio = recording.audio.model_dump_json()
        answer(OPENED, json.dumps([audio, recording.total_ms]).encode())
        for block in recording.blocks():
            answer(BLOCK, block)
    except ProtocolError as error:
        answer(REFUSED, json.dumps([error.code.value, error.cause]).encode())
    else:
        answer(END, b"")


def rehearse() -> None:
    """Once through all of it: what Python and its libraries load late, they cannot load later."""
    import numpy as np
    import soundfile

    for kind, subtype, rate in (
        ("WAV", "FLOAT", 16_000),
        ("FLAC", "PCM_16", 22_050),
        ("OGG", "VORBIS", 22_050),
        ("OGG", "OPUS", 48_000),
    ):
        file = io.BytesIO()
        soundfile.write(file, np.zeros((rate // 4, 2)), rate, subtype, format=kind)
        recording = Recording(file.getvalue(), 1.0)
        json.dumps([recording.audio.model_dump_json(), recording.total_ms])
        assert list(recording.blocks())
        for broken in (file.getvalue()[: len(file.getvalue()) // 2], b"no sound"):
            with suppress(ProtocolError):
                list(Recording(broken, 1.0).blocks())
    with suppress(ProtocolError):
        Recording(file.getvalue(), 0.01)


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
    data = memoryview(ANSWER.pack(kind, len(content)) + content)
    while data:
        data = data[os.write(OUTPUT, data) :]


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        main()
    os._exit(0)  # at its usual end Python would look at files
