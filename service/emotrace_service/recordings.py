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
from emotrace_service.errors import Advised
from emotrace_service.sniffing import file_kind

CONTAINERS = frozenset({"WAV", "WAVEX", "FLAC", "OGG"})
LOWEST_RATE, HIGHEST_RATE = 4_000, 192_000
UNSAID_LENGTH = 2**63 - 1  # what libsndfile gives for the frames of a file that does not say
CONVERT = (
    "`emotrace stream FILE` reads it and sends what it hears; or convert it and send that: "
    "ffmpeg -i FILE -vn dialogue.flac"
)


class Recording:
    """One file. `audio` is the format of what `blocks` gives, `total_ms` how long it says it is.

    Rates that a live stream may have are left to the session's own resampler, so that a file and a
    stream of it give the same; others are brought to 16 kHz here.
    Raises ProtocolError where it is no such file, or longer than max_seconds.
    """

    def __init__(self, data: bytes, max_seconds: float) -> None:
        self._max_seconds = max_seconds
        try:
            self._file = soundfile.SoundFile(io.BytesIO(data))
        except (soundfile.LibsndfileError, TypeError, ValueError):
            raise _unreadable(data) from None
        self._rate: int = self._file.samplerate
        channels: int = self._file.channels
        if self._file.format not in CONTAINERS:
            raise _of_another_kind(self._file.format)
        if channels > MAX_CHANNELS or not LOWEST_RATE <= self._rate <= HIGHEST_RATE:
            raise Advised(
                ErrorCode.AUDIO_FORMAT_UNSUPPORTED,
                f"The file has {channels} channels at {self._rate} Hz; it may have 1 to "
                f"{MAX_CHANNELS}, one a speaker, at {LOWEST_RATE} to {HIGHEST_RATE} Hz.",
            )
        if self._file.frames == UNSAID_LENGTH:
            raise _invalid(
                "The file does not say how long it is, as files do that were written to a pipe. "
                "Write it again: ffmpeg -i FILE dialogue.flac"
            )
        self.total_ms: int = self._file.frames * 1_000 // self._rate
        if self._file.frames > max_seconds * self._rate:
            raise self._too_long()
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
                raise _broken(frames / self._rate) from None
            last = len(block) < self._rate
            frames += len(block)
            if frames > self._max_seconds * self._rate:
                raise self._too_long()
            if last and frames < self._file.frames:
                raise _broken(frames / self._rate)
            if self._resampler is not None:
                block = np.clip(self._resampler.resample_chunk(block, last=last), -1.0, 1.0)
            if block.size:
                yield np.ascontiguousarray(block, dtype="<f4").tobytes()
            if last:
                return

    def _too_long(self) -> ProtocolError:
        return Advised(
            ErrorCode.MESSAGE_TOO_LARGE,
            f"The file holds {self.total_ms / 60_000:.0f} minutes of sound, and this server takes "
            f"{self._max_seconds / 60:g} (EMOTRACE_MAX_FILE_MINUTES). Cut it up, or stream it "
            "with `emotrace stream FILE`.",
        )


def _unreadable(data: bytes) -> ProtocolError:
    kind = file_kind(data)
    if kind is not None:
        return _of_another_kind(kind)
    return _invalid("The file is no WAV, FLAC or Ogg file, or its beginning is damaged.")


def _of_another_kind(kind: str) -> ProtocolError:
    return _invalid(f"The file is of the kind {kind}; this takes WAV, FLAC and Ogg. {CONVERT}")


def _broken(seconds: float) -> ProtocolError:
    return _invalid(
        f"The file breaks off after {seconds:.1f} s: it was cut short or is damaged. Send it whole."
    )


def _invalid(cause: str) -> ProtocolError:
    return Advised(ErrorCode.AUDIO_CONTAINER_INVALID, cause)
