"""What people may ask of the server over HTTP: the notice, and to delete a recording."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from emotrace_models.types import Modality
from emotrace_protocol.errors import ErrorCode
from emotrace_service.answers import Refused, refusals
from emotrace_service.errors import Advised
from emotrace_service.identity import bearer
from emotrace_service.notice_texts import TEXTS
from emotrace_service.privacy_notice import (
    Disclosure,
    Notice,
    accepted_language,
    accepts_text,
    known_language,
    write_notice,
)
from emotrace_service.routes import serving_of
from emotrace_service.settings import Settings

NOT_THERE = "There is no recording of that session and token; it may have been deleted already."
RETRY_AFTER_MS = 1_000

router = APIRouter()


def disclosure(settings: Settings) -> Disclosure:
    """What the operator chose."""
    return Disclosure(
        contact=settings.contact,
        recording_days=None if settings.recordings is None else settings.recordings_days,
        passed_on=settings.webhook_url is not None,
    )


@router.get(
    "/v1/notice",
    summary="What should people be told?",
    response_model=Notice,
    response_description="In the language asked for, as JSON or as text",
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **refusals(422)},
)
async def notice(
    request: Request,
    language: Annotated[str | None, Query(description="BCP 47; before Accept-Language")] = None,
    accept_language: Annotated[str, Header()] = "",
    accept: Annotated[str, Header()] = "",
) -> Response:
    """The notice for people whose voices, words or faces are processed, as it is true of this
    server; as text with `Accept: text/plain`."""
    chosen = accepted_language(accept_language) if language is None else known_language(language)
    if chosen is None:
        cause = f"There is no notice in that language. There is one in {', '.join(TEXTS)}."
        raise Advised(ErrorCode.CONFIG_INVALID, cause, "language")
    serving = serving_of(request)
    # All that any bundle uses: a client may send words where the server does not transcribe.
    processed = {one for bundle in serving.bundles.values() for one in bundle.fusion.modalities}
    told = write_notice(
        chosen,
        disclosure(serving.settings),
        modalities=[one.value for one in Modality if one in processed],
        labels=serving.bundle.labels.names,
        resume_seconds=0 if serving.store is None else serving.store.window_ms / 1_000,
    )
    headers = {"Content-Language": chosen, "Vary": "Accept, Accept-Language"}
    if accepts_text(accept):
        return PlainTextResponse(told.text(), headers=headers)
    return JSONResponse(told.model_dump(), headers=headers)


@router.delete(
    "/v1/recordings/{session}",
    summary="Delete a session's recording",
    status_code=204,
    response_description="It is gone",
    responses={404: {"model": Refused, "description": "There is none"}, **refusals(503)},
)
async def delete_recording(
    request: Request, session: str, authorization: Annotated[str, Header()] = ""
) -> Response:
    """With `Authorization: Bearer` and the token of `session.started`. When it answers, the
    recording is gone; a session that still runs goes on without."""
    recordings = serving_of(request).observers.recordings
    token = bearer(authorization)
    try:
        deleted = (
            recordings is not None and token is not None and await recordings.delete(session, token)
        )
    except TimeoutError:
        cause = "The disk does not answer."
        raise Advised(ErrorCode.CAPACITY, cause, retry_after_ms=RETRY_AFTER_MS) from None
    if not deleted:
        raise Advised(ErrorCode.SESSION_UNKNOWN, NOT_THERE)
    return Response(status_code=204)
