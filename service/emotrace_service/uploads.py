"""Form uploads, held in memory and bounded while they arrive. Nothing is written to disk."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import ClassVar

from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from emotrace_protocol.errors import ErrorCode, ProtocolError
from emotrace_service.errors import Advised

HOW = "Send a form with the field `file`: curl -F file=@dialogue.wav URL."
FIELDS = ("file", "start", "texts")


class _InMemory(MultiPartParser):
    """Starlette's parser, which would put files of more than a megabyte on disk."""

    spool_max_size: ClassVar[int] = 1 << 62  # type: ignore[misc]


async def read_form(request: Request, limit: int) -> tuple[bytes, dict[str, str]]:
    """The bytes of field `file`, and the other fields. Raises ProtocolError."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise ProtocolError(ErrorCode.CONFIG_INVALID, HOW, "file")
    too_large = Advised(
        ErrorCode.MESSAGE_TOO_LARGE,
        f"The upload is over {limit} bytes, which this server takes (EMOTRACE_MAX_UPLOAD_BYTES). "
        "Send FLAC, cut the file up, or stream it with `emotrace stream FILE`.",
    )
    chunks = _bounded(request, limit, too_large)
    parser = _InMemory(request.headers, chunks, max_files=1, max_fields=4)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise ProtocolError(
            ErrorCode.CONFIG_INVALID, f"The form cannot be read: {error.message}"
        ) from None
    try:
        return await _sort(form)
    finally:
        await form.close()


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body of a request. Raises ProtocolError where it is longer."""
    too_large = Advised(ErrorCode.MESSAGE_TOO_LARGE, f"The body is over {limit} bytes.")
    return b"".join([chunk async for chunk in _bounded(request, limit, too_large)])


async def _sort(form: FormData) -> tuple[bytes, dict[str, str]]:
    fields: dict[str, str] = {}
    file: bytes | None = None
    for name, value in form.multi_items():
        if name not in FIELDS:
            cause = f"The form has a field that is none of {', '.join(FIELDS)}."
            raise ProtocolError(ErrorCode.CONFIG_INVALID, cause)
        if isinstance(value, UploadFile) and name == "file":
            file = await value.read()
        elif isinstance(value, str) and name != "file":
            fields[name] = value
        else:
            cause = f"The form's field {name} is a text where a file belongs, or the reverse."
            raise ProtocolError(ErrorCode.CONFIG_INVALID, cause, name)
    if not file:
        raise ProtocolError(ErrorCode.CONFIG_INVALID, HOW, "file")
    return file, fields


async def _bounded(
    request: Request, limit: int, too_large: ProtocolError
) -> AsyncGenerator[bytes, None]:
    taken = 0
    async for chunk in request.stream():
        taken += len(chunk)
        if taken > limit:
            raise too_large
        yield chunk
