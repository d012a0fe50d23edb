"""Pictures of speakers, kept until their utterances end. Pure: no clock, loop or socket.

What is kept is bounded: of each speaker the newest MOST, all together at most MOST_BYTES. Older
ones are let go; a model that reads faces takes a few pictures a second from the middle of an
utterance, so an utterance of ordinary length loses none.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections import deque
from collections.abc import Mapping

from emotrace_models.types import SAMPLE_RATE, Frame, Utterance

MOST = 300  # pictures of one speaker: ten a second of the longest utterance
MOST_BYTES = 16 * 1024 * 1024  # of one session
MOST_PIXELS = 3_840 * 2_160  # of one picture: decoded it takes 25 MB
LEAD = SAMPLE_RATE  # a picture counts for an utterance that begins up to a second later
JPEG_START = b"\xff\xd8\xff"
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15
_ALONE = frozenset((0x01, *range(0xD0, 0xD9)))  # markers that no length follows
_END, _SCAN = 0xD9, 0xDA


class PictureInvalid(ValueError):
    """What was sent as a picture is none."""


def decoded_jpeg(text: str) -> bytes:
    """Base64 of a JPEG -> its bytes, if its header says that it is not too large.

    Raises PictureInvalid. Its pixels are decoded where they are needed (confined_pictures.py).
    """
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise PictureInvalid("the picture is not base64") from None
    width, height = jpeg_size(data)
    if not 0 < width * height <= MOST_PIXELS:
        raise PictureInvalid(
            f"the picture has {width} x {height} pixels, and may have {MOST_PIXELS} in all"
        )
    return data


def jpeg_size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels, as the header says (ITU-T T.81, B.2). Raises PictureInvalid."""
    if not data.startswith(JPEG_START):
        raise PictureInvalid("the picture is not a JPEG")
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # a filling byte
            at += 1
        elif marker in _ALONE:
            at += 2
        elif marker in (_END, _SCAN):
            break
        elif marker in _FRAME_HEADERS and at + 9 <= len(data):
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        else:
            at += 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))
    raise PictureInvalid("the picture is a JPEG whose header is damaged")


class Pictures:
    """Of one session. kept: to go on from, by speaker."""

    def __init__(self, kept: Mapping[str, tuple[Frame, ...]] | None = None) -> None:
        self._frames = {speaker: deque(frames) for speaker, frames in (kept or {}).items()}
        self._bytes = sum(len(one.image) for frames in self._frames.values() for one in frames)

    @property
    def kept(self) -> Mapping[str, tuple[Frame, ...]]:
        """A value that a new one can go on from."""
        return {speaker: tuple(frames) for speaker, frames in self._frames.items()}

    def push(self, speaker: str, frame: Frame) -> None:
        frames = self._frames.setdefault(speaker, deque())
        frames.append(frame)
        self._bytes += len(frame.image)
        if len(frames) > MOST:
            self._drop(frames)
        while self._bytes > MOST_BYTES:
            self._drop(max(self._frames.values(), key=len))

    def of(self, utterance: Utterance) -> tuple[Frame, ...]:
        """The speaker's pictures from a second before the utterance to its end."""
        return tuple(
            frame
            for frame in self._frames.get(utterance.speaker, ())
            if utterance.start_sample - LEAD <= frame.sample <= utterance.end_sample
        )

    def forget(self, utterance: Utterance) -> None:
        """The utterance is over: its speaker's earlier pictures are of no more use."""
        frames = self._frames.get(utterance.speaker, deque())
        while frames and frames[0].sample < utterance.end_sample - LEAD:
            self._drop(frames)

    def _drop(self, frames: deque[Frame]) -> None:
        self._bytes -= len(frames.popleft().image)
