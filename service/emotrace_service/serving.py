"""What the server's parts share: settings, the models' backend, metrics, and who is here."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from hashlib import sha256
from typing import Protocol

from emotrace_models.bundle import Bundle
from emotrace_protocol.errors import ErrorCode, ProtocolError
from emotrace_protocol.events import ModalityStatus
from emotrace_protocol.messages import Transcription
from emotrace_service.admission import Admission, Cost
from emotrace_service.brownout import CLOSED_LEVEL
from emotrace_service.decoding import Decoders
from emotrace_service.door import Door
from emotrace_service.inference import InferenceBackend
from emotrace_service.logs import Logger
from emotrace_service.metrics import Metrics
from emotrace_service.opening import modality_status
from emotrace_service.pacing import Bucket
from emotrace_service.session_store import SessionStore
from emotrace_service.settings import Settings
from emotrace_service.shelf import Shelf
from emotrace_service.witness import Observers

RETRY_AFTER_MS = 5_000
FULL = "as much to do as it can"
STOPPING = "The server is stopping."
EXPECTED_SHARE = 0.01  # of the machine, until the models have been run
LIVE_S = 10.0  # who was heard within, or came within, will be heard


class Guest(Protocol):
    """name: of its session. active: when it was heard last, or came, in seconds of the server's
    clock. bundle: edition of the one that it has; None: none yet. moves: another server can go on
    with it."""

    @property
    def name(self) -> str: ...

    @property
    def active(self) -> float: ...

    @property
    def bundle(self) -> str | None: ...

    @property
    def moves(self) -> bool: ...

    def go_away(self, why: str) -> None:
        """Finish what was taken in, tell the client, and close."""

    def degrade(self, level: int) -> None:
        """Tell the client what is left out now."""


class Serving:
    """One server.

    shelf: of bundles; it is replaced when others are served. store: of sessions that can be taken
    up again; None: none can. ready: whether the models have been run once; fault: why they could
    not be. level: what is left out now (emotrace_service.brownout). short_of_memory: nobody new
    comes in. room_elsewhere: another server can go on with sessions of this one. share: of the
    machine, used in the last second. door: who may come in. observers: who is told of sessions
    besides.
    """

    def __init__(
        self,
        settings: Settings,
        shelf: Shelf,
        backend: InferenceBackend,
        metrics: Metrics,
        log: Logger,
        store: SessionStore | None = None,
        door: Door | None = None,
        observers: Observers | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.shelf = shelf
        self.backend = backend
        self.metrics = metrics
        self.log = log
        self.store = store
        self.door = door or Door(None, None)
        self.decoders = Decoders(settings, log)
        self.observers = observers or Observers()
        self.clock = clock
        self.ready = False
        self.fault: str | None = None
        self.level = 0
        self.short_of_memory = False
        self.room_elsewhere = False
        self.share = 0.0
        self._admission = Admission(settings.max_sessions, settings.compute_budget)
        metrics.budget.set(settings.compute_budget)
        self.expect(EXPECTED_SHARE)
        self._guests: dict[Guest, None] = {}  # in the order in which they came
        self._meeting = 0
        pace = settings.new_sessions_a_second
        self._pace = Bucket(pace, 2 * pace, self.clock())
        self._stopping = False
        self._draining = False
        self._left = asyncio.Event()
        for status in self.modalities():
            metrics.modalities.labels(status.modality).set(status.live)

    @property
    def bundles(self) -> Mapping[str, Bundle]:
        """That new sessions may ask for, by name, the default first."""
        return self.shelf.bundles

    @property
    def bundle(self) -> Bundle:
        """What a session gets that names none."""
        return self.shelf.default

    @property
    def bundles_in_use(self) -> frozenset[str]:
        """Editions of those that open sessions have."""
        return frozenset(guest.bundle for guest in self._guests if guest.bundle is not None)

    def shadow_of(self, session: str) -> Bundle | None:
        """Whether the shadow is to understand this session: its name, drawn at random, decides."""
        drawn = sha256(session.encode()).digest()[0] / 256
        return self.shelf.shadow if drawn < self.settings.shadow_share else None

    def modalities(self) -> tuple[ModalityStatus, ...]:
        """What is live for a client that leaves transcription to the server."""
        return modality_status(
            self.bundle,
            Transcription.AUTO,
            transcribes=self.backend.transcribes(None),
        )

    @contextmanager
    def met(self) -> Iterator[None]:
        """A place for a connection that has not said yet what it wants. Raises ProtocolError."""
        if self._meeting >= self.settings.max_sessions:
            raise self._full(self._meeting)
        self._meeting += 1
        try:
            yield
        finally:
            self._meeting -= 1

    @contextmanager
    def admitted(self, guest: Guest | None = None, *, again: str | None = None) -> Iterator[None]:
        """A place for one session or one file. Raises ProtocolError where there is none.

        again: the session that it goes on with, which was admitted before and is let in whatever
        there is to do; on a full server too if its lost connection still has a place.
        """
        if self._draining:
            raise ProtocolError(ErrorCode.GOING_AWAY, STOPPING)
        if again is None and not self._pace.take(self.clock()):
            raise self._full(self._admission.open)
        admitted = self._admission.admit(
            self._live(),
            self._cost,
            again=again is not None,
            replaces=any(one.name == again for one in self._guests),
        )
        if admitted is None:
            raise self._full(self._admission.open)
        self._admission = admitted
        self.metrics.sessions.inc()
        if guest is not None:
            self._guests[guest] = None
        try:
            yield
        finally:
            if guest is not None:
                self._guests.pop(guest)
            self._admission = self._admission.leave()
            self._left.set()
            self.metrics.sessions.dec()

    def _full(self, connections: int) -> ProtocolError:
        return ProtocolError(
            ErrorCode.CAPACITY,
            f"The server has {'no memory left' if self.short_of_memory else FULL}: "
            f"{connections} connections are open.",
            retry_after_ms=random.randint(RETRY_AFTER_MS // 2, RETRY_AFTER_MS),
        )

    def warmed(self) -> None:
        """The models have been run once."""
        self.ready = not self._stopping

    def expect(self, share: float) -> None:
        """What a session will take of the machine, before any was measured."""
        self._cost = Cost.expected(share)
        self.metrics.session_share.set(share)

    def measured(self, used: float, heard_s: float, passed_s: float) -> None:
        """In the last `passed_s` seconds so much of the machine went into so much audio."""
        self.share = used / passed_s
        self._cost = self._cost.after(used, heard_s, passed_s)
        self.metrics.session_share.set(self._cost.share)

    def degrade(self, level: int) -> None:
        """The ladder was climbed or descended."""
        self.level = level
        self._close_or_open()
        self.metrics.level.set(level)
        self.log.warning("service degraded", level=level)
        for guest in tuple(self._guests):
            guest.degrade(level)

    def run_short(self, short: bool) -> None:
        """Of memory, from now on, or not any more."""
        self.short_of_memory = short
        self._close_or_open()
        self.metrics.memory_short.set(short)

    def _close_or_open(self) -> None:
        closed = self.level >= CLOSED_LEVEL or self.short_of_memory
        self._admission = replace(self._admission, closed=closed)

    @property
    def has_room(self) -> bool:
        """Whether others may send their sessions here."""
        return self.ready and not self._admission.closed

    @property
    def receives(self) -> bool:
        """Whether newcomers are to be sent here, or to another server, which has room."""
        return self.ready and not (self.short_of_memory and self.room_elsewhere)

    @property
    def guests(self) -> int:
        return len(self._guests)

    def send_away(self, sessions: int) -> int:
        """The newest, at most so many, to another server; gives how many can go there."""
        moving = [guest for guest in reversed(self._guests) if guest.moves][:sessions]
        for guest in moving:
            guest.go_away("The server needs memory; another one goes on.")
        return len(moving)

    def _live(self) -> int:
        now = self.clock()
        return sum(now - guest.active < LIVE_S for guest in self._guests)

    async def drain(self) -> None:
        """Let nobody in, let everybody finish, for at most the time that the settings give. Where
        another server goes on, whoever sends sessions there hears of it first: else some of them
        came back here."""
        self._stopping = True
        self.ready = False
        if not self._draining and any(guest.moves for guest in self._guests):
            await asyncio.sleep(self.settings.drain_notice_ms / 1_000)
        self._draining = True
        for guest in tuple(self._guests):
            guest.go_away(STOPPING)
        with suppress(TimeoutError):
            async with asyncio.timeout(self.settings.drain_timeout_ms / 1_000):
                while self._admission.open:
                    self._left.clear()
                    await self._left.wait()
