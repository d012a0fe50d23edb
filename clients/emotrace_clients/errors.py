"""What can go wrong between a client and a server. Every message names the cause and the cure.

EmotraceError
├── ServerUnreachable     no server answers at the address
├── ServerNotReady        a server answers, and cannot take a session now
├── ConnectionLost        the connection broke before session.ended
├── SessionFailed         the server refused or ended the session; `.event` says why
├── ProtocolBroken        the server sent something that is no event, or out of order
├── EventsUnread          more events wait than the buffer holds, and nobody reads them
├── SourceError           a file or transcript cannot be used
└── MicrophoneError       there is no microphone, or its driver is missing
"""

from __future__ import annotations

from emotrace_protocol.events import Failed


class EmotraceError(Exception):
    """Base of all errors of the clients."""


class ServerUnreachable(EmotraceError):
    """No server answers at the address."""


class ServerNotReady(EmotraceError):
    """A server answers, and cannot take a session now."""


class ConnectionLost(EmotraceError):
    """The connection broke before session.ended: events may be missing."""


class SessionFailed(EmotraceError):
    """The server refused or ended the session. event: its fatal `error`."""

    def __init__(self, event: Failed) -> None:
        super().__init__(f"{event.message} ({event.code})")
        self.event = event


class ProtocolBroken(EmotraceError):
    """The server sent something that is no event, or broke the order of events."""


class EventsUnread(EmotraceError):
    """More events wait to be read than the buffer holds."""


class SourceError(EmotraceError):
    """A file or transcript cannot be used."""


class MicrophoneError(EmotraceError):
    """There is no microphone, or its driver is missing."""
