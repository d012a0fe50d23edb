"""Logs: one event a line on stderr. Never audio, words, labels or probabilities.

What is logged is named field by field, by this package. Of a library's line only the template is
kept, without what is filled in, and exceptions are reduced to their type and the place where they
arose: the rest may quote a client. Of each kind of line ten a second are written; more are counted.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TextIO

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

from emotrace_service.errors import place
from emotrace_service.rationing import Rations

Logger = structlog.stdlib.BoundLogger

TRACEBACK = "Traceback (most recent call last):"
LEFT_OUT = "lines left out"


def logger() -> Logger:
    log: Logger = structlog.stdlib.get_logger("emotrace")
    return log


def configure(log_format: str) -> None:
    """Set up logging. log_format: `console`, `json`, or `auto`, by whether stderr is a terminal."""
    to_terminal = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    chain: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        without_exception_text,
    ]
    structlog.configure(
        processors=[*chain, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    # JSON escapes what would break a line, or a terminal, by itself.
    renderer: list[Processor] = (
        [escaped, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
        if to_terminal
        else [structlog.processors.JSONRenderer()]
    )
    handler = RationedHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*chain, without_quotations],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
            use_get_message=False,  # it would fill in the arguments
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("emotrace").setLevel(logging.INFO)


def warn_failed(log: Logger, what: str, error: Exception) -> None:
    """A model failed: what kind of error, and where; its text may quote what somebody said."""
    cause = error.__cause__ or error
    log.warning(what, error=type(cause).__name__, place=place(cause))


def catch_stray_exceptions() -> None:
    """Exceptions that Python itself would print, with their text, become lines of the log."""

    def in_thread(args: threading.ExceptHookArgs) -> None:
        _tell_stray("a thread broke", args.exc_value)

    def ignored(args: sys.UnraisableHookArgs) -> None:
        _tell_stray("an exception was ignored", args.exc_value)

    threading.excepthook = in_thread
    sys.unraisablehook = ignored


def _tell_stray(event: str, error: BaseException | None) -> None:
    if error is not None:
        logger().error(event, error=type(error).__name__, place=place(error))


class RationedHandler(logging.StreamHandler[TextIO]):
    """Writes so many lines of each kind a second. What was left out is told with the next line
    after a second, or at the end."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream)
        self._clock = clock
        self._rations: Rations[str] = Rations()

    def emit(self, record: logging.LogRecord) -> None:
        now = self._clock()
        self._tell(self._rations.left_out(now))
        if self._rations.take(_kind(record), now):
            super().emit(record)

    def close(self) -> None:
        self.acquire()
        try:
            self._tell(self._rations.rest())
        finally:
            self.release()
        super().close()

    def _tell(self, counts: dict[str, int]) -> None:
        if counts:
            told = logging.LogRecord("emotrace", logging.WARNING, "", 0, LEFT_OUT, None, None)
            told.left_out = counts
            super().emit(told)


def _kind(record: logging.LogRecord) -> str:
    """One of few: what one of our lines says, or the place in a library that a line comes from."""
    told: Any = record.msg
    if isinstance(told, dict):
        code = told.get("code")
        return f"{told.get('event')}" if code is None else f"{told.get('event')} ({code})"
    return f"{record.name} {record.filename}:{record.lineno}"


def without_exception_text(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Replaces an exception by its type and place."""
    info: Any = event.pop("exc_info", None)
    error = sys.exc_info()[1] if info is True else info
    if isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        event["error"] = type(error).__name__
        event["place"] = place(error)
    return event


def without_quotations(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Of a library's line: its logger, and the first line of its template. Asyncio's others show
    objects, and so their text."""
    record: logging.LogRecord = event["_record"]
    first, _, rest = str(event["event"]).partition("\n")
    if first == TRACEBACK:  # how a web framework tells that it cannot start
        last = rest.rstrip().rpartition("\n")[2]
        event["error"] = last.partition(":")[0]
    event["event"] = first
    event["logger"] = record.name
    event.pop("stack_info", None)
    if counts := getattr(record, "left_out", None):
        event["counts"] = counts
    return event


def escaped(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Characters that a terminal would obey, or that look like others, are written as codes."""
    return {
        name: _escaped(value) if isinstance(value, str) else value for name, value in event.items()
    }


def _escaped(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )
