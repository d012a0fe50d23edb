"""What can go wrong between a client and a server. Every message names the cause and the cure.

EmotraceError
├── ServerUnreachable     no server answers at the address
├── ServerNotReady        a server answers, and cannot take a session now
├── ConnectionLost        the connection broke before session.ended, and none took its place
├── SessionFailed         the server refused or ended the session; `.event` says why
├── ProtocolBroken        the server sent something that is no event, or out of order
├── EventsUnread          more events wait than the buffer holds, and nobody reads them
├── SourceError           a file or transcript cannot be used
├── MicrophoneError       there is no microphone, or its driver is missing
└── ExtraMissing          a package that not everybody needs is not installed
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
    """The connection broke before session.ended, and the session could not be taken up again.

    events: how many came: those with a `sequence` under it are all there. audio_ms: the sound from
    there on was not acknowledged.
    """

    def __init__(self, sentence: str, *, events: int = 0, audio_ms: int = 0) -> None:
        super().__init__(sentence)
        self.events = events
        self.audio_ms = audio_ms


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


class ExtraMissing(EmotraceError):
    """A package that not everybody needs is not installed. The message says how to get it."""

    def __init__(self, what: str, package: str, extra: str, error: ModuleNotFoundError) -> None:
        super().__init__(
            f"{what} needs {package}, and `import {error.name}` fails: "
            f"`pip install 'emotrace[{extra}]'`."
        )
