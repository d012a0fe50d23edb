"""What the server answers to: the stream, files, health, models, metrics."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from fastapi import APIRouter, Depends, Request, WebSocket
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocketDisconnect, WebSocketState

from emotrace_models.profiles import describe
from emotrace_models.registry import name_of
from emotrace_protocol.errors import ErrorCode, ProtocolError
from emotrace_service.analysis import analyze, open_analysis
from emotrace_service.answers import (
    ANALYZED,
    FORM,
    Alive,
    Readiness,
    ServedModels,
    TicketIssued,
    refusals,
)
from emotrace_service.auditing import AuditEvent, Entry
from emotrace_service.endings import NORMAL
from emotrace_service.errors import error_body, http_status
from emotrace_service.identity import Caller, bearer, in_query
from emotrace_service.listening import SocketClosed
from emotrace_service.metrics import FORBIDDEN
from emotrace_service.opening import bundle_info, label_sets
from emotrace_service.origins import is_allowed
from emotrace_service.progress import ProgressResponse, wants_progress
from emotrace_service.serving import Serving
from emotrace_service.session import Session
from emotrace_service.uploads import read_form

ORIGIN_FORBIDDEN = (
    "Pages of this origin may not connect. Allow it with EMOTRACE_ORIGINS='[\"https://...\"]'."
)

router = APIRouter()


class OriginForbidden(Exception):
    """A web page of a foreign origin."""


def serving_of(connection: HTTPConnection) -> Serving:
    serving: Serving = connection.app.state.serving
    return serving


def check_origin(connection: HTTPConnection) -> None:
    """Raises OriginForbidden."""
    headers = connection.headers
    settings = serving_of(connection).settings
    if not is_allowed(headers.get("origin"), headers.get("host"), settings):
        raise OriginForbidden


async def caller_of(
    connection: HTTPConnection, *, asked: bool = True, by_key: bool = False
) -> Caller | None:
    """By whose key or ticket in the header `Authorization` the request comes; None: nobody is
    asked, or (asked: False) will be asked later. by_key: a ticket does not do.

    Raises ProtocolError.
    """
    if in_query(connection.query_params.keys()):
        raise ProtocolError(ErrorCode.TOKEN_IN_QUERY, "The address has a secret in it.")
    secret = bearer(connection.headers.get("authorization"))
    if secret is None and not asked:
        return None
    return await serving_of(connection).door.caller(secret, by_key=by_key)


def check_subprotocols(websocket: WebSocket) -> None:
    """Raises ProtocolError. A browser would fail a connection whose subprotocol is not chosen, and
    not say why."""
    if websocket.scope["subprotocols"]:
        raise ProtocolError(
            ErrorCode.PROTOCOL_UNSUPPORTED, "/v1/stream has no subprotocols: offer none."
        )


class StarletteSocket:
    """A websocket of the web framework, as a session wants it."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket

    async def receive(self) -> str | bytes:
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise SocketClosed(said_so=message.get("code") == NORMAL)
        text: str | None = message.get("text")
        data: bytes = message.get("bytes") or b""
        return data if text is None else text

    async def send(self, text: str) -> None:
        try:
            await self._websocket.send_text(text)
        except (WebSocketDisconnect, RuntimeError) as error:
            raise SocketClosed from error

    async def close(self, code: int) -> None:
        if self._websocket.client_state is WebSocketState.CONNECTED:
            try:
                await self._websocket.close(code)
            except (WebSocketDisconnect, RuntimeError) as error:
                raise SocketClosed from error


@router.websocket("/v1/stream")
async def stream(websocket: WebSocket) -> None:
    """A live dialogue (docs/protocol)."""
    try:
        check_origin(websocket)
    except OriginForbidden:
        await websocket.send_denial_response(forbidden(websocket))
        return
    try:
        check_subprotocols(websocket)
        caller = await caller_of(websocket, asked=False)
    except ProtocolError as error:
        await websocket.send_denial_response(refused(websocket, error))
        return
    await websocket.accept()
    await Session(StarletteSocket(websocket), serving_of(websocket), caller).run()


@router.post(
    "/v1/tickets",
    summary="Give a browser access to one session",
    dependencies=[Depends(check_origin)],
    response_model=TicketIssued,
    response_description="It serves once, within a minute",
    responses=refusals(400, 401, 403, 422),
)
async def issue_ticket(request: Request) -> dict[str, Any]:
    """A ticket that lets in once, within a minute: `token` of session.start. Ask for it with a key,
    from a server of yours; the key itself never goes to a browser."""
    caller = await caller_of(request, by_key=True)
    if caller is None:
        raise ProtocolError(
            ErrorCode.CONFIG_INVALID, "This server is open: sessions need no ticket."
        )
    ticket = serving_of(request).door.ticket(caller)
    return {"ticket": ticket.value, "expires_at": ticket.expires_at}


