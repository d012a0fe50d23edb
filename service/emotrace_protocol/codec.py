"""Text on the wire to typed messages and back.

A client may send anything. Whatever it sends, `decode_message` gives a message or raises
`ProtocolError`, in time proportional to the length of the text. The standard library's JSON parser
is too kind: it accepts NaN, 1e999, duplicate keys and lone surrogates, and recurses as deep as the
text does. Each of these is refused here, before a model sees it.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn, cast

from pydantic import BaseModel, ValidationError

from emotrace_protocol.errors import ErrorCode, ProtocolError
from emotrace_protocol.events import EVENTS, Event, ServerEvent, UnknownEvent
from emotrace_protocol.messages import (
    MESSAGES,
    PROTOCOL_VERSION,
    ClientMessage,
    Message,
    ProhibitedPurpose,
)

MAX_MESSAGE_BYTES = 1024 * 1024  # any websocket message
MAX_CONTROL_BYTES = 64 * 1024  # a text message, unless it is an image
MAX_DEPTH = 16
_MAX_IMAGE_COMMAS = 64
_MAX_SHOWN = 64

_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)


def encode(value: Message | Event) -> str:
    """One message or event as compact JSON."""
    return value.model_dump_json()


def decode_message(text: str) -> tuple[ClientMessage, tuple[str, ...]]:
    """What a client sent, and the names (dotted) of the fields that this version does not know.

    Raises ProtocolError.
    """
    size = _checked_size(text)
    data = _parse(text)
    kind = _type_of(data)
    if size > MAX_CONTROL_BYTES and kind != "image":
        raise _too_large(MAX_CONTROL_BYTES)
    model = MESSAGES.get(kind)
    if model is None:
        raise ProtocolError(
            ErrorCode.TYPE_UNKNOWN,
            f"This server knows no such message; it knows {', '.join(MESSAGES)}.",
            "type",
        )
    if kind == "session.start":
        _check_version_and_purpose(data)
    known, unknown = _split(model, data)
    try:
        return cast(ClientMessage, model.model_validate(known)), unknown
    except ValidationError as error:
        raise _refusal(kind, error) from None


def decode_event(text: str) -> ServerEvent | UnknownEvent:
    """What the server sent. An event of an unknown type comes as `UnknownEvent`.

    Unknown fields are left out. Raises ProtocolError where the text is no event at all.
    """
    data = _parse(text)
    model = EVENTS.get(_type_of(data), UnknownEvent)
    known, _ = _split(model, data)
    try:
        return cast(ServerEvent | UnknownEvent, model.model_validate(known))
    except ValidationError as error:
        raise _refusal("event", error) from None


def _invalid(cause: str, param: str | None = None) -> ProtocolError:
    return ProtocolError(ErrorCode.MESSAGE_INVALID, cause, param)


def _too_large(limit: int) -> ProtocolError:
    return ProtocolError(ErrorCode.MESSAGE_TOO_LARGE, f"The message is over {limit} bytes.")


def _checked_size(text: str) -> int:
    size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_MESSAGE_BYTES:
        raise _too_large(MAX_MESSAGE_BYTES)
    # Only an image may be longer than a control message. It is one long string with few commas,
    # so that a megabyte of small values is refused before it is parsed.
    if size > MAX_CONTROL_BYTES and text.count(",") > _MAX_IMAGE_COMMAS:
        raise _too_large(MAX_CONTROL_BYTES)
    return size


def _check_depth(text: str) -> None:
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(text):
        token = text[match.start()]
        if token in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise _invalid(f"The message nests deeper than {MAX_DEPTH} levels.")
        elif token in "]}":
            depth -= 1


def _parse(text: str) -> dict[str, Any]:
    _check_depth(text)
    try:
        data = _DECODER.decode(text)
    except ValueError:
        raise _invalid("The message is not JSON.") from None
    if not isinstance(data, dict):
        raise _invalid("The message is not a JSON object.")
    _check_strings(data)
    return data


def _check_strings(value: object) -> None:
    if isinstance(value, str):
        if "\0" in value:
            raise _invalid("A text of the message holds the character NUL.")
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            raise _invalid("A text of the message holds half of a surrogate pair.")
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_strings(key)
            _check_strings(item)
    elif isinstance(value, list):
        for item in value:
            _check_strings(item)


def _integer(digits: str) -> int:
    if len(digits) > 20 or not -(2**63) <= (number := int(digits)) < 2**63:
        raise _invalid("A number of the message does not fit into 64 bits.")
    return number


def _float(digits: str) -> float:
    if not math.isfinite(number := float(digits)):
        raise _invalid("A number of the message is too large for a double.")
    return number


def _constant(name: str) -> NoReturn:
    raise _invalid(f"{name} is not JSON.")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _invalid("A field appears twice in one object.", _shown(twice))
    return data


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant
)


def _type_of(data: dict[str, Any]) -> str:
    kind = data.get("type")
    if not isinstance(kind, str):
        raise _invalid("The message has no `type`, or it is not a text.", "type")
    return kind


def _shown(name: str) -> str | None:
    """A field's name as it may stand in an answer or a log line; None where it may not."""
    return name if name.isprintable() and len(name) <= _MAX_SHOWN else None


