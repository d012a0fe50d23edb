"""Readers of one sound file each: libsndfile's formats, and through PyAV whatever FFmpeg decodes.

PyAV (`av`) is imported on use: it is an extra, for videos and the formats of phones.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import soundfile
from numpy.typing import NDArray

from emotrace_clients.errors import SourceError

PIECE_S = 1
GAP_S = 0.1  # times of frames that lie so much further on: nothing was recorded meanwhile
MICROSECONDS = 1_000_000
NOWHERE_ELSE = {"protocol_whitelist": "none"}  # a playlist would name other files, and addresses
CURE = (
    "WAV, FLAC, Ogg, Opus, MP3 and AIFF work; for videos and most else "
    "`pip install 'emotrace[media]'`, or convert it, with ffmpeg say."
)

FloatArray = NDArray[np.float32]


class SoundReader(Protocol):
    """An open file. rate: Hz. duration_s: None where the file does not say."""

    name: str
    rate: int
    channels: int
    duration_s: float | None

    def pieces(self) -> Iterator[FloatArray]:
        """The sound in order, [sample, channel] in -1 to 1. Raises SourceError where it breaks off
        or cannot be decoded."""


def open_sound(path: Path, stack: ExitStack) -> SoundReader:
    """stack: closes it. Raises SourceError with the reason."""
    if not path.exists():
        raise SourceError(f"{path} cannot be read: there is no such file.")
    try:
        return LibsndfileReader(stack.enter_context(soundfile.SoundFile(path)))
    except (soundfile.LibsndfileError, OSError) as error:
        if not path.is_file():
            raise SourceError(f"{path} is no file.") from None
        return _open_media(path, stack, str(error))


class LibsndfileReader:
    def __init__(self, file: soundfile.SoundFile) -> None:
        self.name = str(file.name)
        self.rate = int(file.samplerate)
        self.channels = int(file.channels)
        self.duration_s: float | None = file.frames / file.samplerate
        self._file = file

    def pieces(self) -> Iterator[FloatArray]:
        try:
            yield from self._file.blocks(self.rate * PIECE_S, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise SourceError(f"{self.name} is damaged: {error}") from None


class MediaReader:
    """The first sound track of a file that FFmpeg knows. Where the times of its frames leave a gap,
    it is filled with silence: positions are times of the recording."""

    def __init__(self, path: Path, stack: ExitStack, av: Any) -> None:
        file = stack.enter_context(path.open("rb"))
        self._container = stack.enter_context(av.open(file, options=NOWHERE_ELSE))
        if not self._container.streams.audio:
            kind = "a video without sound" if self._container.streams.video else "without sound"
            raise SourceError(f"{path} is {kind}: there is nothing to listen to.")
        self._stream = self._container.streams.audio[0]
        self._av = av
        self.name = str(path)
        self.rate = int(self._stream.rate)
        self.channels = int(self._stream.channels)
        self._begin_s = (self._container.start_time or 0) / MICROSECONDS
        length = self._container.duration
        self.duration_s: float | None = None if length is None else length / MICROSECONDS

    def pieces(self) -> Iterator[FloatArray]:
        resampler = self._av.AudioResampler(
            format="flt", layout=self._stream.layout, rate=self.rate
        )
        given = 0
        try:
            for frame in self._container.decode(self._stream):
                if frame.time is not None:
                    gap = round((frame.time - self._begin_s) * self.rate) - given
                    if gap > GAP_S * self.rate:
                        yield np.zeros((gap, self.channels), dtype=np.float32)
                        given += gap
                for part in resampler.resample(frame):
                    given += part.samples
                    yield self._samples(part)
            for part in resampler.resample(None):
                yield self._samples(part)
        except self._av.error.FFmpegError as error:
            raise SourceError(f"{self.name} is damaged: {error.strerror}") from None

    def _samples(self, part: Any) -> FloatArray:
        samples: FloatArray = part.to_ndarray().reshape(-1, self.channels)
        return samples


def _open_media(path: Path, stack: ExitStack, reason: str) -> SoundReader:
    try:
        import av
    except ModuleNotFoundError:
        raise SourceError(f"{path} cannot be read: {reason} {CURE}") from None
    try:
        return MediaReader(path, stack, av)
    except (OSError, av.error.FFmpegError) as error:
        said = error.strerror or str(error)
        raise SourceError(
            f"{path} cannot be read: {said}. It is no sound or video file that is known here, or "
            "it is damaged."
        ) from None
