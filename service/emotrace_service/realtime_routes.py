"""The endpoints of OpenAI's Realtime protocol: its websocket, and secrets for browsers."""

from __future__ import annotations

import time
from dataclasses import replace
from secrets import token_hex
from typing import Any, Literal

from fastapi import APIRouter, Depends, Request, WebSocket
from fastapi.responses import JSONResponse
from pydantic import Field, ValidationError
from starlette.requests import HTTPConnection

from emotrace_protocol.errors import ErrorCode, ProtocolError
from emotrace_service.answers import ClientSecret, json_body, refusals
from emotrace_service.client_secrets import (
    LEAST_S,
    MOST_S,
    PREFIX,
    USUAL_S,
    ClientSecrets,
    Issued,
    SecretRefused,
)
from emotrace_service.errors import Advised
from emotrace_service.realtime import RealtimeSocket, plan_realtime, session_object
from emotrace_service.realtime_config import (
    Own,
    Part,
    SessionConfig,
    left_out,
    merged,
    without_hints,
)
from emotrace_service.realtime_messages import refusal
from emotrace_service.routes import (
    OriginForbidden,
    StarletteSocket,
    caller_of,
    check_origin,
    forbidden,
    refused,
    serving_of,
)
from emotrace_service.uploads import read_body

MAX_BODY_BYTES = 64 * 1024
PROTOCOL = "realtime"
KEY_PROTOCOL = "openai-insecure-api-key."
BETA_PROTOCOL = "openai-beta.realtime-v1"
BETA_HEADER = "realtime=v1"
OPENAIS_MODELS = ("gpt-", "whisper-")
UNAUTHENTICATED = 4401

router = APIRouter()


class ExpiresAfter(Part):
    anchor: Literal["created_at"] = "created_at"
    seconds: int = Field(default=USUAL_S, ge=LEAST_S, le=MOST_S)


class SecretRequest(Part):
    expires_after: ExpiresAfter = ExpiresAfter()
    session: SessionConfig = SessionConfig()


def secrets_of(connection: HTTPConnection) -> ClientSecrets:
    held: ClientSecrets = connection.app.state.client_secrets
    return held


@router.post(
    "/v1/realtime/client_secrets",
    summary="Give a browser access to one Realtime session",
    dependencies=[Depends(check_origin)],
    response_model=ClientSecret,
    response_description="The secret, which is told this once, and what it opens",
    responses=refusals(400, 401, 403, 413, 422, 503),
    openapi_extra={"requestBody": json_body(SecretRequest)},
)
async def create_client_secret(request: Request) -> dict[str, Any]:
    """A secret that opens one session at `/v1/realtime`, configured as here, within
    `expires_after`. It goes where a key would go, and a page may hold it.
    """
    caller = await caller_of(request, by_key=True)
    body = await read_body(request, MAX_BODY_BYTES)
    try:
        wanted = SecretRequest.model_validate_json(body or b"{}")
    except ValidationError as error:
        raise refusal(error) from None
    serving = serving_of(request)
    plan = plan_realtime(wanted.session, serving)
    config = without_hints(wanted.session)
    seconds = wanted.expires_after.seconds
    unused = tuple(left_out(wanted.session))
    value, issued = secrets_of(request).issue(config, unused, seconds, serving.clock(), caller)
    return {
        "value": value,
        "expires_at": int(time.time()) + seconds,
        "session": session_object(issued.session, config, plan, beta=False),
    }


@router.websocket("/v1/realtime")
async def realtime(websocket: WebSocket) -> None:
    """A live dialogue of one speaker in OpenAI's Realtime protocol (docs/compatibility.md)."""
    try:
        check_origin(websocket)
        config, unused = _asked(websocket)
    except OriginForbidden:
        await websocket.send_denial_response(forbidden(websocket))
        return
    except ProtocolError as error:
        await websocket.send_denial_response(refused(websocket, error))
        return
    offered = websocket.scope["subprotocols"]
    chosen = PROTOCOL if PROTOCOL in offered else None
    secret, by_header = _presented(websocket)
    if secret is None:
        try:
            caller = await caller_of(websocket)
        except ProtocolError as error:
            await websocket.send_denial_response(refused(websocket, error))
            return
        issued = Issued(f"sess_{token_hex(8)}", config, (), 0.0, caller)
    else:
        try:
            issued = secrets_of(websocket).redeem(secret, serving_of(websocket).clock())
        except SecretRefused as error:
            await _turn_away(websocket, error, None if by_header else chosen)
            return
        issued = replace(issued, config=merged(config, issued.config))
    issued = replace(issued, left_out=(*unused, *issued.left_out))
    beta = BETA_PROTOCOL in offered or BETA_HEADER in websocket.headers.get("openai-beta", "")
    await websocket.accept(chosen)
    client = RealtimeSocket(StarletteSocket(websocket), serving_of(websocket), issued, beta=beta)
    await client.run()
    if client.full and secret is not None:
        secrets_of(websocket).give_back(secret)


def _asked(connection: HTTPConnection) -> tuple[SessionConfig, tuple[tuple[str, str], ...]]:
    """What the address asks for, and what of it has no effect. Raises ProtocolError."""
    query = connection.query_params
    if query.get("intent", "transcription") != "transcription":
        raise Advised(
            ErrorCode.CONFIG_INVALID,
            "This server only transcribes: intent=transcription.",
            "intent",
        )
    if "call_id" in query:
        raise Advised(ErrorCode.CONFIG_INVALID, "This server takes no calls.", "call_id")
    unused = tuple(
        (name, "It means nothing here.") for name in query if name not in ("intent", "model")
    )
    model = query.get("model")
    serving = serving_of(connection)
    if model is not None and model.startswith(OPENAIS_MODELS) and model not in serving.bundles:
        why = f"Estimates are made by the bundle {serving.bundle.name!r}."
        return SessionConfig(), (*unused, ("model", why))
    config = SessionConfig(emotrace=Own(bundle=model))
    plan_realtime(config, serving)
    return config, unused


def _presented(connection: HTTPConnection) -> tuple[str | None, bool]:
    """The client secret that a connection came with, and whether it stood in a header of its own.

    What is no client secret may be a key.
    """
    scheme, _, value = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and value.startswith(PREFIX):
        return value, True
    for offered in connection.scope["subprotocols"]:
        value = offered.removeprefix(KEY_PROTOCOL)
        if value != offered and value.startswith(PREFIX):
            return value, False
    return None, False


async def _turn_away(websocket: WebSocket, error: SecretRefused, chosen: str | None) -> None:
    """chosen: the subprotocol of a page, which is told nothing unless the connection opens."""
    body = {
        "error": {
            "type": "invalid_request_error",
            "code": error.code,
            "message": str(error),
            "param": None,
        }
    }
    if chosen is None:
        await websocket.send_denial_response(JSONResponse(body, status_code=401))
        return
    await websocket.accept(chosen)
    await websocket.send_json({"type": "error", "event_id": f"event_{token_hex(6)}", **body})
    await websocket.close(UNAUTHENTICATED)
