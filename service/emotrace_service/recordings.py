"""Recordings: a WAV, FLAC or Ogg file in memory -> blocks of interleaved float32 bytes.

Read a second at a time, so that a small file that unpacks to hours costs no more memory.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import soundfile
import soxr

from emotrace_models.types import SAMPLE_RATE, FloatArray
from emotrace_protocol.errors import ErrorCode, ProtocolError
from emotrace_protocol.messages import MAX_CHANNELS, SAMPLE_RATES, AudioEncoding, AudioFormat

CONTAINERS = frozenset({"WAV", "WAVEX", "FLAC", "OGG"})
LOWEST_RATE, HIGHEST_RATE = 4_000, 192_000


class Recording:
    """One file. `audio` is the format of what `blocks` gives.

    Rates that a live stream may have are left to the session's own resampler, so that a file and a
    stream of it give the same; others are brought to 16 kHz here.
    Raises ProtocolError where it is no such file, or longer than max_seconds.
    """

    def __init__(self, data: bytes, max_seconds: float) -> None:
        self._max_seconds = max_seconds
        try:
            self._file = soundfile.SoundFile(io.BytesIO(data))
        except (soundfile.LibsndfileError, TypeError, ValueError):
            raise _invalid("The file is no WAV, FLAC or Ogg file.") from None
        self._rate: int = self._file.samplerate
        channels: int = self._file.channels
        if self._file.format not in CONTAINERS:
            raise _invalid(f"The file is of the kind {self._file.format}.")
        if channels > MAX_CHANNELS or not LOWEST_RATE <= self._rate <= HIGHEST_RATE:
            raise ProtocolError(
                ErrorCode.AUDIO_FORMAT_UNSUPPORTED,
                f"The file has {channels} channels at {self._rate} Hz.",
            )
        self._resampler = (
            None
            if self._rate in SAMPLE_RATES
            else soxr.ResampleStream(self._rate, SAMPLE_RATE, channels, dtype="float32")
        )
        self.audio = AudioFormat(
            encoding=AudioEncoding.F32LE,
            sample_rate=self._rate if self._resampler is None else SAMPLE_RATE,
            channels=channels,
        )

    def blocks(self) -> Iterator[bytes]:
        """A second at a time. Raises ProtocolError where the file breaks off or is too long."""
        frames = 0
        while True:
            try:
                block: FloatArray = self._file.read(self._rate, dtype="float32", always_2d=True)
            except soundfile.LibsndfileError:
                raise _invalid(f"The file breaks after {frames / self._rate:.1f} s.") from None
            last = len(block) < self._rate
            frames += len(block)
            if frames > self._max_seconds * self._rate:
                raise ProtocolError(
                    ErrorCode.MESSAGE_TOO_LARGE,
                    f"The file holds more than {self._max_seconds / 60:g} minutes of sound.",
                )
            if last and frames < self._file.frames:
                raise _invalid(f"The file breaks off after {frames / self._rate:.1f} s.")
            if self._resampler is not None:
                block = np.clip(self._resampler.resample_chunk(block, last=last), -1.0, 1.0)
            if block.size:
                yield np.ascontiguousarray(block, dtype="<f4").tobytes()
            if last:
                return


def _invalid(cause: str) -> ProtocolError:
    return ProtocolError(ErrorCode.AUDIO_CONTAINER_INVALID, cause)
