"""A file's analysis as server-sent events: how far it is, every event as it comes, the report.

event: progress   {"audio_ms": ..., "total_ms": ..., "utterances": ...}
event: <type of an event of the protocol>
event: result     what the same request answers without progress
event: error      instead of the result, with `fatal` true: what went wrong, and what to do
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import ExitStack
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from emotrace_protocol.codec import encode
from emotrace_protocol.errors import ErrorCode, ProtocolError
from emotrace_service.analysis import Analysis, report
from emotrace_service.errors import place
from emotrace_service.serving import Serving

MEDIA_TYPE = "text/event-stream"
STEPS = 100  # of progress, in a long file
LEAST_STEP_MS = 1_000


def wants_progress(accept: str | None) -> bool:
    """accept: the request's header."""
    kinds = (part.partition(";")[0].strip() for part in (accept or "").split(","))
    return MEDIA_TYPE in kinds


class ProgressResponse(StreamingResponse):
    """admitted: the place that the analysis takes in the server, which is left at the end."""

    media_type = MEDIA_TYPE

    def __init__(
        self,
        serving: Serving,
        analysis: Analysis,
        gone: Callable[[], Awaitable[bool]],
        admitted: ExitStack,
    ) -> None:
        self._told = tell(serving, analysis, gone)
        self._admitted = admitted
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # proxies pass it on
        super().__init__(self._told, headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._admitted:
            try:
                await super().__call__(scope, receive, send)
            finally:
                await self._told.aclose()  # where the client left between two steps


async def tell(
    serving: Serving, analysis: Analysis, gone: Callable[[], Awaitable[bool]]
) -> AsyncGenerator[str]:
    """The stream of an analysis."""
    told, due_ms = 0, 0
    step_ms = max(LEAST_STEP_MS, analysis.total_ms // STEPS)
    try:
        async for _ in analysis.steps(gone):
            for event in analysis.said[told:]:
                yield _line(event.type, encode(event))
            told = len(analysis.said)
            if analysis.audio_ms >= due_ms:
                due_ms = analysis.audio_ms + step_ms
                yield _line("progress", _progress(analysis))
        for event in analysis.said[told:]:
            yield _line(event.type, encode(event))
        yield _line("progress", _progress(analysis))
        yield _line("result", json.dumps(report(analysis.said), ensure_ascii=False))
    except ProtocolError as error:
        serving.metrics.refusals.labels(error.code.value).inc()
        yield _line("error", _fatal(error))
    except Exception as fault:
        serving.log.error("analysis failed", error=type(fault).__name__, place=place(fault))
        yield _line("error", _fatal(ProtocolError(ErrorCode.INTERNAL, "The analysis failed.")))


def _progress(analysis: Analysis) -> str:
    fields = {
        "audio_ms": analysis.audio_ms,
        "total_ms": analysis.total_ms,
        "utterances": analysis.utterances,
    }
    return json.dumps(fields)


def _fatal(error: ProtocolError) -> str:
    fields: dict[str, Any] = {**error.fields(), "fatal": True}
    return json.dumps(fields)


def _line(event: str, data: str) -> str:
    return f"event: {event}\ndata: {data}\n\n"
