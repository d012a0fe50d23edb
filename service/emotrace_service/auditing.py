"""What the audit log is told: who opened which session for what, and how it ended; never what was
said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from prometheus_client import CollectorRegistry

from emotrace_service.logs import Logger


class AuditEvent(StrEnum):
    SESSION_OPENED = "session.opened"
    SESSION_RESUMED = "session.resumed"
    SESSION_ENDED = "session.ended"
    REFUSED = "refused"  # a session, a file, a request
    FILE_ANALYZED = "file.analyzed"
    RECORDING_BEGAN = "recording.began"
    RECORDING_ENDED = "recording.ended"
    RECORDING_DELETED = "recording.deleted"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line to be. Its fields are all that a line may hold; those that are None are left out.

    key: name of the caller's key. purpose: as the client declared it. consent: SHA-256 of what was
    agreed to. reason: of an end. code: of a refusal. counts: of a session, by name.
    """

    event: AuditEvent
    session: str | None = None
    key: str | None = None
    purpose: str | None = None
    modalities: tuple[str, ...] | None = None
    consent: str | None = None
    reason: str | None = None
    code: str | None = None
    counts: Mapping[str, int] | None = None

    def told(self) -> dict[str, Any]:
        names = [one.name for one in fields(self) if one.name != "event"]
        return {name: value for name in names if (value := getattr(self, name)) is not None}


class Audit(Protocol):
    def record(self, entry: Entry) -> None:
        """Never waits, never fails."""

    def close(self) -> None:
        """The server stops."""


class NoAudit:
    """Where the operator wants none."""

    def record(self, entry: Entry) -> None:
        pass

    def close(self) -> None:
        pass


def open_audit(path: Path | None, registry: CollectorRegistry, log: Logger) -> Audit:
    """Raises StartRefused."""
    if path is None:
        return NoAudit()
    from emotrace_service.audit_log import AuditLog  # which is for Unix only

    return AuditLog(path, registry, log)
