"""The task that watches how the server keeps up: the event loop, the engine, what sessions cost.

It sees that the loop was blocked because it wakes too late itself; it gives up hung threads, steps
the ladder of what is left out, and measures what a second of audio costs.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import closing

from emotrace_service.brownout import Brownout
from emotrace_service.core_wait import CoreWait
from emotrace_service.inference import InferenceBackend
from emotrace_service.metrics import Metrics
from emotrace_service.serving import Serving
from emotrace_service.settings import cores
from emotrace_service.standstill import standstills

TICK_S = 0.01
MEASURE_S = 1.0


class Watch:
    """Of one server; `run` until it is cancelled."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._backend: InferenceBackend = serving.backend
        self._metrics: Metrics = serving.metrics
        self._brownout = Brownout()
        self._before = self._used()

    async def run(self) -> None:
        measured = time.monotonic()
        with standstills(self._serving.log) as alive, closing(CoreWait()) as core_wait:
            while True:
                asleep, waited = time.monotonic(), core_wait.seconds()
                await asyncio.sleep(TICK_S)
                now = time.monotonic()
                alive()
                lag = max(0.0, now - asleep - TICK_S)
                self._metrics.loop_lag.observe(lag)
                self._metrics.loop_held.observe(max(0.0, lag - core_wait.seconds() + waited))
                self._step(now, lag)
                if now - measured >= MEASURE_S:
                    self._backend.watch(now)
                    self._measure(now - measured)
                    measured = now

    def _step(self, now: float, lag: float) -> None:
        level = self._brownout.level
        self._brownout = self._brownout.advance(now, max(lag, self._backend.pressure(now)))
        if self._brownout.level != level:
            self._serving.degrade(self._brownout.level)

    def _measure(self, passed_s: float) -> None:
        before, self._before = self._before, self._used()
        server, loop, heard = (b - a for a, b in zip(before, self._before, strict=True))
        # All Python of the process takes turns, and most of it is this thread's.
        self._serving.measured(max(server / cores(), loop), heard, passed_s)

    def _used(self) -> tuple[float, float, float]:
        """Processor seconds of the server and of this thread, and seconds of audio heard."""
        apart = self._backend.used_s()
        self._metrics.compute_processor.set(apart)
        return time.process_time() + apart, time.thread_time(), self._metrics.heard_s
