"""What a Realtime client sends, read strictly: whatever it is, a message or a ProtocolError."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from emotrace_protocol.codec import MAX_CONTROL_BYTES
from emotrace_protocol.errors import ErrorCode, ProtocolError
from emotrace_service.errors import Advised
from emotrace_service.realtime_config import BetaSessionConfig, Part, SessionConfig

NOT_TRANSCRIPTION = (
    "This server takes the transcription part of the Realtime protocol: session.update, "
    "input_audio_buffer.append, .commit and .clear. It gives no responses."
)


class Named(Part):
    event_id: str | None = Field(default=None, max_length=512)


class SessionUpdate(Named):
    type: Literal["session.update"]
    session: SessionConfig


class BetaSessionUpdate(Named):
    type: Literal["transcription_session.update"]
    session: BetaSessionConfig


class Append(Named):
    type: Literal["input_audio_buffer.append"]
    audio: str

    def samples(self) -> bytes:
        """Raises ProtocolError."""
        try:
            return base64.b64decode(self.audio, validate=True)
        except (binascii.Error, ValueError):  # the latter where it is not ASCII
            raise ProtocolError(
                ErrorCode.MESSAGE_INVALID, "`audio` is not base64.", "audio"
            ) from None


class Clear(Named):
    type: Literal["input_audio_buffer.clear"]


class Commit(Named):
    type: Literal["input_audio_buffer.commit"]


class End(Named):
    """This server's own: no more audio; finish what there is, tell the totals, and close."""

    type: Literal["emotrace.session.end"]


RealtimeMessage = Annotated[
    SessionUpdate | BetaSessionUpdate | Append | Clear | Commit | End, Field(discriminator="type")
]
_MESSAGE: TypeAdapter[RealtimeMessage] = TypeAdapter(RealtimeMessage)


def read_message(data: str | bytes) -> RealtimeMessage:
    """Raises ProtocolError."""
    if isinstance(data, bytes):
        raise Advised(
            ErrorCode.MESSAGE_INVALID,
            "A binary message came; Realtime clients send audio as base64 in "
            "input_audio_buffer.append.",
        )
    try:
        message = _MESSAGE.validate_json(data)
    except ValidationError as error:
        raise refusal(error) from None
    if not isinstance(message, Append) and len(data) > MAX_CONTROL_BYTES:
        raise ProtocolError(
            ErrorCode.MESSAGE_TOO_LARGE, f"The message is over {MAX_CONTROL_BYTES} bytes."
        )
    return message


def event_id_of(data: str | bytes) -> str | None:
    """How the client calls a message that was refused, where that can be read."""
    try:
        name = _ENVELOPE.validate_json(data).get("event_id")
    except ValidationError:
        return None
    return name if isinstance(name, str) and len(name) <= 512 else None


_ENVELOPE: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])


def refusal(error: ValidationError) -> ProtocolError:
    """The first fault, with the field's dotted name; without what the client wrote there."""
    fault = error.errors(include_url=False, include_input=False)[0]
    kind = fault["type"]
    if kind == "json_invalid":
        return ProtocolError(ErrorCode.MESSAGE_INVALID, "The message is not JSON.")
    where = [str(step) for step in fault["loc"]]
    if kind in ("union_tag_invalid", "union_tag_not_found") and not where:
        return Advised(ErrorCode.TYPE_UNKNOWN, NOT_TRANSCRIPTION, "type")
    param = ".".join(step for step in where if step not in _TAGS) or None
    code = ErrorCode.CONFIG_INVALID if "session" in where[:2] else ErrorCode.MESSAGE_INVALID
    if kind == "extra_forbidden":
        return ProtocolError(code, f"{param}: this server knows no such field.", param)
    reason = fault["msg"].removeprefix("Value error, ")
    return ProtocolError(code, f"{param}: {reason}." if param else f"{reason}.", param)


# What pydantic puts into the place of a fault to say which member of a union it tried.
_TAGS = frozenset(
    {"session.update", "transcription_session.update", "emotrace.session.end"}
    | {f"input_audio_buffer.{verb}" for verb in ("append", "clear", "commit")}
    | {"audio/pcm", "audio/pcmu", "audio/pcma", "list[str]", "str"}
)
