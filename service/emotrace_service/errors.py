"""Errors of the service's own, and how protocol errors look over HTTP.

StartRefused            the server does not start; says why and what to do (exit code 78)
EngineError             an estimate that could not be made
  EngineClosed          ... because the server stops
  EngineOverloaded      ... because too much waits already
  UtteranceIncomplete   ... because the utterance lacks what the bundle needs
ProtocolError           (emotrace_protocol) what a client did; an `error` event or an HTTP status
  Advised               ... where the cure is another than that of the code
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence

from emotrace_protocol.errors import ErrorCode, ProtocolError

EXIT_CONFIG = 78  # EX_CONFIG of sysexits.h: whoever restarts the server need not try again

_HTTP_STATUS = {
    ErrorCode.MESSAGE_TOO_LARGE: 413,
    ErrorCode.CAPACITY: 503,
    ErrorCode.GOING_AWAY: 503,
    ErrorCode.INTERNAL: 500,
    ErrorCode.INFERENCE_FAILED: 500,
}


class StartRefused(Exception):
    """Something that the server needs is missing or wrong. The message names it and the cure."""


class EngineError(RuntimeError):
    """The engine has no result for this item. The cause is its `__cause__`."""


class EngineClosed(EngineError):
    """The engine has been closed and computes nothing more."""


class EngineOverloaded(EngineError):
    """Too much waits to be computed already; the item was not taken."""


class UtteranceIncomplete(EngineError):
    """The utterance has no words, say, and the bundle needs them. The message says what."""


class Advised(ProtocolError):
    """The cause says what to do about it: the cure of the code is for clients of /v1/stream."""

    @property
    def message(self) -> str:
        return self.cause


def http_status(code: ErrorCode) -> int:
    """The HTTP status of an error: the close code less 4000 where it has one of those."""
    if code in _HTTP_STATUS:
        return _HTTP_STATUS[code]
    close = code.kind.close
    return close - 4000 if close is not None and close >= 4000 else 400


def error_body(error: ProtocolError) -> dict[str, object]:
    """The body of an HTTP refusal: the fields of the `error` event under one key."""
    return {"error": error.fields()}


def place(error: BaseException) -> str:
    """Where an error arose, `file:line function` from the outside in.

    Instead of a traceback in logs: an exception's text may quote what somebody said.
    """
    return placed(traceback.extract_tb(error.__traceback__))


def placed(stack: Sequence[traceback.FrameSummary]) -> str:
    """The innermost frames of a stack, `file:line function`."""
    return " > ".join(
        f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in stack[-6:]
    )