def _check_version_and_purpose(data: dict[str, Any]) -> None:
    """First of all: a later version may mean other things by the other fields."""
    version = data.get("protocol_version", PROTOCOL_VERSION)
    if type(version) is int and version != PROTOCOL_VERSION:
        raise ProtocolError(
            ErrorCode.PROTOCOL_UNSUPPORTED,
            "The server does not speak the protocol version asked for.",
            "protocol_version",
            message_type="session.start",
        )
    purpose = data.get("purpose")
    if isinstance(purpose, str):
        words = "_".join(re.findall(r"[a-z]+", purpose[:_MAX_SHOWN].lower()))
        if words in set(ProhibitedPurpose):
            raise ProtocolError(
                ErrorCode.PURPOSE_PROHIBITED,
                "The server does not estimate emotions for this purpose.",
                "purpose",
                message_type="session.start",
            )


def _split(
    model: type[BaseModel], data: dict[str, Any], prefix: str = ""
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The fields that the model knows, and the dotted names of the others."""
    known: dict[str, Any] = {}
    unknown: list[str] = []
    for name, value in data.items():
        field = model.model_fields.get(name)
        if field is None:
            unknown.append(prefix + (_shown(name) or "?"))
            continue
        part = field.annotation
        if isinstance(value, dict) and isinstance(part, type) and issubclass(part, BaseModel):
            value, more = _split(part, value, f"{prefix}{name}.")
            unknown += more
        known[name] = value
    return known, tuple(unknown)


def _refusal(kind: str, error: ValidationError) -> ProtocolError:
    """The first fault that the model found, as an error with the field's dotted name."""
    fault = error.errors(include_url=False)[0]
    where = tuple(str(step) for step in fault["loc"])
    param = ".".join(where) or None
    code = ErrorCode.CONFIG_INVALID if kind == "session.start" else ErrorCode.MESSAGE_INVALID
    if code is ErrorCode.CONFIG_INVALID and where[:1] == ("audio",) and len(where) == 2:
        expected = str if where[1] == "encoding" else int
        if type(fault["input"]) is expected:
            code = ErrorCode.AUDIO_FORMAT_UNSUPPORTED
    elif isinstance(fault["input"], str):
        if kind == "utterance.text" and param == "text":
            code = ErrorCode.TEXT_TOO_LONG
        elif kind == "image" and param == "jpeg":
            code = ErrorCode.IMAGE_INVALID
    reason = fault["msg"].removeprefix("Value error, ")
    cause = f"{param}: {reason}." if param else f"{reason}."
    return ProtocolError(code, cause, param, message_type=kind)
