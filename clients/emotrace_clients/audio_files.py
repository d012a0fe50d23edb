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

from emotrace_clients.errors import SourceError
from emotrace_clients.resampling import Resampler
from emotrace_clients.sound_readers import FloatArray, SoundReader, open_sound
from emotrace_protocol.messages import MAX_CHANNELS, SAMPLE_RATES

FALLBACK_RATE = 16_000


class AudioFiles:
    """Open files, as a context manager. Raises SourceError for what cannot be read.

    mono: each file is one speaker, its channels mixed.
    sample_rate: Hz of the blocks: the files' own where they agree on one that the protocol
    carries, else 16 kHz. channels: of the blocks. duration_s: of the longest file; None where a
    file does not say.
    """

    def __init__(self, paths: Sequence[Path], *, mono: bool = False) -> None:
        if not paths:
            raise SourceError("name at least one sound file")
        self._mono = mono
        with ExitStack() as stack:
            self._files = [open_sound(path, stack) for path in paths]
            rates = {file.rate for file in self._files}
            self.sample_rate: int = rates.pop() if len(rates) == 1 else FALLBACK_RATE
            if self.sample_rate not in SAMPLE_RATES:
                self.sample_rate = FALLBACK_RATE
            self.channels = sum(1 if mono else file.channels for file in self._files)
            lengths = [file.duration_s for file in self._files]
            known = [length for length in lengths if length is not None]
            self.duration_s = max(known) if len(known) == len(lengths) else None
            if self.channels > MAX_CHANNELS:
                raise SourceError(
                    f"{self.channels} channels are too many: a session has at most {MAX_CHANNELS} "
                    "speakers, one a channel; --mono makes each file one"
                )
            self._stack = stack.pop_all()

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
        cutters = [_cut(self._pieces(file), size, self._width(file)) for file in self._files]
        while True:
            parts = [next(cutter) for cutter in cutters]
            length = max(map(len, parts))
            if length == 0:
                return
            yield np.concatenate([_padded(part, length) for part in parts], axis=1)

    def _width(self, file: SoundReader) -> int:
        return 1 if self._mono else file.channels

    def _pieces(self, file: SoundReader) -> Iterator[FloatArray]:
        """The file's sound as the dialogue has it: mixed, at its rate."""
        pieces = file.pieces()
        if self._mono:
            pieces = (piece.mean(axis=1, keepdims=True, dtype=np.float32) for piece in pieces)
        if file.rate == self.sample_rate:
            yield from pieces
            return
        resampler = Resampler(file.rate, self.sample_rate)
        for piece in pieces:
            yield resampler.push(piece)
        yield resampler.finish()


def _cut(pieces: Iterator[FloatArray], size: int, channels: int) -> Iterator[FloatArray]:
    """Parts of `size` samples, a shorter one, then empty ones without end."""
    held, at = np.zeros((0, channels), dtype=np.float32), 0
    while True:
        while len(held) - at < size and (piece := next(pieces, None)) is not None:
            held, at = np.concatenate([held[at:], piece.reshape(-1, channels)]), 0
        yield held[at : at + size]
        at = min(at + size, len(held))


def _padded(part: FloatArray, length: int) -> FloatArray:
    return np.pad(part, ((0, length - len(part)), (0, 0)))
