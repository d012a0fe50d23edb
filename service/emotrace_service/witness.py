"""What is told of a session to those whom the operator wants to know: audit log, traces,
recording, webhook.

None of them is there by default, and a session is the same with or without them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from emotrace_models.bundle import Bundle
from emotrace_protocol.errors import ErrorCode, ProtocolError
from emotrace_protocol.events import Event
from emotrace_protocol.messages import SessionStart
from emotrace_service.auditing import Audit, AuditEvent, Entry, NoAudit
from emotrace_service.recorder import About, Recorder
from emotrace_service.session_store import Told
from emotrace_service.tracing import SessionTrace, Tracing
from emotrace_service.webhook import Webhook

if TYPE_CHECKING:
    from emotrace_service.session_recording import SessionRecordings


NOT_HERE = (
    "What was recorded before is not here, and no more is: it was deleted, or cannot be reached."
)


@dataclass(frozen=True)
class Observers:
    """Of one server."""

    audit: Audit = field(default_factory=NoAudit)
    tracing: Tracing | None = None
    recordings: SessionRecordings | None = None
    webhook: Webhook | None = None

    def close(self) -> None:
        """Write and send what waits, for a few seconds at most; the webhook, which belongs to the
        event loop, is closed there. Blocks."""
        if self.recordings is not None:
            self.recordings.close()
        if self.tracing is not None:
            self.tracing.close()
        self.audit.close()


class Witness:
    """Of one connection. session: its name."""

    def __init__(self, observers: Observers, session: str) -> None:
        self._recordings = observers.recordings
        self._tracing = observers.tracing
        self._trace: SessionTrace | None = None
        self._audit = observers.audit
        self._webhook = observers.webhook
        self._session = session
        self._opened = False
        self._deleted = False
        self._recorder: Recorder | None = None
        self._fault: str | None = None

    def refused(self, code: ErrorCode, key: str | None) -> None:
        """Nothing came of the connection. key: name of the caller's, if there is one."""
        if not self._opened:
            self._audit.record(Entry(AuditEvent.REFUSED, self._session, key, code=code.value))

    async def opened(
        self,
        start: SessionStart,
        bundle: Bundle,
        profile: str,
        modalities: tuple[str, ...],
        key: str | None,
        *,
        again: bool,
    ) -> str | None:
        """The session begins, or goes on (`again`). modalities: that are live. Gives the token that
        deletes a recording, where one begins."""
        self._opened = True
        event = AuditEvent.SESSION_RESUMED if again else AuditEvent.SESSION_OPENED
        self._audit.record(Entry(event, self._session, key, start.purpose, modalities))
        if self._tracing is not None:
            self._trace = self._tracing.session(self._session, resumed=again)
        if start.record is None or self._recordings is None:
            return None
        about = About.of(self._session, start, bundle, profile, start.record.consent)
        if again:
            self._recorder = await self._recordings.go_on(about)
            self._fault = NOT_HERE if self._recorder is None else None
            return None
        begun = await self._recordings.begin(about)
        if begun is None:
            return None
        self._recorder = begun.recorder
        return begun.token

    def told(self, event: Event) -> None:
        """An event is on its way to the client."""
        if self._trace is not None:
            self._trace.told(event)

    def note(self, number: int, data: bytes | str) -> str | None:
        """A message came, by its number in the session; empty: it had no effect. Gives why the
        session is not recorded any more."""
        if self._recorder is None:
            return self._fault
        self._recorder.note(number, data)
        return self._recorder.fault

    def post(self, told: Sequence[Told]) -> None:
        """These events are kept, and about to be sent. Of a session that was deleted only the end
        is posted: others may have been on their way here when it was."""
        if self._webhook is not None:
            for one in told:
                self._webhook.offer(self._session, one.text, only_end=self._deleted)

    async def forget(self) -> ProtocolError | None:
        """Delete what was recorded of the session and what is still to be posted of it. Gives why
        that cannot be done now."""
        if not self._deleted and self._webhook is not None:
            self._webhook.recall(self._session)
        self._deleted = True
        if self._recordings is not None and self._opened:
            try:
                await self._recordings.forget(self._session)
            except TimeoutError:
                cause = "The disk does not answer, and the recording is still there."
                return ProtocolError(ErrorCode.CAPACITY, cause)
        return None

    def ended(self, reason: str, counts: Mapping[str, int]) -> None:
        """The connection is over."""
        if not self._opened:
            return
        self._audit.record(
            Entry(AuditEvent.SESSION_ENDED, self._session, reason=reason, counts=counts)
        )
        if self._trace is not None:
            self._trace.end(reason)
        if self._recorder is not None and self._recordings is not None:
            self._recordings.end(self._session, self._recorder, reason)
