"""A thread that says where the event loop stands still: the loop itself cannot."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from emotrace_service.errors import placed
from emotrace_service.logs import Logger

LOOK_S = 0.05
STANDSTILL_S = 1.0


class _Watchdog(threading.Thread):
    """Of the thread that makes it. alive: when it was heard of last."""

    def __init__(self, log: Logger) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._log = log
        self._watched = threading.get_ident()
        self.alive = time.monotonic()
        self.over = threading.Event()

    def run(self) -> None:
        told = self.alive
        while not self.over.wait(LOOK_S):
            alive = self.alive
            if alive != told and time.monotonic() - alive > STANDSTILL_S:
                told = alive
                frame = sys._current_frames()[self._watched]
                where = placed(traceback.extract_stack(frame))
                self._log.warning("event loop stands still", place=where)


@contextmanager
def standstills(log: Logger) -> Iterator[Callable[[], None]]:
    """Logs each standstill of the calling thread, once, with its place in the code and nothing of
    what it works on. Gives what the thread must call more often than that."""
    watchdog = _Watchdog(log)

    def alive() -> None:
        watchdog.alive = time.monotonic()

    watchdog.start()
    try:
        yield alive
    finally:
        watchdog.over.set()
        watchdog.join()
