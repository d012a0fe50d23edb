"""A crew: threads that take batches of some kinds of work, and compute them.

work that raises         reaches the items that raise when they run alone, and no other
work that hangs          likewise: its process is ended, its thread given up, and a new one goes on
new models               are opened beside the old ones, and taken between two batches
a caller that is gone    its item is left out before it costs anything
an item that is late     (of those that may be left out) is given up
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
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
        except EngineError:
            for one in fresh:
                await asyncio.to_thread(one.close)
            raise
        with self._wake:
            self._models = models
            workers = tuple(self._workers)
        for worker, one in zip(workers, fresh, strict=True):
            await asyncio.to_thread(self._replace, worker, one)

    def _replace(self, worker: _Worker, fresh: Models) -> None:
        """Between two of its batches, however long the one takes that runs."""
        with worker.computing:
            old, worker.models = worker.models, fresh
        self._used_before_s += old.used_s
        old.close()

    async def close(self) -> None:
        """Finish the batches that run, refuse what waits, end the threads."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()
        for worker in tuple(self._workers):
            await asyncio.to_thread(worker.join)
        settle(
            (item.payload, None, EngineClosed("the server stops"))
            for item in (*self._alone, *self._lanes.rest())
        )

    def watch(self, now: float) -> None:
        """Give up the threads whose batch has run for too long; call it every second or so."""
        with self._wake:
            hung = [one for one in self._workers if now - one.busy_since > self._hang_s]
            for worker in hung:
                worker.abandon()
                self._used_before_s += worker.models.used_s
                self._metrics.threads_given_up.inc()
                self._workers.remove(worker)
                self._workers.append(_Worker(self, self._started))
                self._started += 1
                self._lanes.done(worker.batch[0].kind)
                self._split(worker.batch, EngineError("the model hung"))
                self._wake.notify()

    def used_s(self) -> float:
        return self._used_before_s + sum(worker.models.used_s for worker in self._workers)

    def pressure(self, now: float) -> float:
        """Seconds that the oldest urgent item has waited."""
        with self._wake:
            return self._lanes.pressure(now)

    def open_models(self) -> Models:
        """For a new compute thread. Called by workers."""
        return self._models()

    def next(self) -> Batch | None:
        """Waits for the next batch; None: the engine is closed. Called by workers."""
        with self._wake:
            while not self._closed:
                if item := self._next_alone():
                    return [item]
                now = time.monotonic()
                settle(
                    (late.payload, None, EngineError("it would come too late"))
                    for late in self._lanes.expired(now)
                )
                if batch := self._lanes.take(now):
                    return batch
                self._wake.wait(self._lanes.wait(now))
            return None

    def run(self, worker: _Worker, batch: Batch) -> None:
        """Compute a batch and hand over its results. Called by workers."""
        kind = batch[0].kind.removeprefix(INTERIM)
        begun = time.monotonic()
        results: list[Any] = []
        failed: Exception | None = None
        try:
            with worker.computing:
                results = self.compute(worker.models, kind, batch)
        except Exception as error:
            failed = error
        with self._wake:
            if worker.abandoned:
                return
            self._lanes.done(batch[0].kind)
            if failed is not None:
                self._split(batch, computing.failure(failed))
            self._wake.notify()
        self._metrics.compute.labels(kind).inc(time.monotonic() - begun)
        if failed is None:
            calls = (item.payload for item in batch)
            settle((call, one, None) for call, one in zip(calls, results, strict=True))

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
    """A compute thread. busy_since: when its batch began; it has none at infinity. computing: held
    while its models are in use."""

    def __init__(self, crew: Crew, number: int) -> None:
        self.busy_since = float("inf")
        self.batch: Batch = []
        self.models = crew.open_models()
        self.computing = threading.Lock()
        self._abandoned = threading.Event()
        self._crew = crew
        self._thread = threading.Thread(
            target=self._serve, name=f"{crew.name}-{number}", daemon=True
        )
        self._thread.start()

    @property
    def abandoned(self) -> bool:
        return self._abandoned.is_set()

    def abandon(self) -> None:
        """Its batch runs for ever: whatever it may still give, nobody takes it."""
        self._abandoned.set()
        self.models.kill()

    def join(self) -> None:
        self._thread.join()
        self.models.close()

    def _serve(self) -> None:
        computing.begin_thread()
        while not self.abandoned and (batch := self._crew.next()):
            self.batch, self.busy_since = batch, time.monotonic()
            self._crew.run(self, batch)
            self.busy_since = float("inf")
