"""Writes what the models say of the wire: JSON Schema, AsyncAPI, tables, and TypeScript.

    python -m emotrace_protocol.schema docs/protocol            writes
    python -m emotrace_protocol.schema docs/protocol --check    exits 1 where the files differ

The folder gets `messages.schema.json`, `events.schema.json` and `asyncapi.json`; the page beside
it (`docs/protocol.md`) gets the tables between its markers. The JavaScript package of the same
checkout gets `events.d.ts` and `messages.d.ts`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from emotrace_protocol.events import EVENTS
from emotrace_protocol.messages import MESSAGES, PROTOCOL_VERSION
from emotrace_protocol.tables import fill
from emotrace_protocol.typescript import PACKAGE, event_types, message_types

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Mode = Literal["validation", "serialization"]
Schema = dict[str, Any]


def messages_schema() -> Schema:
    """JSON Schema of any client message."""
    return _union("Emotrace client message", MESSAGES, "validation")


def events_schema() -> Schema:
    """JSON Schema of any server event."""
    return _union("Emotrace server event", EVENTS, "serialization")


def asyncapi() -> Schema:
    """The AsyncAPI 3.0 document of `/v1/stream`, from the server's point of view."""
    template = "#/components/schemas/{model}"
    pairs: list[tuple[type[BaseModel], Mode]] = [(m, "validation") for m in MESSAGES.values()]
    pairs += [(e, "serialization") for e in EVENTS.values()]
    refs, definitions = models_json_schema(pairs, ref_template=template)
    messages: Schema = {
        "audio": {
            "title": "Audio",
            "summary": "A binary message: raw interleaved samples as session.start declared them.",
            "contentType": "application/octet-stream",
            "payload": {"type": "string", "format": "binary"},
        }
    }
    for name, model in (MESSAGES | EVENTS).items():
        mode: Mode = "validation" if name in MESSAGES else "serialization"
        messages[name] = {
            "title": model.__name__,
            "summary": _first_line(model),
            "contentType": "application/json",
            "payload": refs[(model, mode)],
        }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Emotrace streaming protocol",
            "version": str(PROTOCOL_VERSION),
            "description": "Audio of a dialogue in; emotions, reasons and revisions out.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {
            "stream": {
                "address": "/v1/stream",
                "messages": {
                    name: {"$ref": f"#/components/messages/{name}"} for name in sorted(messages)
                },
                "bindings": {"ws": {"method": "GET", "bindingVersion": "0.1.0"}},
            }
        },
        "operations": {
            "receive": _operation("receive", "What a client sends.", ["audio", *MESSAGES]),
            "send": _operation("send", "What the server sends.", [*EVENTS]),
        },
        "components": {"messages": messages, "schemas": _tolerant(definitions["$defs"])},
    }


def files(directory: Path) -> dict[Path, str]:
    """Every generated file and its text. Reads the page that carries the tables."""
    page = directory.with_suffix(".md")
    documents = {
        "messages.schema.json": messages_schema(),
        "events.schema.json": events_schema(),
        "asyncapi.json": asyncapi(),
    }
    written = {
        directory / name: json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        for name, document in documents.items()
    }
    written[page] = fill(page.read_text(encoding="utf-8"), messages_schema())
    package = directory.parent.parent / PACKAGE
    written[package / "events.d.ts"] = event_types(events_schema())
    written[package / "messages.d.ts"] = message_types(messages_schema())
    return written


def main(arguments: list[str] | None = None) -> int:
    """Writes or checks; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m emotrace_protocol.schema")
    parser.add_argument("directory", type=Path, help="docs/protocol")
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if files differ")
    options = parser.parse_args(arguments)
    stale = [
        (path, text)
        for path, text in files(options.directory).items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    if options.check:
        for path, _ in stale:
            print(f"{path} differs from the models: run `python -m emotrace_protocol.schema`")
        return 1 if stale else 0
    for path, text in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path}")
    return 0


def _union(title: str, models: Mapping[str, type[BaseModel]], mode: Mode) -> Schema:
    refs, definitions = models_json_schema([(model, mode) for model in models.values()])
    return {
        "$schema": DIALECT,
        "title": f"{title}, protocol version {PROTOCOL_VERSION}",
        "oneOf": [refs[(model, mode)] for model in models.values()],
        "$defs": _tolerant(definitions["$defs"]),
    }


def _tolerant(definitions: Schema) -> Schema:
    """As the wire is: unknown fields are allowed, and `type` is always there."""
    for definition in definitions.values():
        definition.pop("additionalProperties", None)
        if "const" in definition.get("properties", {}).get("type", {}):
            others = [name for name in definition.get("required", []) if name != "type"]
            definition["required"] = ["type", *others]
    return definitions


def _operation(action: str, summary: str, names: list[str]) -> Schema:
    return {
        "action": action,
        "summary": summary,
        "channel": {"$ref": "#/channels/stream"},
        "messages": [{"$ref": f"#/channels/stream/messages/{name}"} for name in names],
    }


def _first_line(model: type[BaseModel]) -> str:
    return (model.__doc__ or model.__name__).strip().splitlines()[0]


if __name__ == "__main__":
    sys.exit(main())
