"""How long a thread was ready and had no core, as Linux counts it."""

from __future__ import annotations

import os
from contextlib import suppress

NANOSECONDS = 1e9


class CoreWait:
    """Of the thread that makes it. Elsewhere than on Linux nothing is known: 0."""

    def __init__(self) -> None:
        self._file: int | None = None
        with suppress(OSError):
            self._file = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)

    def seconds(self) -> float:
        """Since the thread began."""
        if self._file is None:
            return 0.0
        _computing, waiting, _turns = os.pread(self._file, 128, 0).split()
        return int(waiting) / NANOSECONDS

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
