"""Batcher: what runs together, and when. Pure: time is an argument, in seconds of any clock.

Work of one kind and group runs together. It is due when a batch is full or its oldest item has
waited long enough; of what is due, that with the most urgent item goes first. Within it the order
is priority, then arrival.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Generic, TypeVar

Payload = TypeVar("Payload")


class BatcherFull(Exception):
    """The queue is full; the item was not taken."""


class Priority(IntEnum):
    """Lower goes first: a final estimate is a promise, an interim one a courtesy."""

    FINAL = 0
    INTERIM = 1


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """max_items: size of a full batch. max_wait: seconds that an item waits for company."""

    max_items: int = 16
    max_wait: float = 0.005

    def __post_init__(self) -> None:
        if self.max_items < 1 or self.max_wait < 0:
            raise ValueError(f"no batch can follow {self}")


@dataclass(slots=True, eq=False)
class Item(Generic[Payload]):
    """One piece of work.

    kind, group: only items of one kind and one group run together; the kind has a policy.
    deadline: from this time on it is of no use to anyone; None: it always is.
    cancelled: set by whoever wanted it and does not any more; it is left out then.
    """

    kind: str
    payload: Payload
    priority: Priority
    arrival: float
    deadline: float | None = None
    group: str = ""
    cancelled: bool = False
    order: tuple[int, float, int] = field(default=(0, 0.0, 0), init=False)


class Batcher(Generic[Payload]):
    """A bounded queue that gives out batches. It knows no thread: its owner guards it.

    policies: a policy for each kind of work. capacity: items of all kinds together.
    """

    def __init__(self, policies: Mapping[str, BatchPolicy], capacity: int) -> None:
        if capacity < 1:
            raise ValueError("a batcher needs a capacity of at least 1")
        self._policies = dict(policies)
        self._capacity = capacity
        self._waiting: dict[tuple[str, str], list[Item[Payload]]] = {}  # by kind and group
        self._added = 0

    @property
    def kinds(self) -> frozenset[str]:
        """Every kind of work that it takes."""
        return frozenset(self._policies)

    def __len__(self) -> int:
        """Items waiting, cancelled ones included until they are met."""
        return sum(map(len, self._waiting.values()))

    @property
    def oldest(self) -> float | None:
        """When the item came that waits longest; None: nothing waits."""
        self._purge()
        arrivals = (item.arrival for waiting in self._waiting.values() for item in waiting)
        return min(arrivals, default=None)

    @property
    def full(self) -> bool:
        """Whether `add` would refuse an item now."""
        if len(self) < self._capacity:
            return False
        self._purge()
        return len(self) >= self._capacity

    def add(self, item: Item[Payload]) -> bool:
        """Take an item in; gives whether `take` or `wait` may say something else than before.

        They do not for what waits for the same company as others that came before it. Raises
        BatcherFull, or KeyError for a kind that has no policy.
        """
        policy = self._policies[item.kind]
        if self.full:
            raise BatcherFull(f"{self._capacity} items are waiting already")
        waiting = self._waiting.setdefault((item.kind, item.group), [])
        self._added += 1
        item.order = (item.priority, item.arrival, self._added)
        insort(waiting, item, key=_order)
        last = len(waiting) % policy.max_items  # of the last batch; 0: full
        return last <= 1 or item.deadline is not None

    def take(self, now: float) -> list[Item[Payload]] | None:
        """Items of one kind and group to run together now, most urgent first; None: nothing is
        due.

        Cancelled items are left out for good. Items past their deadline are never given out:
        `expired` gives them back.
        """
        self._purge()
        due: list[tuple[tuple[int, float, int], tuple[str, str]]] = []
        for key in self._waiting:
            alive = self._alive(key, now)
            if alive and self._due_at(key[0], alive) <= now:
                due.append((alive[0].order, key))
        if not due:
            return None
        _, key = min(due)
        batch = self._alive(key, now)[: self._policies[key[0]].max_items]
        taken = set(map(id, batch))
        self._keep(lambda item: id(item) not in taken)
        return batch

    def expired(self, now: float) -> list[Item[Payload]]:
        """Take out the items whose deadline has passed, so that their callers can be told."""
        self._purge()
        waiting = (item for items in self._waiting.values() for item in items)
        late = sorted((item for item in waiting if _is_late(item, now)), key=_order)
        if late:
            self._keep(lambda item: not _is_late(item, now))
        return late

    def wait(self, now: float) -> float | None:
        """Seconds until `take` or `expired` has something; 0: now. None: nothing is waiting."""
        self._purge()
        moments: list[float] = []
        for key, waiting in self._waiting.items():
            moments += [item.deadline for item in waiting if item.deadline is not None]
            alive = self._alive(key, now)
            if alive:
                moments.append(self._due_at(key[0], alive))
        return max(0.0, min(moments) - now) if moments else None

    def _alive(self, key: tuple[str, str], now: float) -> list[Item[Payload]]:
        return [item for item in self._waiting[key] if not _is_late(item, now)]

    def _due_at(self, kind: str, alive: list[Item[Payload]]) -> float:
        policy = self._policies[kind]
        if len(alive) >= policy.max_items:
            return float("-inf")
        return min(item.arrival for item in alive) + policy.max_wait

    def _purge(self) -> None:
        self._keep(lambda item: not item.cancelled)

    def _keep(self, wanted: Callable[[Item[Payload]], bool]) -> None:
        """Groups come and go: none stays that has no items."""
        kept = {key: list(filter(wanted, items)) for key, items in self._waiting.items()}
        self._waiting = {key: items for key, items in kept.items() if items}


def _order(item: Item[Payload]) -> tuple[int, float, int]:
    return item.order


def _is_late(item: Item[Payload], now: float) -> bool:
    return item.deadline is not None and item.deadline <= now
