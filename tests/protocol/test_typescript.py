"""The TypeScript declarations say what the models say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from emotrace_protocol.events import EVENTS
from emotrace_protocol.messages import MESSAGES, PROTOCOL_VERSION
from emotrace_protocol.schema import events_schema, files, messages_schema
from emotrace_protocol.typescript import PACKAGE, event_types, message_types


def interface(text: str, name: str) -> dict[str, str]:
    """The fields of an interface, with their marks, and their types."""
    body = re.search(rf"export interface {name} \{{\n(.*?)^\}}", text, re.DOTALL | re.MULTILINE)
    assert body is not None, name
    return dict(re.findall(r"^  (\w+\??): (.*);$", body[1], re.MULTILINE))


def test_they_are_among_the_files_that_are_checked(root: Path) -> None:
    written = files(root / "docs" / "protocol")
    assert {"events.d.ts", "messages.d.ts"} <= {
        path.name for path in written if path.parent == root / PACKAGE
    }


@pytest.mark.parametrize("model", EVENTS.values(), ids=lambda model: model.__name__)
def test_every_field_of_an_event_is_there(model: type[BaseModel]) -> None:
    fields = interface(event_types(events_schema()), model.__name__)
    assert list(fields) == list(model.model_fields)
    assert fields["type"] == f'"{model.model_fields["type"].default}"'


@pytest.mark.parametrize("model", MESSAGES.values(), ids=lambda model: model.__name__)
def test_of_a_message_what_has_a_default_may_be_left_out(model: type[BaseModel]) -> None:
    fields = interface(message_types(messages_schema()), model.__name__)
    needed = {name for name, field in model.model_fields.items() if field.is_required()}
    assert {name for name in fields if not name.endswith("?")} == needed | {"type"}
    assert {name.rstrip("?") for name in fields} == set(model.model_fields)


def test_codes_stay_open_and_choices_closed() -> None:
    text = event_types(events_schema())
    assert interface(text, "Failed")["code"] == "ErrorCode | (string & {})"
    assert interface(text, "EmotionFinal")["doubts"] == "(DoubtCode | (string & {}))[]"
    assert interface(text, "SpeechEnded")["reason"] == '"silence" | "max_length" | "end_of_audio"'
    assert interface(text, "EmotionFinal")["quality"] == "Quality | null"
    assert interface(text, "EmotionFinal")["posterior"] == "Record<string, number>"
    speakers = interface(message_types(messages_schema()), "SessionStart")["speakers?"]
    assert speakers == "readonly string[] | null"


def test_the_unions_have_all(root: Path) -> None:
    for text, models in (
        (event_types(events_schema()), EVENTS),
        (message_types(messages_schema()), MESSAGES),
    ):
        names = re.findall(r"^  \| (\w+)", text, re.MULTILINE)
        assert names == [model.__name__ for model in models.values()]


def test_what_a_type_cannot_say_is_no_silent_any() -> None:
    schema = {"$defs": {"Odd": {"properties": {"one": {"type": "tuple"}}}}, "oneOf": []}
    with pytest.raises(KeyError):
        event_types(schema)


def test_the_package_speaks_the_same_version(root: Path) -> None:
    script = (root / PACKAGE / "session.js").read_text()
    assert f"const PROTOCOL_VERSION = {PROTOCOL_VERSION};" in script
