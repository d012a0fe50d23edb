"""Pictures decoded outside of the process that computes: a stranger's bytes may break what reads
them, and then only that picture is lost.

A confined process (picture_process.py) takes one picture after the other, since to start it takes
as long as a hundred of them. The first picture starts it; once it has ended, the next one does.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np

from emotrace_models.bundle import Bundle
from emotrace_models.picture_decoding import (
    LARGEST_PIXELS,
    PictureUnreadable,
    Pixels,
    Seeing,
    decode_picture,
)
from emotrace_service.confined_process import ConfinedProcess, ProcessEnded
from emotrace_service.picture_process import DECODED, PICTURE, REFUSED, SIZE

DEADLINE_S = 5.0  # of one picture, on a busy machine too
MEMORY_BYTES = 256 * 1024 * 1024  # beside what a process has when it begins
PROCESSOR_S = 3_600  # of its life, so that none runs for ever which nobody is left to end
RETIRED_S = 1_800  # before that costs a picture


class ConfinedPictures:
    """Of one process of ours: as many confined ones as threads decode at once.

    used_s: processor seconds of theirs.
    """

    def __init__(self, memory_bytes: int = MEMORY_BYTES, deadline_s: float = DEADLINE_S) -> None:
        self._memory_bytes = memory_bytes
        self._deadline_s = deadline_s
        self._lock = threading.Lock()
        self._idle: list[_PictureProcess] = []
        self.used_s = 0.0

    def decode(self, image: bytes | Pixels) -> Pixels:
        """As decode_picture, and the same pixels. Raises PictureUnreadable, also where an image
        takes too long or breaks what decodes it."""
        if isinstance(image, np.ndarray):
            return decode_picture(image)
        try:
            with self._process() as process, process.within(self._deadline_s):
                pixels = process.decode(image)
        except ProcessEnded as error:
            raise PictureUnreadable(f"{len(image)} bytes that broke what decodes them") from error
        if pixels is None:
            raise PictureUnreadable(f"{len(image)} bytes that cannot be decoded")
        return pixels

    def close(self) -> None:
        """End those that wait; the next picture starts another."""
        with self._lock:
            while self._idle:
                self._idle.pop().close()

    @contextmanager
    def _process(self) -> Iterator[_PictureProcess]:
        """For one picture. It is ended where that fails."""
        begun = time.monotonic()
        process = self._waiting() or _PictureProcess(self._memory_bytes)
        before_s = process.used_s
        try:
            process.filtered()
            yield process
        except BaseException:
            process.close()
            self._count(time.monotonic() - begun)  # at most; it can no longer be asked
            raise
        self._count(min(max(0.0, process.used_s - before_s), time.monotonic() - begun))
        if process.used_s < RETIRED_S:
            with self._lock:
                self._idle.append(process)
        else:
            process.close()

    def _waiting(self) -> _PictureProcess | None:
        with self._lock:
            while self._idle:
                process = self._idle.pop()
                if not process.ended:
                    return process
                process.close()
        return None

    def _count(self, used_s: float) -> None:
        with self._lock:
            self.used_s += used_s


class _PictureProcess(ConfinedProcess):
    """used_s: as it says itself."""

    def __init__(self, memory_bytes: int) -> None:
        super().__init__("emotrace_service.picture_process", memory_bytes, PROCESSOR_S)
        self.used_s = 0.0

    def decode(self, image: bytes) -> Pixels | None:
        """None: it cannot be decoded. Raises ProcessEnded."""
        self.ask(SIZE.pack(len(image)), image)
        kind, content = self.answer()
        if kind not in (DECODED, REFUSED) or len(content) != PICTURE.size:
            raise ProcessEnded
        height, width, self.used_s = PICTURE.unpack(content)
        if kind == REFUSED:
            return None
        if not 0 < height * width <= LARGEST_PIXELS:
            raise ProcessEnded
        pixels = np.empty((height, width, 3), np.uint8)
        self.read_into(pixels.data.cast("B"))
        return pixels


PICTURES = ConfinedPictures()


def confine_pictures(bundles: Iterable[Bundle]) -> None:
    """What strangers send to these is decoded in confinement from now on."""
    for bundle in bundles:
        for encoder in bundle.encoders:
            if isinstance(encoder, Seeing):
                encoder.decode = PICTURES.decode
