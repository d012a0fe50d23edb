"""Logs: one event a line on stderr. Never audio, words, labels or probabilities.

What is logged is named field by field, by this package. Exceptions, also those of libraries, are
reduced to their type and the place where they arose, because their text may quote a client.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

from emotrace_service.errors import place

Logger = structlog.stdlib.BoundLogger


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
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if to_terminal
        else structlog.processors.JSONRenderer()
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=chain,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("emotrace").setLevel(logging.INFO)


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
