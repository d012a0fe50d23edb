"""The two bounded queues of a session: what came in and waits, and what waits to be sent.

The socket is read into the inlet whatever there is to do: a server that does not read misses the
client's pongs and drops a healthy session. So the inlet, not the kernel, is where a client that is
too fast is met. Only one that does not read what it is sent is not read either, until it does or
the time to send is over: else it would fill the inlet as well.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from emotrace_protocol.codec import encode
from emotrace_protocol.errors import ErrorCode, ProtocolError
from emotrace_protocol.events import (
    Event,
    Failed,
    InputAck,
    SessionEnded,
    SessionResumed,
    Totals,
)
from emotrace_protocol.messages import Message
from emotrace_protocol.order import ServerConversation
from emotrace_service.errors import EngineClosed
from emotrace_service.metrics import Metrics
from emotrace_service.session_store import Told

MAX_QUEUED_MESSAGES = 4_096
MAX_QUEUED_BYTES = 4 * 1024 * 1024
RETRY_AFTER_MS = 10_000
JOINED_MS = 250
MAX_WAITING_EVENTS = 512
MAX_WAITING_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Audio:
    """Messages of bytes as they came. arrival: of the first, in seconds of the session's clock.
    numbers: of the messages, as the client counts them."""

    messages: tuple[bytes, ...]
    arrival: float
    numbers: tuple[int, ...]

    @property
    def size(self) -> int:
        return sum(map(len, self.messages))


@dataclass(frozen=True, slots=True)
class Said:
    """A control message that must keep its place among the audio. size: of its text."""

    message: Message
    arrival: float
    number: int
    size: int


@dataclass(frozen=True, slots=True)
class Finish:
    """Nothing more will be taken in. error: what the client is told, if it is not its own wish."""

    arrival: float
    error: ProtocolError | None = None


Incoming = Audio | Said | Finish


class Inlet:
    """Bounded in milliseconds of audio. Holds nothing more once a Finish is in it.

    Where a client sends at the pace of time and the server is behind, it is not the client that is
    refused: more may wait then, up to a number of bytes, of which messages take their part.
    """

    def __init__(self, bytes_per_second: int, limit_ms: int) -> None:
        self._bytes_per_second = bytes_per_second
        self._limit_ms = limit_ms
        self._max_bytes = max(MAX_QUEUED_BYTES, bytes_per_second * limit_ms // 1_000)
        self._items: deque[Incoming] = deque()
        self._bytes = 0  # of audio
        self._said_bytes = 0
        self._ahead_ms = 0.0  # how far the audio runs before time
        self._last_arrival = 0.0
        self._ready = asyncio.Event()
        self._finish: Finish | None = None

    @property
    def queued_ms(self) -> float:
        return self._bytes * 1_000 / self._bytes_per_second

    @property
    def half_full(self) -> bool:
        return self.queued_ms > self._limit_ms / 2

    @property
    def finish(self) -> Finish | None:
        """Why nothing more is taken in; None: more is."""
        return self._finish

    def cut(self, finish: Finish) -> None:
        """What waits is dropped, and nothing more is taken in."""
        self._items.clear()
        self._bytes = self._said_bytes = 0
        self._finish = None
        self.put(finish)

    def put(self, item: Incoming) -> None:
        """Raises ProtocolError where it does not fit; what is in it stays."""
        if self._finish is not None:
            return
        if isinstance(item, Finish):
            self._finish = item
        elif len(self._items) >= MAX_QUEUED_MESSAGES:
            raise ProtocolError(
                ErrorCode.RATE_LIMITED, f"{MAX_QUEUED_MESSAGES} messages waited already."
            )
        elif isinstance(item, Audio):
            self._check_room(item)
            self._bytes += item.size
        else:
            if self._overflows(item.size):
                raise ProtocolError(
                    ErrorCode.RATE_LIMITED, f"{self._said_bytes} bytes of messages waited already."
                )
            self._said_bytes += item.size
        self._items.append(item)
        self._ready.set()

    def _check_room(self, item: Audio) -> None:
        length_ms = item.size * 1_000 / self._bytes_per_second
        passed_ms = (item.arrival - self._last_arrival) * 1_000
        self._ahead_ms = max(0.0, self._ahead_ms - passed_ms) + length_ms
        self._last_arrival = item.arrival
        if self.queued_ms + length_ms <= self._limit_ms:
            return
        if self._ahead_ms > self._limit_ms:
            raise ProtocolError(
                ErrorCode.RATE_LIMITED,
                f"{self.queued_ms:.0f} ms of audio waited, and {length_ms:.0f} ms more came faster "
                f"than time; the limit is {self._limit_ms} ms.",
                retry_after_ms=int(self.queued_ms),
            )
        if self._overflows(item.size):
            raise ProtocolError(
                ErrorCode.CAPACITY,
                f"The server is {self.queued_ms / 1_000:.0f} s behind.",
                retry_after_ms=RETRY_AFTER_MS,
            )

    def _overflows(self, size: int) -> bool:
        return self._bytes + self._said_bytes + size > self._max_bytes

    async def get(self) -> Incoming:
        while not self._items:
            self._ready.clear()
            await self._ready.wait()
        item = self._items.popleft()
        if isinstance(item, Audio):
            item = self._joined(item)
            self._bytes -= item.size
        elif isinstance(item, Said):
            self._said_bytes -= item.size
        return item

    def _joined(self, first: Audio) -> Audio:
        """Audio that waits already is taken together: a session that is behind catches up so."""
        messages, numbers, size = list(first.messages), list(first.numbers), first.size
        while size < self._bytes_per_second * JOINED_MS // 1_000 and self._items:
            following = self._items[0]
            if not isinstance(following, Audio):
                break
            self._items.popleft()
            messages += following.messages
            numbers += following.numbers
            size += following.size
        return Audio(tuple(messages), first.arrival, tuple(numbers))


class SlowConsumer(Exception):
    """The client does not read what it is sent."""


class Outlet:
    """Numbers events and holds them until they are sent, in the order of emission.

    keep: called with events before they are sent, so that what led to them is kept with them. told:
    called with each as it is made.
    """

    def __init__(
        self,
        conversation: ServerConversation,
        metrics: Metrics,
        keep: Callable[[Sequence[Told]], Awaitable[None]],
        told: Callable[[Event], None],
    ) -> None:
        self._conversation = conversation
        self._told = told
        self._metrics = metrics
        self._keep = keep
        self._steps = 0
        self._keeping = False
        self._torn = False
        self._held: list[Told] = []
        self._waiting: deque[str] = deque()
        self._bytes = 0  # that the texts take in memory
        self._ready = asyncio.Event()
        self._room = asyncio.Event()
        self._ending = False
        self._closed = False

    async def emit(self, event_type: type[Event], /, **fields: Any) -> None:
        """Number an event and queue it; waits while too much waits before it.

        Does nothing once the end is on its way: nothing may follow that. Raises what `keep` raises.
        """
        if not self._ending:
            await self._put(event_type, fields)

    @asynccontextmanager
    async def step(self) -> AsyncIterator[None]:
        """Events of the block are kept, and sent, when it is over. Of steps within steps the
        outermost counts. Where one is broken off nothing more is kept: whoever goes on with the
        session does it again. Raises what `keep` raises."""
        self._steps += 1
        try:
            yield
        except (asyncio.CancelledError, EngineClosed):
            self._torn = True
            raise
        finally:
            self._steps -= 1
        await self._release()

    async def end(
        self, error: ProtocolError | None, reason: str, totals: Callable[[], Totals]
    ) -> None:
        """Queue the last events, after which `run` ends. totals: asked for at the very last."""
        self._ending = True
        self._torn = False  # nobody goes on from here
        async with self.step():
            if error is not None:
                await self._put(Failed, error.fields())
            await self._put(SessionEnded, {"reason": reason, "totals": totals()})
        self._closed = True
        self._ready.set()

    async def leave(self, error: ProtocolError) -> None:
        """Queue an error after which the session goes on by another connection; then `run` ends.
        Where a step was broken off there is nothing that it could follow, and none comes."""
        self._ending = True
        if not self._torn:
            await self._put(Failed, error.fields() | {"resume": True})
        self._closed = True
        self._ready.set()

    async def room(self) -> None:
        """Returns at once where there is room; else when there is some for the first time."""
        if self._full:
            self._room.clear()
            await self._room.wait()

    def queue(self, events: Iterable[Told]) -> None:
        """Events that are kept already are on their way."""
        for event in events:
            self._waiting.append(event.text)
            self._bytes += sys.getsizeof(event.text)
        self._ready.set()

    async def go_on(self, missed: Iterable[Told], messages: int, token: str) -> None:
        """Queue what the client has not received, and session.resumed. A later connection that
        missed that one must not take it for its own, and gets in its place what stays true."""
        self.queue(missed)
        event = self._conversation.number(SessionResumed, messages=messages, token=token)
        lasting = InputAck(sequence=event.sequence, messages=messages)
        self._held.append(Told(event.sequence, encode(event), encode(lasting)))
        await self._release()

    async def _put(self, event_type: type[Event], fields: Mapping[str, Any]) -> None:
        event = self._conversation.number(event_type, **fields)
        if isinstance(event, Failed):
            self._metrics.refusals.labels(str(event.code)).inc()
        self._told(event)
        self._held.append(Told(event.sequence, encode(event)))
        await self._release()

    async def _release(self) -> None:
        """Keep and queue what is held, unless a step is not over; then wait for room."""
        if self._steps or self._torn:
            return
        if not self._keeping:  # else whoever does takes this along
            self._keeping = True
            try:
                while self._held and not (self._steps or self._torn):
                    events = tuple(self._held)
                    await self._keep(events)  # may be broken off: then they are still held
                    del self._held[: len(events)]
                    self.queue(events)
            finally:
                self._keeping = False
        while self._full:
            self._room.clear()
            await self._room.wait()

    async def run(
        self,
        send: Callable[[str], Awaitable[None]],
        *,
        send_timeout_s: float,
        heartbeat_s: float,
        heartbeat: Callable[[], Awaitable[None]],
    ) -> None:
        """Send until closed. heartbeat is called where nothing was sent for so long.

        Raises SlowConsumer where one event is not taken in time.
        """
        while True:
            if not self._waiting:
                if self._closed:
                    return
                self._ready.clear()
                try:
                    async with asyncio.timeout(heartbeat_s):
                        await self._ready.wait()
                except TimeoutError:
                    await heartbeat()
                continue
            text = self._waiting.popleft()
            self._bytes -= sys.getsizeof(text)
            if not self._full:
                self._room.set()
            try:
                async with asyncio.timeout(send_timeout_s):
                    await send(text)
            except TimeoutError:
                raise SlowConsumer from None

    @property
    def _full(self) -> bool:
        return len(self._waiting) > MAX_WAITING_EVENTS or self._bytes > MAX_WAITING_BYTES
