"""What is kept of a session that can be taken up again, and who may go on with it.

A session commits what it knows together with the events that tell of it, and only then sends them.
So whoever takes it up finds a state and the events that led to it, never one without the other: the
client says again what is not part of that state, and gets what it had not received.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from emotrace_protocol.errors import ErrorCode, ProtocolError
from emotrace_protocol.messages import SessionStart
from emotrace_service.understood import Understood

TOKEN_BYTES = 32
MAX_EVENTS = 600  # that wait for the client's ack
MAX_BYTES = 1024 * 1024  # of their texts
ROOM_S = 3.0
BUFFER_MS = 30_000  # of audio that a client keeps


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """A session between two of its steps.

    sent, counts: events numbered so far, and by type. through, ahead: which of the client's
    messages are part of it (Receipts). others: messages that have no number. age_s: of the session.
    caller: by whose key it was let in. over: nothing follows.
    """

    start: SessionStart
    sent: int
    counts: Mapping[str, int]
    through: int
    ahead: frozenset[int]
    others: int
    age_s: float
    understood: Understood
    caller: str | None = None
    over: bool = False


@dataclass(frozen=True, slots=True)
class Told:
    """An event as it is sent. lasting: what is kept of one that holds for its connection only."""

    sequence: int
    text: str
    lasting: str | None = None

    @property
    def kept(self) -> str:
        """What a later connection gets, if this one's client missed it."""
        return self.lasting or self.text


class Unacknowledged:
    """Which events are kept for a client that has not said that it has them. events: so far."""

    def __init__(self, events: Iterable[Told] = ()) -> None:
        self._sizes: deque[tuple[int, int]] = deque()
        self._bytes = 0
        self._next = 0
        self.add(events)

    def add(self, events: Iterable[Told]) -> None:
        """Those that were added before do not count twice."""
        for event in events:
            if event.sequence >= self._next:
                self._next = event.sequence + 1
                self._sizes.append((event.sequence, len(event.kept)))
                self._bytes += len(event.kept)

    def first(self, acknowledged: int) -> int:
        """Number of the first that is kept, the newest in any case."""
        sizes = self._sizes
        while sizes and (
            sizes[0][0] <= acknowledged
            or (len(sizes) > 1 and (len(sizes) > MAX_EVENTS or self._bytes > MAX_BYTES))
        ):
            self._bytes -= sizes.popleft()[1]
        return sizes[0][0] if sizes else acknowledged + 1


class TakenOver(Exception):
    """Another connection goes on with the session."""


class StoreLost(Exception):
    """The store has been away for too long: nothing can be kept any more."""


class Lease(Protocol):
    """The right to go on with one session; of all that were ever given, the newest has it.

    token: with which a client may take the session up again.
    """

    token: str

    async def commit(self, snapshot: Snapshot, events: Sequence[Told], acknowledged: int) -> None:
        """Keep a state and the events that led to it from the last one; forget events up to number
        `acknowledged`. Raises TakenOver, StoreLost."""

    def confirm(self) -> None:
        """The client has the token, so that the one that it came with is void: a connection that
        breaks before the client has the new one must not lock it out."""

    async def taken(self) -> None:
        """Returns once another connection goes on with the session."""

    async def forget(self) -> None:
        """The client does not come back."""

    async def erase(self) -> None:
        """When it returns nothing is kept. Raises TakenOver, StoreLost."""

    async def leave(self) -> None:
        """The connection broke, or the session is over: the client's time to come back begins."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """A session that goes on. events: those that its client has not received."""

    lease: Lease
    snapshot: Snapshot
    events: tuple[Told, ...]


class SessionStore(Protocol):
    """All sessions that can be taken up again. window_ms: for how long after a break. durable: they
    survive this process, and another may go on with them."""

    window_ms: int
    durable: bool

    async def open(self, name: str) -> Lease:
        """A new session. Raises StoreLost."""

    async def resume(self, name: str, token: str, sequence: int, attempt: int = 0) -> Resumed:
        """sequence: events that the client has received. attempt: counted by the client; one that
        arrives after a later one gets nothing. Raises ProtocolError: session_unknown (the same for
        a wrong token), or resume_expired, which says what was lost; StoreLost."""

    async def first(self, ticket: str, life_s: float) -> bool:
        """Whether a ticket is used for the first time (emotrace_service.tickets)."""

    async def room_elsewhere(self, here: bool) -> bool:
        """Whether another server that has said so within ROOM_S has room. here: whether this one
        has. Raises StoreLost."""

    async def close(self) -> None:
        """The server stops."""


def unknown(window_ms: int) -> ProtocolError:
    return ProtocolError(
        ErrorCode.SESSION_UNKNOWN,
        "There is no session of that name and token; it may have ended, or waited longer than "
        f"{window_ms / 1_000:g} s.",
    )


def expired(sequence: int, first: int, sent: int) -> ProtocolError:
    """sequence: of the event that is asked for. first, sent: those from `first` to before `sent`
    are kept."""
    return ProtocolError(
        ErrorCode.RESUME_EXPIRED,
        f"Event {sequence} is asked for, and events {first} to {sent} are kept.",
        "sequence",
    )
