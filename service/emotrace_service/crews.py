"""A crew: threads that take batches of some kinds of work, and compute them.

work that raises         reaches the items that raise when they run alone, and no other
work that hangs          likewise: its process is ended, its thread given up, and a new one goes on
new models               are opened beside the old ones, and taken with the next batch: what
                         runs keeps those that it began with
a caller that is gone    its item is left out before it costs anything
an item that is late     (of those that may be left out) is given up
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from emotrace_service import computing
from emotrace_service.batching import BatcherFull, Item, Priority
from emotrace_service.computing import Models
from emotrace_service.errors import EngineClosed, EngineError, EngineOverloaded
from emotrace_service.lanes import Call, Lanes, settle
from emotrace_service.metrics import Metrics

INTERIM = "interim "  # before the name of a kind: for an estimate that may be left out

Batch = list[Item[Call]]


class Crew:
    """compute: what a thread does with a batch, given the thread's own models and the name of the
    work. models: for each thread that is started. hang_s: a batch that runs longer is given up.
    """

    def __init__(
        self,
        name: str,
        lanes: Lanes,
        compute: Callable[[Models, str, Batch], list[Any]],
        *,
        threads: int,
        models: Callable[[], Models],
        metrics: Metrics,
        hang_s: float,
    ) -> None:
        self.name = name
        self.compute = compute
        self._lanes = lanes
        self._models = models
        self._metrics = metrics
        self._hang_s = hang_s
        self._used_before_s = 0.0  # of those that were given up
        self._alone: deque[Item[Call]] = deque()  # of batches that failed
        self._wake = threading.Condition()
        self._closed = False
        self._workers = [_Worker(self, number) for number in range(threads)]
        self._started = threads

    async def submit(
        self,
        kind: str,
        arguments: tuple[Any, ...],
        group: str = "",
        *,
        within_s: float | None = None,
    ) -> Any:
        """within_s: afterwards it is of no use to anybody, and given up."""
        loop = asyncio.get_running_loop()
        call = Call(arguments, loop.create_future(), loop)
        now = time.monotonic()
        item = Item(
            kind,
            call,
            Priority.FINAL if within_s is None else Priority.INTERIM,
            arrival=now,
            deadline=None if within_s is None else now + within_s,
            group=group,
        )
        with self._wake:
            if self._closed:
                raise EngineClosed("the server stops")
            try:
                if self._lanes.add(item):
                    self._wake.notify()
            except BatcherFull as error:
                raise EngineOverloaded("too much waits to be computed") from error
        try:
            return await call.future
        finally:
            item.cancelled = call.future.cancelled()

    async def renew(self, models: Callable[[], Models]) -> None:
        """Go on with other models, once they are ready. Raises EngineError where they cannot be
        used: then all stays as it was."""
        fresh = [await asyncio.to_thread(models) for _ in self._workers]
        try:
            for one in fresh:
                await asyncio.to_thread(one.ready)
            former = self._exchange(models, fresh)
        except EngineError:
            for one in fresh:
                await asyncio.to_thread(one.close)
            raise
        for old in former:
            await asyncio.to_thread(old.close)

    def _exchange(self, models: Callable[[], Models], fresh: Sequence[Models]) -> list[Models]:
        """Gives the former models that are not in use. Raises EngineClosed."""
        with self._wake:
            if self._closed:
                raise EngineClosed("the server stops")
            self._models = models
            former = [w.exchange(one) for w, one in zip(self._workers, fresh, strict=True)]
            free = [one for one in former if one is not None]
            self._used_before_s += sum(one.used_s for one in free)
            return free

    async def close(self) -> None:
        """Finish the batches that run, refuse what waits, end the threads. A batch that hangs is
        given up as ever."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()
        end = time.monotonic() + self._hang_s
        for worker in tuple(self._workers):
            await asyncio.to_thread(worker.join, max(0.0, end - time.monotonic()))
            with self._wake:
                if worker.busy:
                    self._give_up(worker)
                    continue
            await asyncio.to_thread(worker.close)
        settle(
            (item.payload, None, EngineClosed("the server stops"))
            for item in (*self._alone, *self._lanes.rest())
        )

    def watch(self, now: float) -> None:
        """Give up the threads whose batch has run for too long; call it every second or so."""
        with self._wake:
            hung = [one for one in self._workers if now - one.busy_since > self._hang_s]
            for worker in hung:
                self._give_up(worker)
                self._workers.append(_Worker(self, self._started))
                self._started += 1
                self._wake.notify()

    def _give_up(self, worker: _Worker) -> None:
        """Its batch hangs: what may be poison is left to be tried alone."""
        worker.abandon()
        self._used_before_s += worker.used_s
        self._metrics.threads_given_up.inc()
        self._workers.remove(worker)
        self._lanes.done(worker.batch[0].kind)
        self._split(worker.batch, EngineError("the model hung"))

    def used_s(self) -> float:
        return self._used_before_s + sum(worker.used_s for worker in self._workers)

    def pressure(self, now: float) -> float:
        """Seconds that the oldest urgent item has waited."""
        with self._wake:
            return self._lanes.pressure(now)

    def open_models(self) -> Models:
        """For a new compute thread. Called by workers."""
        return self._models()

    def next(self, worker: _Worker) -> Batch | None:
        """Waits for the worker's next batch; None: the engine is closed. Called by workers."""
        with self._wake:
            while not self._closed:
                if item := self._next_alone():
                    return worker.begin([item])
                now = time.monotonic()
                settle(
                    (late.payload, None, EngineError("it would come too late"))
                    for late in self._lanes.expired(now)
                )
                if batch := self._lanes.take(now):
                    return worker.begin(batch)
                self._wake.wait(self._lanes.wait(now))
            return None

    def run(self, worker: _Worker, batch: Batch) -> None:
        """Compute a batch and hand over its results. Called by workers."""
        kind = batch[0].kind.removeprefix(INTERIM)
        begun = worker.busy_since
        results: list[Any] = []
        failed: Exception | None = None
        try:
            results = self.compute(worker.in_use, kind, batch)
        except Exception as error:
            failed = error
        with self._wake:
            if worker.abandoned:
                return
            former = worker.end()
            if former is not None:
                self._used_before_s += former.used_s
            self._lanes.done(batch[0].kind)
            if failed is not None:
                self._split(batch, computing.failure(failed))
            self._wake.notify()
        self._metrics.compute.labels(kind).inc(time.monotonic() - begun)
        if failed is None:
            calls = (item.payload for item in batch)
            settle((call, one, None) for call, one in zip(calls, results, strict=True))
        if former is not None:
            former.close()

    def _split(self, batch: Batch, error: EngineError) -> None:
        """One item of a failed batch is poison: only alone does it hurt nobody else."""
        if len(batch) == 1:
            settle([(batch[0].payload, None, error)])
        else:
            self._alone.extend(batch)

    def _next_alone(self) -> Item[Call] | None:
        while self._alone:
            item = self._alone.popleft()
            if not item.cancelled:
                self._lanes.begin(item.kind)
                return item
        return None


