"""Pictures of speakers, kept until their utterances end. Pure: no clock, loop or socket.

What is kept is bounded: of each speaker the newest MOST, all together at most MOST_BYTES. Older
ones are let go; a model that reads faces takes a few pictures a second from the middle of an
utterance, so an utterance of ordinary length loses none.
"""

from __future__ import annotations

import base64
import binascii
from collections import deque
from collections.abc import Mapping

from emotrace_models.types import SAMPLE_RATE, Frame, Utterance

MOST = 300  # pictures of one speaker: ten a second of the longest utterance
MOST_BYTES = 16 * 1024 * 1024  # of one session
LEAD = SAMPLE_RATE  # a picture counts for an utterance that begins up to a second later
JPEG_START = b"\xff\xd8\xff"


class PictureInvalid(ValueError):
    """What was sent as a picture is none."""


def decoded_jpeg(text: str) -> bytes:
    """Base64 of a JPEG -> its bytes. Raises PictureInvalid. Its pixels are decoded by the model."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise PictureInvalid("the picture is not base64") from None
    if not data.startswith(JPEG_START):
        raise PictureInvalid("the picture is not a JPEG")
    return data


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
