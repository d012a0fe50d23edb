"""What the HTTP endpoints take and answer, in the words of docs/openapi.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field

from emotrace_protocol.estimates import Affect, ModalityName, Probability
from emotrace_protocol.events import (
    AnyDoubt,
    BundleInfo,
    ModalityStatus,
    ServerEvent,
)


class Alive(BaseModel):
    status: str


class Readiness(BaseModel):
    ready: bool
    reason: str | None = Field(description="why it is not ready")
    bundle: str
    backend: str
    modalities: list[ModalityStatus]


class ServedModel(BundleInfo):
    """One bundle."""

    sha256: str = Field(description="of its config.json, which holds those of its other files")
    labels: list[str]
    label_sets: dict[str, list[str]] = Field(
        description="all that a session may ask for, by scheme"
    )
    model: str = Field(description="its fusion model")
    modalities: list[ModalityName]
    requires: list[ModalityName] = Field(description="what it cannot do without")
    numerics: dict[str, Any]
    card: str = Field(description="Markdown")


class ServedModels(BaseModel):
    default: str
    models: list[ServedModel]
    open: bool = Field(description="false: a session needs a key or a ticket")


class AnalyzedUtterance(BaseModel):
    """`label` is the last word on it; null where there is no estimate."""

    utterance: int
    speaker: str
    start_ms: int
    end_ms: int
    text: str | None
    label: str | None
    posterior: dict[str, Probability] | None
    abstained: bool | None
    doubts: list[AnyDoubt]
    affect: Affect | None
    rejected: str | None = Field(description="why it is no speech")


class Report(BaseModel):
    """A recorded dialogue, understood."""

    bundle: BundleInfo
    labels: list[str]
    label_sets: dict[str, list[str]]
    modalities: list[ModalityStatus]
    speakers: list[str]
    notice: str
    audio_ms: int
    note: str | None = Field(description="where no speech was found")
    utterances: list[AnalyzedUtterance]
    events: list[ServerEvent] = Field(description="all that a live session would have said")


class Refusal(BaseModel):
    """The fields of the `error` event (docs/protocol.md)."""

    code: str
    message: str = Field(description="the cause, and what to do about it")
    param: str | None = Field(default=None, description="the field at fault")
    fatal: bool | None = None
    retryable: bool | None = None
    resume: bool | None = None
    retry_after_ms: int | None = None
    utterance: int | None = None


class Refused(BaseModel):
    error: Refusal


class ClientSecret(BaseModel):
    value: str = Field(description="ek_...")
    expires_at: int = Field(description="seconds since 1970")
    session: dict[str, Any] = Field(description="the configuration of the session that it opens")


class TicketIssued(BaseModel):
    ticket: str = Field(description="emt_...; `token` of session.start")
    expires_at: float = Field(description="seconds since 1970")


ANALYZED: dict[str, Any] = {
    "model": Report,
    "description": "What was understood",
    "content": {
        "text/event-stream": {
            "schema": {
                "type": "string",
                "description": "events `progress` {audio_ms, total_ms, utterances}, each event of "
                "the protocol by its type, then `result` (a Report) or `error` (a Refusal)",
            }
        }
    },
}
FORM: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {
                    "file": {
                        "type": "string",
                        "format": "binary",
                        "description": "WAV, FLAC or Ogg; one channel a speaker",
                    },
                    "start": {
                        "type": "string",
                        "contentMediaType": "application/json",
                        "description": "an object of session.start's fields, but for `audio`",
                        "examples": ['{"speakers": ["Anna", "Ben"], "labels": "common4"}'],
                    },
                    "texts": {
                        "type": "string",
                        "contentMediaType": "application/json",
                        "description": "words of utterances, as an earlier analysis counted them",
                        "examples": ['[{"utterance": 0, "text": "I got the job!"}]'],
                    },
                },
            }
        }
    },
}
_WHY = {
    400: "The body is no JSON object, has a field that is not known, or a secret is in the address",
    401: "No key was given, or one that opens nothing",
    403: "A foreign web page, or a prohibited purpose",
    413: "Too large or too long",
    415: "No sound that can be read",
    422: "A field is missing or wrong",
    503: "The server is full or stops; Retry-After says when to come again",
}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Answers of an endpoint that refuses with these statuses."""
    return {status: {"model": Refused, "description": _WHY[status]} for status in statuses}


def json_body(model: type[BaseModel]) -> dict[str, Any]:
    """A request's body, which the endpoint reads itself, within a bound."""
    schema = model.model_json_schema()
    inlined = _inlined(schema, schema.pop("$defs", {}))
    return {"content": {"application/json": {"schema": inlined}}}


def _inlined(node: Any, definitions: Mapping[str, Any]) -> Any:
    """A schema with its definitions in their places."""
    if isinstance(node, list):
        return [_inlined(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        name = node["$ref"].rpartition("/")[2]
        return _inlined(
            {**definitions[name], **{k: v for k, v in node.items() if k != "$ref"}}, definitions
        )
    return {
        key: _inlined(value, definitions) for key, value in node.items() if key != "discriminator"
    }