@router.post(
    "/v1/audio/analyze",
    summary="Understand a recorded dialogue",
    dependencies=[Depends(check_origin)],
    responses={200: ANALYZED, **refusals(400, 401, 403, 413, 415, 422, 503)},
    openapi_extra={"requestBody": FORM},
)
async def analyze_file(request: Request) -> Response:
    """WAV, FLAC or Ogg, one channel a speaker. The numbers are those of a live session with the
    same samples. With `Accept: text/event-stream` the answer is a stream of server-sent events:
    `progress`, each event as it comes, at last `result` (what the JSON answer would be) or `error`.
    """
    serving = serving_of(request)
    caller = await caller_of(request)
    with ExitStack() as admitted:
        admitted.enter_context(serving.door.entered(caller))
        admitted.enter_context(serving.admitted())
        data, fields = await read_form(request, serving.settings.max_upload_bytes)
        start, words = fields.get("start", "{}"), fields.get("texts", "[]")
        gone = request.is_disconnected
        if not wants_progress(request.headers.get("accept")):
            return JSONResponse(await analyze(serving, data, start, words, gone, caller))
        analysis = await open_analysis(serving, data, start, words, caller)
        admitted.callback(analysis.close)
        return ProgressResponse(serving, analysis, gone, admitted.pop_all())


@router.get(
    "/healthz",
    summary="Is the process alive?",
    response_model=Alive,
    response_description="It is",
)
async def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get(
    "/readyz",
    summary="Can sessions begin?",
    response_model=Readiness,
    response_description="They can",
    responses={503: {"model": Readiness, "description": "Not yet, or not any more"}},
)
async def readyz(request: Request) -> Response:
    """Whether sessions can begin, and which modalities they have."""
    serving = serving_of(request)
    body = {
        "ready": serving.receives,
        "reason": None if serving.receives else _why_not(serving),
        "bundle": serving.bundle.name,
        "backend": serving.settings.backend,
        "modalities": [status.model_dump() for status in serving.modalities()],
    }
    return JSONResponse(body, status_code=200 if serving.receives else 503)


def _why_not(serving: Serving) -> str:
    if serving.ready:
        return "Memory runs out, and another server has room."
    return serving.fault or "The models are warming up."


@router.get(
    "/v1/models",
    summary="Which bundles are there?",
    response_model=ServedModels,
    response_description="All of them, and which one is the default",
)
async def models(request: Request) -> dict[str, Any]:
    """The bundles that sessions may ask for."""
    serving = serving_of(request)
    return {
        "default": serving.bundle.name,
        "models": [
            {
                **bundle_info(bundle).model_dump(mode="json"),
                "sha256": bundle.digest,
                "labels": bundle.labels.names,
                "label_sets": label_sets(bundle),
                "model": name_of(type(bundle.fusion)),
                "modalities": [modality.value for modality in bundle.fusion.modalities],
                "requires": [modality.value for modality in bundle.requires],
                "numerics": dict(describe(bundle)),
                "card": bundle.card,
            }
            for bundle in serving.bundles.values()
        ],
        "open": serving.door.open,
    }


@router.get(
    "/metrics",
    summary="How does the server do?",
    response_class=PlainTextResponse,
    response_description="Counters, gauges and histograms",
)
async def metrics(request: Request) -> Response:
    """Prometheus' text format."""
    serving = serving_of(request)
    return PlainTextResponse(
        serving.metrics.page(serving.clock()),
        media_type="text/plain; version=0.0.4; charset=utf-8",
    )


async def answer_protocol_error(request: Request, error: Exception) -> Response:
    """Over HTTP an error is a status and the fields of the `error` event."""
    assert isinstance(error, ProtocolError)
    return refused(request, error)


async def answer_forbidden(request: Request, error: Exception) -> Response:
    return forbidden(request)


def refused(connection: HTTPConnection, error: ProtocolError) -> Response:
    """The answer; what it says is counted and noted."""
    _note_refusal(connection, error.code.value)
    headers = {}
    if error.retry_after_ms is not None:
        headers["Retry-After"] = str(-(-error.retry_after_ms // 1_000))
    return JSONResponse(error_body(error), status_code=http_status(error.code), headers=headers)


def forbidden(connection: HTTPConnection) -> Response:
    """The same for a page of a foreign origin."""
    _note_refusal(connection, FORBIDDEN)
    return JSONResponse(
        {"error": {"code": FORBIDDEN, "message": ORIGIN_FORBIDDEN}}, status_code=403
    )


def _note_refusal(connection: HTTPConnection, code: str) -> None:
    serving = serving_of(connection)
    serving.metrics.refusals.labels(code).inc()
    serving.observers.audit.record(Entry(AuditEvent.REFUSED, code=code))
