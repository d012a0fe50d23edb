"""The wire contract of Emotrace: messages, events, errors, order."""

from emotrace_protocol.codec import (
    MAX_CONTROL_BYTES,
    MAX_MESSAGE_BYTES,
    decode_event,
    decode_message,
    encode,
)
from emotrace_protocol.errors import (
    ConversationError,
    ErrorCode,
    ErrorKind,
    ProtocolError,
    WarningCode,
)
from emotrace_protocol.events import NOTICE, Event, ServerEvent, UnknownEvent
from emotrace_protocol.messages import PROTOCOL_VERSION, ClientMessage, Message
from emotrace_protocol.order import ClientConversation, ServerConversation, State

__all__ = [
    "MAX_CONTROL_BYTES",
    "MAX_MESSAGE_BYTES",
    "NOTICE",
    "PROTOCOL_VERSION",
    "ClientConversation",
    "ClientMessage",
    "ConversationError",
    "ErrorCode",
    "ErrorKind",
    "Event",
    "Message",
    "ProtocolError",
    "ServerConversation",
    "ServerEvent",
    "State",
    "UnknownEvent",
    "WarningCode",
    "decode_event",
    "decode_message",
    "encode",
]
