"""The process that decodes one uploaded file, in a sandbox: bytes come in, sound goes out.

    in    how many seconds there may be (float64), number of bytes (uint64), the file
    out   OPENED and BLOCKs, or REFUSED; END

Answers are as in confined_pipes.py. docs/decisions/0026.
"""

from __future__ import annotations

import io
import json
import struct
from contextlib import suppress

from emotrace_protocol.errors import ProtocolError
from emotrace_service.confined_pipes import READY, answer, read, serve
from emotrace_service.recordings import Recording

REQUEST = struct.Struct("<dQ")
OPENED, BLOCK, REFUSED, END = range(READY + 1, READY + 5)


def decode() -> None:
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


if __name__ == "__main__":
    serve(rehearse, decode)
