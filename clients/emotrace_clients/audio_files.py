"""AudioFiles: one or more sound files as one dialogue, block by block.

One file: each channel is a speaker. Several files: each is one speaker, or as many as it has
channels; they start together, and the shorter ones end in silence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import soundfile
from numpy.typing import NDArray

from emotrace_clients.errors import SourceError
from emotrace_clients.resampling import Resampler
from emotrace_protocol.messages import MAX_CHANNELS, SAMPLE_RATES

FALLBACK_RATE = 16_000

FloatArray = NDArray[np.float32]


class AudioFiles:
    """Open files, as a context manager. Raises SourceError for what cannot be read.

    sample_rate: Hz of the blocks: the files' own where they agree on one that the protocol
    carries, else 16 kHz. channels: of the blocks. duration_s: of the longest file.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        if not paths:
            raise SourceError("name at least one sound file")
        self._stack = ExitStack()
        self._files = [self._open(path) for path in paths]
        rates = {file.samplerate for file in self._files}
        self.sample_rate: int = rates.pop() if len(rates) == 1 else FALLBACK_RATE
        if self.sample_rate not in SAMPLE_RATES:
            self.sample_rate = FALLBACK_RATE
        self.channels = sum(file.channels for file in self._files)
        self.duration_s = max(file.frames / file.samplerate for file in self._files)
        if self.channels > MAX_CHANNELS:
            self._stack.close()
            raise SourceError(
                f"{self.channels} channels are too many: a session has at most {MAX_CHANNELS} "
                "speakers, one a channel"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def blocks(self, block_ms: int) -> Iterator[FloatArray]:
        """Consecutive blocks [sample, channel] in -1 to 1, each `block_ms` long but the last.

        Raises SourceError where a file breaks off or cannot be decoded.
        """
        size = self.sample_rate * block_ms // 1000
        readers = [self._pieces(file, size) for file in self._files]
        pending = [np.zeros((0, file.channels), dtype=np.float32) for file in self._files]
        ended = [False] * len(readers)
        while True:
            for n, reader in enumerate(readers):
                while not ended[n] and len(pending[n]) < size:
                    piece = next(reader, None)
                    if piece is None:
                        ended[n] = True
                    else:
                        pending[n] = np.concatenate([pending[n], piece])
            length = min(size, max(len(part) for part in pending))
            if length == 0:
                return
            yield np.concatenate([_padded(part[:length], length) for part in pending], axis=1)
            pending = [part[length:] for part in pending]

    def _open(self, path: Path) -> soundfile.SoundFile:
        try:
            return self._stack.enter_context(soundfile.SoundFile(path))
        except (soundfile.LibsndfileError, OSError) as error:
            self._stack.close()
            reason = "there is no such file" if not path.exists() else str(error)
            raise SourceError(
                f"{path} cannot be read: {reason}. WAV, FLAC, Ogg, Opus, MP3 and AIFF work; "
                "convert anything else, with ffmpeg say."
            ) from None

    def _pieces(self, file: soundfile.SoundFile, size: int) -> Iterator[FloatArray]:
        resampler = None
        if file.samplerate != self.sample_rate:
            resampler = Resampler(file.samplerate, self.sample_rate)
        try:
            for piece in file.blocks(size, dtype="float32", always_2d=True):
                yield piece if resampler is None else resampler.push(piece)
        except soundfile.LibsndfileError as error:
            raise SourceError(f"{file.name} is damaged: {error}") from None
        if resampler is not None:
            yield resampler.finish()


def _padded(part: FloatArray, length: int) -> FloatArray:
    return np.pad(part, ((0, length - len(part)), (0, 0)))
