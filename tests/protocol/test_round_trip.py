"""Hypothesis: what is encoded is decoded to the same; whatever comes, only ProtocolError is raised.

The strategies are built from the published JSON Schema, so that the schema is tested as well.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from emotrace_protocol import ProtocolError, decode_event, decode_message, encode
from emotrace_protocol.events import EVENTS, Failed
from emotrace_protocol.messages import MESSAGES
from emotrace_protocol.schema import events_schema, messages_schema

MESSAGE_SCHEMA = messages_schema()
EVENT_SCHEMA = events_schema()
MESSAGE_VALIDATOR = Draft202012Validator(MESSAGE_SCHEMA)
EVENT_VALIDATOR = Draft202012Validator(EVENT_SCHEMA)
SPEAKERS = ("Ann", "Ben", "Çağla", "דן", "E", "F", "G", "H")


def instances(schema: dict[str, Any], definitions: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that a schema allows."""
    if "$ref" in schema:
        return instances(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in schema:
        return st.one_of([instances(option, definitions) for option in schema["anyOf"]])
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "properties" in schema:
        required = schema.get("required", [])
        fields = {k: instances(v, definitions) for k, v in schema["properties"].items()}
        return st.fixed_dictionaries(
            {name: value for name, value in fields.items() if name in required},
            optional={name: value for name, value in fields.items() if name not in required},
        )
    return primitives(schema, definitions)


def primitives(schema: dict[str, Any], definitions: dict[str, Any]) -> st.SearchStrategy[Any]:
    low, high = schema.get("minimum"), schema.get("maximum")
    match schema["type"]:
        case "null":
            return st.none()
        case "boolean":
            return st.booleans()
        case "integer":
            low = -(2**63) if low is None else low
            return st.integers(low, 2**63 - 1 if high is None else high)
        case "number" if "exclusiveMinimum" in schema:
            low, high = schema["exclusiveMinimum"], schema["exclusiveMaximum"]
            return st.floats(low, high, exclude_min=True, exclude_max=True)
        case "number":
            return st.floats(low, high, allow_nan=False, allow_infinity=False)
        case "array":
            return st.lists(instances(schema["items"], definitions), max_size=3)
        case "object":
            values = instances(schema["additionalProperties"], definitions)
            return st.dictionaries(texts(), values, max_size=3)
        case "string" if "pattern" in schema:
            # Python's $ also matches before a last newline; JSON Schema's does not.
            whole = schema["pattern"].removesuffix("$") + r"\Z"
            longest = schema["maxLength"]
            return st.from_regex(whole).filter(lambda s: len(s) <= longest and s.isprintable())
        case "string":
            size = schema.get("minLength", 0)
            return texts(size, min(schema.get("maxLength", 50), 50))
    raise AssertionError(f"no strategy for {schema}")


def texts(min_size: int = 0, max_size: int = 50) -> st.SearchStrategy[str]:
    alphabet = st.characters(codec="utf-8", exclude_characters="\0")
    return st.text(alphabet, min_size=min_size, max_size=max_size)


def beyond_schema(data: dict[str, Any]) -> dict[str, Any]:
    """Keeps the rules that a schema does not say."""
    if data["type"] == "session.start":
        data["protocol_version"] = 1
        channels = data.get("audio", {}).get("channels", 1)
        if data.get("speakers") is not None:
            data["speakers"] = list(SPEAKERS[:channels])
        if data.get("purpose") is not None:  # Hypothesis knows the prohibited ones from the source
            data["purpose"] = f"study {data['purpose']}"
    if data["type"] == "utterance.text" and data.get("utterance") is None:
        data["speaker"] = data.get("speaker") or "Ann"
    return data


def messages(name: str) -> st.SearchStrategy[dict[str, Any]]:
    definitions = MESSAGE_SCHEMA["$defs"]
    return instances(definitions[MESSAGES[name].__name__], definitions).map(beyond_schema)


def events(name: str) -> st.SearchStrategy[dict[str, Any]]:
    definitions = EVENT_SCHEMA["$defs"]
    return instances(definitions[EVENTS[name].__name__], definitions)


@pytest.mark.parametrize("name", MESSAGES)
@given(data=st.data())
def test_every_message_comes_back(name: str, data: st.DataObject) -> None:
    message, unknown = decode_message(json.dumps(data.draw(messages(name))))
    assert type(message) is MESSAGES[name]
    assert unknown == ()
    text = encode(message)
    assert decode_message(text) == (message, ())
    assert MESSAGE_VALIDATOR.is_valid(json.loads(text))


@pytest.mark.parametrize("name", EVENTS)
@given(data=st.data())
def test_every_event_comes_back(name: str, data: st.DataObject) -> None:
    event = decode_event(json.dumps(data.draw(events(name))))
    assert type(event) is EVENTS[name]
    text = encode(event)
    assert decode_event(text) == event
    assert EVENT_VALIDATOR.is_valid(json.loads(text))


def check_total(text: str) -> None:
    """A message, or a ProtocolError that can be told to the client."""
    try:
        message, unknown = decode_message(text)
    except ProtocolError as error:
        event = Failed(sequence=0, **error.fields())
        assert decode_event(encode(event)) == event
        encode(event).encode("utf-8")
    else:
        assert decode_message(encode(message)) == (message, ())
        "".join(unknown).encode("utf-8")


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()))
    | st.sampled_from([*MESSAGES, "s16le", "auto", "off"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.text(st.characters(exclude_categories=())))
def test_any_text(text: str) -> None:
    check_total(text)


@given(st.binary(max_size=2_000))
def test_any_bytes_as_text(data: bytes) -> None:
    check_total(data.decode("latin-1"))
    check_total(data.decode("utf-8", "surrogateescape"))


@given(anything, st.sampled_from([*EVENTS, "new"]))
def test_any_json_as_an_event(value: object, name: str) -> None:
    body = value if isinstance(value, dict) else {"sequence": value}
    try:
        event = decode_event(json.dumps({"sequence": 0} | body | {"type": name}))
    except ProtocolError:
        return
    assert decode_event(encode(event)) == event


@given(anything)
def test_any_json(value: object) -> None:
    check_total(json.dumps(value))


@given(st.text('{}[]":,\\ud80-+.eEnulNaItrfs \n\0', max_size=200))
def test_anything_like_json(text: str) -> None:
    check_total(text)


@given(st.data())
def test_a_message_with_one_field_wrong(data: st.DataObject) -> None:
    message = data.draw(st.sampled_from(list(MESSAGES)).flatmap(messages))
    definition = MESSAGE_SCHEMA["$defs"][MESSAGES[message["type"]].__name__]
    name = data.draw(st.sampled_from(list(definition["properties"])))
    check_total(json.dumps(message | {name: data.draw(anything)}))


@given(st.data())
def test_a_message_with_one_character_wrong(data: st.DataObject) -> None:
    text = json.dumps(data.draw(st.sampled_from(list(MESSAGES)).flatmap(messages)))
    place = data.draw(st.integers(0, len(text)))
    check_total(text[:place] + data.draw(st.text(max_size=3)) + text[place + 1 :])
