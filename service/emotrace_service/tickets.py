"""Tickets: what a browser is given instead of a key. Each lets in once, within a minute.

A ticket is signed, so that any server with the same keys takes it; that it was used is noted where
all of them look.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from emotrace_protocol.errors import ErrorCode, ProtocolError
from emotrace_service.identity import Caller, Keys

PREFIX = "emt_"
LIFE_S = 60.0
MAX_NOTED = 100_000


class Noted(Protocol):
    """Which tickets were used."""

    async def first(self, ticket: str, life_s: float) -> bool:
        """Whether it is used for the first time; to be remembered for `life_s`, in seconds."""


class NotedHere:
    """In this process. clock: in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._used: OrderedDict[str, float] = OrderedDict()

    async def first(self, ticket: str, life_s: float) -> bool:
        now = self._clock()
        while self._used and (
            next(iter(self._used.values())) < now or len(self._used) >= MAX_NOTED
        ):
            self._used.popitem(last=False)
        if ticket in self._used:
            return False
        self._used[ticket] = now + life_s
        return True


@dataclass(frozen=True, slots=True)
class Ticket:
    """expires_at: seconds since 1970."""

    value: str
    expires_at: float


class Tickets:
    """now: seconds since 1970, as all servers have them."""

    def __init__(self, keys: Keys, noted: Noted, now: Callable[[], float]) -> None:
        self._keys = keys
        self._noted = noted
        self._now = now

    def issue(self, caller: Caller) -> Ticket:
        expires_at = self._now() + LIFE_S
        body = json.dumps([caller.name, round(expires_at, 3), secrets.token_urlsafe(12)]).encode()
        value = f"{_text(body)}.{_text(self._signature(body))}"
        return Ticket(PREFIX + value, expires_at)

    async def redeem(self, value: str) -> Caller:
        """Raises ProtocolError: unauthenticated, or ticket_used."""
        body, _, signature = value.removeprefix(PREFIX).partition(".")
        try:
            told, signed = _bytes(body), _bytes(signature)
        except (binascii.Error, ValueError):
            raise unauthenticated() from None
        if not hmac.compare_digest(self._signature(told), signed):
            raise unauthenticated()
        name, expires_at, _ = json.loads(told)
        caller = self._keys.named(name)
        left_s = expires_at - self._now()
        if caller is None or left_s <= 0:
            raise unauthenticated()
        if not await self._noted.first(sha256(told).hexdigest(), left_s):
            raise ProtocolError(ErrorCode.TICKET_USED, "The ticket was used before.")
        return caller

    def _signature(self, body: bytes) -> bytes:
        return hmac.digest(self._keys.seal, body, "sha256")


def unauthenticated() -> ProtocolError:
    return ProtocolError(ErrorCode.UNAUTHENTICATED, "No valid key or ticket was given.")


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
