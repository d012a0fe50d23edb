"""The door: who is let in by which key or ticket, and how many sessions of theirs are open."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from emotrace_protocol.errors import ErrorCode, ProtocolError
from emotrace_service.identity import Caller, Keys
from emotrace_service.tickets import PREFIX, Ticket, Tickets, unauthenticated


class Door:
    """Of one server. keys: None where it is open to everybody who can reach it."""

    def __init__(self, keys: Keys | None, tickets: Tickets | None) -> None:
        self._keys = keys
        self._tickets = tickets
        self._inside: Counter[str] = Counter()

    @property
    def open(self) -> bool:
        return self._keys is None

    async def caller(self, secret: str | None, *, by_key: bool = False) -> Caller | None:
        """Whose key or ticket it is; None where nobody is asked.

        by_key: a ticket does not do, where it would give what outlives it. Raises ProtocolError:
        unauthenticated, or ticket_used.
        """
        if self._keys is None or self._tickets is None:
            return None
        if secret is None:
            raise unauthenticated()
        if secret.startswith(PREFIX) and not by_key:
            return await self._tickets.redeem(secret)
        caller = self._keys.find(secret)
        if caller is None:
            raise unauthenticated()
        return caller

    def named(self, name: str | None) -> Caller | None:
        """Who was let in before. Raises ProtocolError where the key was taken away meanwhile."""
        if self._keys is None or name is None:
            return None
        caller = self._keys.named(name)
        if caller is None:
            raise unauthenticated()
        return caller

    def ticket(self, caller: Caller) -> Ticket:
        """For a browser of the caller's. Raises ProtocolError where nobody needs one."""
        if self._tickets is None:
            raise ProtocolError(
                ErrorCode.CONFIG_INVALID, "This server is open: sessions need no ticket."
            )
        return self._tickets.issue(caller)

    @contextmanager
    def entered(self, caller: Caller | None, *, again: bool = False) -> Iterator[None]:
        """One session of the caller's. Raises ProtocolError where as many are open as may be.

        again: it was let in before; its lost connection may still count.
        """
        if caller is None:
            yield
            return
        if not again and self._inside[caller.name] >= caller.sessions:
            raise ProtocolError(
                ErrorCode.CONCURRENCY_LIMIT,
                f"This key has {caller.sessions} sessions open, as many as it may.",
            )
        self._inside[caller.name] += 1
        try:
            yield
        finally:
            self._inside[caller.name] -= 1
            if not self._inside[caller.name]:
                del self._inside[caller.name]
