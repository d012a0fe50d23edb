"""One turn as it was timed, whichever way it went, and the threads that it ran on."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stages:
    """Milliseconds. front: log-mel. audio, text: the towers. stacks: the xLSTM stacks that wait for
    the end of the turn, with gate, classifier and reasons. prepared: the stacks that do not wait.
    decoder: 0 where there is none."""

    front: float
    audio: float
    text: float
    stacks: float
    decoder: float
    prepared: float


@dataclass(frozen=True, slots=True, eq=False)
class Timed:
    """logits, posterior [class]. critical: milliseconds from the end of the turn to its result."""

    logits: NDArray[np.float32]
    posterior: NDArray[np.float64]
    stages: Stages
    critical: float

    @property
    def work(self) -> float:
        """Milliseconds of everything, also of what was done before the turn was over."""
        return self.critical + self.stages.prepared

    @property
    def after_sound(self) -> float:
        """Milliseconds of what is left when the sound was heard before: of a way on one thread."""
        return self.critical - self.stages.front - self.stages.audio


class Workers:
    """Threads, each with `threads` torch threads of its own. flush: numbers next to nothing become
    zero, as in the service's threads; torch by itself leaves them, and they are slow."""

    def __init__(self, count: int, threads: int, *, flush: bool) -> None:
        def ready() -> None:
            torch.set_num_threads(threads)
            torch.set_flush_denormal(flush)

        self._pool = ThreadPoolExecutor(count, "bench", ready)

    def start(self, work: Callable[[], T]) -> Future[T]:
        return self._pool.submit(work)

    def run(self, work: Callable[[], T]) -> T:
        return self._pool.submit(work).result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown()
