"""A thread that does what may take long on a disk, in order, so that the event loop never waits."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TypeVar

T = TypeVar("T")


class DiskThread:
    """chore: is done at first, and again every `chore_s` seconds. Neither it nor what `do` is given
    may raise."""

    def __init__(self, name: str, chore: Callable[[], None], chore_s: float) -> None:
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._chore = chore
        self._chore_s = chore_s
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def do(self, call: Callable[[], None]) -> None:
        """Do it when all before it is done."""
        self._calls.put(call)

    async def run(self, call: Callable[[], T], timeout_s: float) -> T:
        """Do it and give its result. Raises what it raises, TimeoutError."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def finish(result: T | None, error: Exception | None) -> None:
            if done.done():
                return  # nobody waits any more
            if error is not None:
                done.set_exception(error)
            else:
                done.set_result(result)  # type: ignore[arg-type]

        def called() -> None:
            try:
                result, error = call(), None
            except Exception as fault:
                result, error = None, fault
            loop.call_soon_threadsafe(finish, result, error)

        self.do(called)
        return await asyncio.wait_for(done, timeout_s)

    def close(self, timeout_s: float) -> None:
        """Do what waits, and end; give up after `timeout_s`. Blocks."""
        self._calls.put(None)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        due = 0.0
        while True:
            if time.monotonic() >= due:
                self._chore()
                due = time.monotonic() + self._chore_s
            try:
                call = self._calls.get(timeout=max(0.0, due - time.monotonic()))
            except Empty:
                continue
            if call is None:
                return
            call()
