"""Lanes: which work may run now, so that what is urgent always finds a thread.

Urgent work (detection, final estimates) runs wherever a thread is free. Work beside it runs one
batch a lane at a time and leaves a thread to the urgent: transcription at any time, interim
estimates only while nothing urgent runs or waits. A busy machine so leaves them out by itself,
before they make a final late.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from emotrace_service.batching import Batcher, BatchPolicy, Item


@dataclass(slots=True, eq=False)
class Call:
    """What somebody awaits: arguments, and the future in the caller's loop."""

    arguments: tuple[Any, ...]
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop


Settled = tuple[Call, Any, BaseException | None]


def settle(calls: Iterable[Settled]) -> None:
    """From any thread: hand results or errors over to callers, unless they are gone.

    A loop is woken once for all of its calls: that costs more than the handing over.
    """
    by_loop: dict[asyncio.AbstractEventLoop, list[Settled]] = {}
    for one in calls:
        by_loop.setdefault(one[0].loop, []).append(one)
    for loop, settled in by_loop.items():
        with suppress(RuntimeError):  # the loop is closed: nobody waits there
            loop.call_soon_threadsafe(_hand_over, settled)


def _hand_over(settled: list[Settled]) -> None:
    for call, result, error in settled:
        if call.future.done():
            continue
        if error is None:
            call.future.set_result(result)
        else:
            call.future.set_exception(error)


class Lane:
    """A batcher, and how many of its batches run. beside: only one at a time; spare: and only
    while nothing urgent is to be done."""

    def __init__(
        self,
        policies: Mapping[str, BatchPolicy],
        capacity: int,
        *,
        beside: bool = False,
        spare: bool = False,
    ) -> None:
        self.batcher: Batcher[Call] = Batcher(policies, capacity)
        self.beside = beside
        self.spare = spare
        self.running = 0


class Lanes:
    """Every lane, the urgent first. It knows no thread: its owner guards it."""

    def __init__(self, lanes: tuple[Lane, ...], threads: int) -> None:
        self._lanes = lanes
        self._lane = {kind: lane for lane in lanes for kind in lane.batcher.kinds}
        self._limit = max(1, threads - 1)

    def add(self, item: Item[Call]) -> bool:
        """As Batcher.add."""
        return self._lane[item.kind].batcher.add(item)

    def take(self, now: float) -> list[Item[Call]] | None:
        """The next batch to run; None: nothing is due, or nothing may run now."""
        for lane in self._open():
            if batch := lane.batcher.take(now):
                lane.running += 1
                return batch
        return None

    def begin(self, kind: str) -> None:
        """A batch of this kind runs that was not taken here."""
        self._lane[kind].running += 1

    def done(self, kind: str) -> None:
        """A batch of this kind has run."""
        self._lane[kind].running -= 1

    def expired(self, now: float) -> list[Item[Call]]:
        return [item for lane in self._lanes for item in lane.batcher.expired(now)]

    def wait(self, now: float) -> float | None:
        """Seconds until `take` or `expired` may have something; None: until more comes."""
        waits = [lane.batcher.wait(now) for lane in self._open()]
        return min((wait for wait in waits if wait is not None), default=None)

    def pressure(self, now: float) -> float:
        """Seconds that the oldest urgent item has waited."""
        arrivals = [lane.batcher.oldest for lane in self._lanes if not lane.beside]
        return max((now - arrival for arrival in arrivals if arrival is not None), default=0.0)

    def rest(self) -> list[Item[Call]]:
        """Take out all that waits."""
        left: list[Item[Call]] = []
        for lane in self._lanes:
            left += lane.batcher.expired(float("inf"))
            while batch := lane.batcher.take(float("inf")):
                left += batch
        return left

    def _open(self) -> list[Lane]:
        beside = sum(lane.running for lane in self._lanes if lane.beside)
        full = beside >= self._limit
        busy = any(lane.running or len(lane.batcher) for lane in self._lanes if not lane.beside)
        return [
            lane
            for lane in self._lanes
            if not (lane.beside and (lane.running or full)) and not (lane.spare and busy)
        ]
