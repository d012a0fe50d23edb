"""What is told of a session to those whom the operator wants to know: audit log, traces, recording.

None of them is there by default, and a session is the same with or without them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from emotrace_models.bundle import Bundle
from emotrace_protocol.errors import ErrorCode
from emotrace_protocol.events import Event
from emotrace_protocol.messages import SessionStart
from emotrace_service.auditing import Audit, AuditEvent, Entry, NoAudit
from emotrace_service.recorder import About, Recorder
from emotrace_service.tracing import SessionTrace, Tracing

if TYPE_CHECKING:
    from emotrace_service.session_recording import SessionRecordings


@dataclass(frozen=True)
class Observers:
    """Of one server."""

    audit: Audit = field(default_factory=NoAudit)
    tracing: Tracing | None = None
    recordings: SessionRecordings | None = None

    def close(self) -> None:
        """Write and send what waits, for a few seconds at most. Blocks."""
        if self.recordings is not None:
            self.recordings.close()
        if self.tracing is not None:
            self.tracing.close()
        self.audit.close()


class Witness:
    """Of one connection. recording: it is recorded; fault: why it is not any more."""

    def __init__(self, observers: Observers, session: str) -> None:
        self._observers = observers
        self._audit = observers.audit
        self._session = session
        self._opened = False
        self._trace: SessionTrace | None = None
        self._recorder: Recorder | None = None

    @property
    def recording(self) -> bool:
        return self._recorder is not None

    @property
    def fault(self) -> str | None:
        return None if self._recorder is None else self._recorder.fault

    def refused(self, code: ErrorCode, key: str | None) -> None:
        """No session came of it. key: name of the caller's, if there is one."""
        if not self._opened:
            self._audit.record(
                Entry(AuditEvent.SESSION_REFUSED, self._session, key, code=code.value)
            )

    async def opened(
        self,
        start: SessionStart,
        bundle: Bundle,
        *,
        profile: str,
        modalities: tuple[str, ...],
        key: str | None,
        consent: str | None,
        again: bool,
    ) -> str | None:
        """The session begins, or goes on (`again`). consent: digest of what the client agreed to;
        None: it does not want to be recorded. Gives the token that deletes a new recording."""
        self._opened = True
        event = AuditEvent.SESSION_RESUMED if again else AuditEvent.SESSION_OPENED
        self._audit.record(Entry(event, self._session, key, start.purpose, modalities))
        if self._observers.tracing is not None:
            self._trace = self._observers.tracing.session(self._session, resumed=again)
        recordings = self._observers.recordings
        if consent is None or recordings is None:
            return None
        about = About.of(self._session, start, bundle, profile, consent)
        if again:
            self._recorder = await recordings.go_on(about)
            return None
        begun = await recordings.begin(about)
        if begun is None:
            return None
        self._recorder = begun.recorder
        return begun.token

    def told(self, event: Event) -> None:
        """An event is on its way to the client."""
        if self._trace is not None:
            self._trace.told(event)

    def note(self, number: int, data: bytes | str) -> None:
        """A message came, by its number in the session; empty: it had no effect."""
        if self._recorder is not None:
            self._recorder.note(number, data)

    async def delete(self) -> None:
        """Nothing shall be left of the session. Raises TimeoutError."""
        self._audit.record(Entry(AuditEvent.SESSION_DELETED, self._session))
        if self._observers.recordings is not None:
            await self._observers.recordings.forget(self._session)

    def ended(self, reason: str, counts: Mapping[str, int]) -> None:
        """The connection is over."""
        if not self._opened:
            return
        self._audit.record(
            Entry(AuditEvent.SESSION_ENDED, self._session, reason=reason, counts=counts)
        )
        if self._trace is not None:
            self._trace.end(reason)
        if self._recorder is not None and self._observers.recordings is not None:
            self._observers.recordings.end(self._session, self._recorder, reason)
