"""What the first bytes of a stream are: raw samples, a WAV header to skip, or a file. Pure.

A client that sends a file where raw samples belong would otherwise get loud noise and no error.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from emotrace_protocol.messages import AudioEncoding, AudioFormat

WAV_HEADER_BYTES = 44

# (bytes to skip, what must stand there, kind of file). Long enough not to be met by chance.
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"RF64", "RF64 WAV"),
    (0, b"OggS\x00", "Ogg"),
    (0, b"\x1a\x45\xdf\xa3", "WebM or Matroska"),
    (0, b"ID3\x02", "MP3"),
    (0, b"ID3\x03", "MP3"),
    (0, b"ID3\x04", "MP3"),
    (0, b"fLaC", "FLAC"),
    (4, b"ftyp", "MP4"),
)
# Shorter, and so looked for in whole files only, never in what may be raw samples.
_FILE_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (4, b"ftypM4A", "M4A"),
    (4, b"ftypqt", "QuickTime"),
    (8, b"AVI ", "AVI"),
    (0, b"FLV\x01", "Flash video"),
    (0, b"\x30\x26\xb2\x75", "Windows Media"),
    (0, b"FORM", "AIFF"),
    (0, b"caff", "CAF"),
    (0, b"#!AMR", "AMR"),
    (0, b"\x47\x40", "MPEG transport stream"),
    (0, b"\x00\x00\x01\xba", "MPEG video"),
    (0, b"\xff\xf1", "AAC"),
    (0, b"\xff\xf9", "AAC"),
    (0, b"\xff\xfb", "MP3"),
    (0, b"\xff\xf3", "MP3"),
    (0, b"\xff\xf2", "MP3"),
)
_NEEDED = max(skip + len(magic) for skip, magic, _ in _SIGNATURES)

# WAVE_FORMAT codes and bits a sample, of RFC 2361 and the RIFF standard.
_WAVE_FORMATS: dict[AudioEncoding, tuple[int, int]] = {
    AudioEncoding.S16LE: (1, 16),
    AudioEncoding.F32LE: (3, 32),
    AudioEncoding.ALAW: (6, 8),
    AudioEncoding.MULAW: (7, 8),
}


@dataclass(frozen=True, slots=True)
class Opening:
    """How a stream begins: `skip` header bytes to leave out, or `suspect`, what it seems to be."""

    skip: int = 0
    suspect: str | None = None


def _wav_opening(head: bytes, audio: AudioFormat) -> Opening:
    tag, channels, rate, _, align, bits = struct.unpack_from("<HHIIHH", head, 20)
    code, bits_expected = _WAVE_FORMATS[audio.encoding]
    if head[12:16] != b"fmt " or head[36:40] != b"data":
        return Opening(suspect="a WAV file whose header is not the plain 44 bytes")
    found = (tag, bits, channels, rate, align)
    stated = (
        code,
        bits_expected,
        audio.channels,
        audio.sample_rate,
        audio.channels * bits_expected // 8,
    )
    if found != stated:
        return Opening(
            suspect=f"a WAV file of format {tag}, {bits} bits, {channels} channels at {rate} Hz, "
            "which is not the stated format"
        )
    return Opening(skip=WAV_HEADER_BYTES)


def sniff(head: bytes, audio: AudioFormat, *, complete: bool = False) -> Opening | None:
    """What the stream is that begins with `head`; None: more bytes are needed to say.

    complete: no more bytes will come.
    """
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE" and len(head) >= WAV_HEADER_BYTES:
        return _wav_opening(head, audio)
    riff_so_far = b"RIFF".startswith(head[:4]) and b"WAVE".startswith(head[8:12])
    if not complete and riff_so_far and len(head) < WAV_HEADER_BYTES:
        return None
    kind = _kind(head, _SIGNATURES)
    if kind is not None:
        return Opening(suspect=f"an encoded file ({kind})")
    if not complete and len(head) < _NEEDED:
        return None
    return Opening()


def file_kind(head: bytes) -> str | None:
    """What kind of file it is that begins with `head`, where it is known."""
    return _kind(head, _FILE_SIGNATURES + _SIGNATURES)


def _kind(head: bytes, signatures: tuple[tuple[int, bytes, str], ...]) -> str | None:
    return next(
        (kind for skip, magic, kind in signatures if head[skip : skip + len(magic)] == magic), None
    )
