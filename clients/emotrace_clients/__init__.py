"""Clients: what a person touches."""

from emotrace_clients.connecting import DEFAULT_URL, connect
from emotrace_clients.dialogue import Dialogue
from emotrace_clients.errors import (
    ConnectionLost,
    EmotraceError,
    EventsUnread,
    ExtraMissing,
    MicrophoneError,
    ProtocolBroken,
    ServerNotReady,
    ServerUnreachable,
    SessionFailed,
    SourceError,
)
from emotrace_clients.line import ConnectionChange
from emotrace_clients.session import Session
from emotrace_clients.tracker import EmotionTracker

__all__ = [
    "DEFAULT_URL",
    "ConnectionChange",
    "ConnectionLost",
    "Dialogue",
    "EmotionTracker",
    "EmotraceError",
    "EventsUnread",
    "ExtraMissing",
    "MicrophoneError",
    "ProtocolBroken",
    "ServerNotReady",
    "ServerUnreachable",
    "Session",
    "SessionFailed",
    "SourceError",
    "connect",
]
