"""Short-lived secrets for clients that must hold no key, a browser say. Pure: time is an argument.

Each opens one Realtime connection, configured as it was asked for. Only a hash of it is kept, in
memory, and its end is remembered while there is room, so that who comes too late is told why.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from hashlib import sha256

from emotrace_protocol.errors import ErrorCode, ProtocolError
from emotrace_service.identity import Caller
from emotrace_service.realtime_config import SessionConfig

PREFIX = "ek_"
LEAST_S, MOST_S, USUAL_S = 10, 7_200, 600
MAX_SECRETS = 4_096
RETRY_AFTER_MS = 10_000


class SecretRefused(Exception):
    """A secret that opens nothing. code: what the client is told; the message says what to do."""

    def __init__(self, code: str, cause: str) -> None:
        super().__init__(f"{cause} Ask for another: POST /v1/realtime/client_secrets.")
        self.code = code


@dataclass(frozen=True, slots=True)
class Issued:
    """session: how it will be called. caller: by whose key it was asked for. left_out: what of its
    configuration has no effect. expires: in seconds of the clock that is passed in.
    """

    session: str
    config: SessionConfig
    left_out: tuple[tuple[str, str], ...]
    expires: float
    caller: Caller | None = None
    used: bool = False

    def open(self, now: float) -> bool:
        return not self.used and now < self.expires


class ClientSecrets:
    """Of one server."""

    def __init__(self) -> None:
        self._issued: dict[bytes, Issued] = {}

    def __len__(self) -> int:
        return len(self._issued)

    def issue(
        self,
        config: SessionConfig,
        left_out: tuple[tuple[str, str], ...],
        seconds: int,
        now: float,
        caller: Caller | None = None,
    ) -> tuple[str, Issued]:
        """A new secret. Raises ProtocolError where too many are open."""
        if len(self._issued) >= MAX_SECRETS:
            self._issued = {key: one for key, one in self._issued.items() if one.open(now)}
        if len(self._issued) >= MAX_SECRETS:
            raise ProtocolError(
                ErrorCode.CAPACITY,
                f"{MAX_SECRETS} client secrets are open already.",
                retry_after_ms=RETRY_AFTER_MS,
            )
        value = PREFIX + secrets.token_hex(32)
        issued = Issued(f"sess_{secrets.token_hex(8)}", config, left_out, now + seconds, caller)
        self._issued[_hash(value)] = issued
        return value, issued

    def redeem(self, value: str, now: float) -> Issued:
        """What the secret was made for; it opens nothing more. Raises SecretRefused."""
        key = _hash(value)
        issued = self._issued.get(key)
        if issued is None:
            raise SecretRefused("token_unknown", "This server knows no such client secret.")
        if issued.used:
            raise SecretRefused("token_used", "This client secret was used; it opens one session.")
        if not issued.open(now):
            raise SecretRefused("token_expired", "This client secret has expired.")
        self._issued[key] = replace(issued, used=True)
        return issued

    def give_back(self, value: str) -> None:
        """It opened nothing after all: the server was full."""
        key = _hash(value)
        self._issued[key] = replace(self._issued[key], used=False)


def _hash(value: str) -> bytes:
    return sha256(value.encode("utf-8", "surrogatepass")).digest()