class _Worker:
    """A compute thread. models: of its next batch. batch: that runs, or ran last, with the models
    `in_use`, since `busy_since`; none runs at infinity. The crew guards all this.
    """

    def __init__(self, crew: Crew, number: int) -> None:
        self.busy_since = float("inf")
        self.batch: Batch = []
        self.models = self.in_use = crew.open_models()
        self._abandoned = threading.Event()
        self._crew = crew
        self._thread = threading.Thread(
            target=self._serve, name=f"{crew.name}-{number}", daemon=True
        )
        self._thread.start()

    @property
    def abandoned(self) -> bool:
        return self._abandoned.is_set()

    @property
    def busy(self) -> bool:
        return self.busy_since != float("inf")

    @property
    def used_s(self) -> float:
        return sum(one.used_s for one in self._held)

    def begin(self, batch: Batch) -> Batch:
        self.batch, self.busy_since, self.in_use = batch, time.monotonic(), self.models
        return batch

    def end(self) -> Models | None:
        """The batch is done. Gives the models that were exchanged meanwhile."""
        self.busy_since = float("inf")
        return None if self.in_use is self.models else self.in_use

    def exchange(self, fresh: Models) -> Models | None:
        """Models for the next batch. Gives the former ones, unless a batch runs with them."""
        former, self.models = self.models, fresh
        return None if self.busy and former is self.in_use else former

    def abandon(self) -> None:
        """Its batch runs for ever: whatever it may still give, nobody takes it."""
        self._abandoned.set()
        for one in self._held:
            one.kill()

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    def close(self) -> None:
        """Its thread has no batch any more, and ends."""
        self._thread.join()
        self.models.close()

    def _serve(self) -> None:
        computing.begin_thread()
        while not self.abandoned and (batch := self._crew.next(self)):
            self._crew.run(self, batch)

    @property
    def _held(self) -> list[Models]:
        exchanged = self.busy and self.in_use is not self.models
        return [self.models, self.in_use] if exchanged else [self.models]
