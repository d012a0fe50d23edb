"""The tables of docs/protocol.md, from the models: messages, events, doubts, errors, warnings."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, TypeVar

from pydantic import BaseModel

from emotrace_protocol.errors import (
    DOUBT_MEANINGS,
    WARNING_MEANINGS,
    DoubtCode,
    ErrorCode,
    WarningCode,
)
from emotrace_protocol.events import EVENTS, Event
from emotrace_protocol.messages import MESSAGES

C = TypeVar("C", bound=StrEnum)


def fill(page: str, messages_schema: dict[str, Any]) -> str:
    """The page with each table between its markers. Raises ValueError if a marker is missing."""
    tables = {
        "messages": _messages(messages_schema["$defs"]),
        "events": _events(),
        "doubts": _meanings(DoubtCode, DOUBT_MEANINGS),
        "errors": _errors(),
        "warnings": _meanings(WarningCode, WARNING_MEANINGS),
    }
    for name, table in tables.items():
        begin, end = f"<!-- generated: {name} -->", f"<!-- end: {name} -->"
        if page.count(begin) != 1 or page.count(end) != 1:
            raise ValueError(f"the page needs each of the markers {begin} and {end} once")
        before, _, rest = page.partition(begin)
        _, _, after = rest.partition(end)
        page = f"{before}{begin}\n{table}\n{end}{after}"
    return page


def _messages(definitions: dict[str, Any]) -> str:
    rows = []
    for name, model in MESSAGES.items():
        rows.append((f"**`{name}`**", "", "", _summary(model)))
        rows += _fields(model.__name__, definitions, "")
    return _table(("field", "kind", "default", "meaning"), rows)


def _fields(
    name: str, definitions: dict[str, Any], prefix: str
) -> Iterable[tuple[str, str, str, str]]:
    schema = definitions[name]
    required = schema.get("required", [])
    for field, spec in schema["properties"].items():
        if field == "type":
            continue
        part = spec.get("$ref", "").rpartition("/")[2]
        if "properties" in definitions.get(part, {}):
            yield from _fields(part, definitions, f"{prefix}{field}.")
            continue
        default = "required" if field in required else f"`{json.dumps(spec.get('default'))}`"
        meaning = spec.get("description", "")
        yield f"`{prefix}{field}`", _kind(spec, definitions), default, meaning


def _kind(spec: dict[str, Any], definitions: dict[str, Any]) -> str:
    """A JSON Schema in a few words: `integer, 1 to 8`."""
    if "$ref" in spec:
        return _kind(definitions[spec["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in spec:
        return " or ".join(_kind(option, definitions) for option in spec["anyOf"])
    if "enum" in spec:
        return ", ".join(f"`{value}`" for value in spec["enum"])
    kind = str(spec["type"])
    if kind == "array":
        return f"array of {_kind(spec['items'], definitions)}"
    low = spec.get("minimum", spec.get("exclusiveMinimum"))
    high = spec.get("maximum", spec.get("exclusiveMaximum"))
    if low is not None:
        kind += f", {low:g} to {high:g}" if high is not None else f", from {low:g}"
    if "maxLength" in spec:
        kind += f", at most {spec['maxLength']} characters"
    return kind


def _events() -> str:
    rows = []
    for name, model in EVENTS.items():
        fields = ", ".join(
            f"`{field}`" for field in model.model_fields if field not in Event.model_fields
        )
        rows.append((f"`{name}`", fields, _summary(model)))
    return _table(("event", "fields", "meaning"), rows)


def _errors() -> str:
    rows = [
        (
            f"`{code}`",
            str(code.kind.close or "stays open"),
            *("yes" if flag else "no" for flag in (code.kind.fatal, code.kind.retryable)),
            code.kind.cure,
        )
        for code in ErrorCode
    ]
    return _table(("code", "close", "fatal", "retryable", "cure"), rows)


def _meanings(codes: Iterable[C], meanings: Mapping[C, str]) -> str:
    return _table(("code", "meaning"), [(f"`{code}`", meanings[code]) for code in codes])


def _summary(model: type[BaseModel]) -> str:
    return " ".join(inspect.cleandoc(model.__doc__ or "").split("\n\n")[0].split())


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )
