"""What the server answers to: the stream, files, health, models, metrics."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Request, WebSocket
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocketDisconnect, WebSocketState

from emotrace_models.profiles import describe
from emotrace_models.registry import name_of
from emotrace_protocol.errors import ProtocolError
from emotrace_service.analysis import analyze
from emotrace_service.errors import error_body, http_status
from emotrace_service.listening import SocketClosed
from emotrace_service.opening import bundle_info, label_sets
from emotrace_service.origins import is_allowed
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


class StarletteSocket:
    """A websocket of the web framework, as a session wants it."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket

    async def receive(self) -> str | bytes:
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise SocketClosed
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
        await websocket.send_denial_response(_forbidden())
        return
    await websocket.accept()
    await Session(StarletteSocket(websocket), serving_of(websocket)).run()


@router.post("/v1/audio/analyze", dependencies=[Depends(check_origin)])
async def analyze_file(request: Request) -> dict[str, Any]:
    """A recorded dialogue: WAV, FLAC or Ogg, one channel a speaker.

    A form with `file`; `start` (optional): a JSON object of session.start's fields but for `audio`;
    `texts` (optional): a JSON list of `{"utterance": number, "text": words}`.
    """
    serving = serving_of(request)
    with serving.admitted():
        data, fields = await read_form(request, serving.settings.max_upload_bytes)
        return await analyze(
            serving,
            data,
            fields.get("start", "{}"),
            fields.get("texts", "[]"),
            request.is_disconnected,
        )


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(request: Request) -> Response:
    """Whether sessions can begin, and which modalities they have."""
    serving = serving_of(request)
    body = {
        "ready": serving.ready,
        "reason": None if serving.ready else serving.fault or "The models are warming up.",
        "bundle": serving.bundle.name,
        "backend": serving.settings.backend,
        "modalities": [status.model_dump() for status in serving.modalities()],
    }
    return JSONResponse(body, status_code=200 if serving.ready else 503)


@router.get("/v1/models")
async def models(request: Request) -> dict[str, Any]:
    """The bundles that sessions may ask for."""
    serving = serving_of(request)
    return {
        "default": serving.bundle.name,
        "models": [
            {
                **bundle_info(bundle).model_dump(mode="json"),
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
    }


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Prometheus' text format."""
    return PlainTextResponse(
        serving_of(request).metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8"
    )


async def answer_protocol_error(request: Request, error: Exception) -> Response:
    """Over HTTP an error is a status and the fields of the `error` event."""
    assert isinstance(error, ProtocolError)
    serving_of(request).metrics.refusals.labels(error.code.value).inc()
    headers = {}
    if error.retry_after_ms is not None:
        headers["Retry-After"] = str(-(-error.retry_after_ms // 1_000))
    return JSONResponse(error_body(error), status_code=http_status(error.code), headers=headers)


async def answer_forbidden(request: Request, error: Exception) -> Response:
    return _forbidden()


def _forbidden() -> Response:
    return JSONResponse(
        {"error": {"code": "origin_forbidden", "message": ORIGIN_FORBIDDEN}}, status_code=403
    )
