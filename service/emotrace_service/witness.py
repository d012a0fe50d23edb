"""What is told of a session to those whom the operator wants to know.

None of them is there by default, and a session is the same with or without them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from emotrace_protocol.errors import ErrorCode
from emotrace_protocol.messages import SessionStart
from emotrace_service.auditing import Audit, AuditEvent, Entry, NoAudit


@dataclass(frozen=True)
class Observers:
    """Of one server."""

    audit: Audit = field(default_factory=NoAudit)

    def close(self) -> None:
        """Write what waits, for a few seconds at most. Blocks."""
        self.audit.close()


class Witness:
    """Of one connection. session: its name. key: name of the caller's, if there is one."""

    def __init__(self, observers: Observers, session: str) -> None:
        self._observers = observers
        self._audit = observers.audit
        self._session = session
        self._opened = False

    def refused(self, code: ErrorCode, key: str | None) -> None:
        """Nothing came of the connection."""
        if not self._opened:
            self._audit.record(Entry(AuditEvent.REFUSED, self._session, key, code=code.value))

    def opened(
        self, start: SessionStart, modalities: tuple[str, ...], key: str | None, *, again: bool
    ) -> None:
        """The session begins, or goes on (`again`). modalities: that are live."""
        self._opened = True
        event = AuditEvent.SESSION_RESUMED if again else AuditEvent.SESSION_OPENED
        self._audit.record(Entry(event, self._session, key, start.purpose, modalities))

    def ended(self, reason: str, counts: Mapping[str, int]) -> None:
        """The connection is over."""
        if self._opened:
            self._audit.record(
                Entry(AuditEvent.SESSION_ENDED, self._session, reason=reason, counts=counts)
            )
