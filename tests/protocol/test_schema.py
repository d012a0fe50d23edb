"""docs/ says what the models say, and its example is a conversation that both sides accept."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from emotrace_models.affect import read_affect
from emotrace_protocol import (
    NOTICE,
    ClientConversation,
    ErrorCode,
    ServerConversation,
    State,
    decode_event,
    decode_message,
)
from emotrace_protocol.errors import DOUBT_MEANINGS, DoubtCode
from emotrace_protocol.events import EVENTS, EmotionFinal, Estimate, SessionEnded
from emotrace_protocol.messages import MESSAGES
from emotrace_protocol.schema import asyncapi, events_schema, main, messages_schema
from emotrace_protocol.tables import fill


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    return (root / "docs" / "protocol.md").read_text(encoding="utf-8")


@pytest.fixture
def copy(root: Path, tmp_path: Path, page: str) -> Path:
    """A folder like docs/ with the page alone."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "protocol.md").write_text(page, encoding="utf-8")
    return tmp_path / "docs" / "protocol"


def test_docs_are_up_to_date(root: Path) -> None:
    assert main([str(root / "docs" / "protocol"), "--check"]) == 0


def test_the_check_sees_a_difference(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(copy), "--check"]) == 1
    assert "messages.schema.json" in capsys.readouterr().out
    assert main([str(copy)]) == 0
    assert main([str(copy), "--check"]) == 0
    table = copy.with_suffix(".md")
    table.write_text(table.read_text(encoding="utf-8").replace("| 4422 |", "| 4423 |"))
    assert main([str(copy), "--check"]) == 1


def test_a_page_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="generated: messages"):
        fill("# Nothing here", messages_schema())


@pytest.mark.parametrize("schema", [messages_schema(), events_schema()])
def test_the_schemas_are_json_schema(schema: dict[str, Any]) -> None:
    Draft202012Validator.check_schema(schema)


def test_the_schema_refuses_what_the_server_refuses() -> None:
    validator = Draft202012Validator(messages_schema())
    assert validator.is_valid({"type": "session.start", "colour": "red"})
    assert not validator.is_valid({"type": "session.pause"})
    assert not validator.is_valid({"type": "ack", "sequence": -1})
    assert not validator.is_valid({"type": "session.start", "audio": {"sample_rate": 11_025}})
    assert not validator.is_valid({"type": "session.start", "audio": {"channels": 9}})


def resolve(document: dict[str, Any], ref: str) -> Any:
    node: Any = document
    for step in ref.removeprefix("#/").split("/"):
        node = node[step]
    return node


def refs(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [ref for value in node.values() for ref in refs(value)]
    if isinstance(node, list):
        return [ref for value in node for ref in refs(value)]
    return []


def test_the_asyncapi_document_holds_together() -> None:
    document = asyncapi()
    assert document["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= document["info"].keys()
    for ref in refs(document):
        assert resolve(document, ref)
    directions = {"receive": {"audio", *MESSAGES}, "send": set(EVENTS)}
    for name, expected in directions.items():
        operation = document["operations"][name]
        assert operation["action"] == name
        assert resolve(document, operation["channel"]["$ref"])["address"] == "/v1/stream"
        assert {ref["$ref"].rpartition("/")[2] for ref in operation["messages"]} == expected
    assert document["channels"]["stream"]["messages"].keys() == {"audio", *MESSAGES, *EVENTS}
    for name in (*MESSAGES, *EVENTS):
        payload = resolve(document, document["components"]["messages"][name]["payload"]["$ref"])
        assert payload["properties"]["type"]["const"] == name
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_the_page_names_every_message_event_and_code(page: str) -> None:
    for name in (*MESSAGES, *EVENTS, *ErrorCode):
        assert f"`{name}`" in page
    assert NOTICE in page


def example(page: str) -> list[tuple[str, str]]:
    """The lines of the page's conversation: who, and what."""
    block = re.search(r"```text\n(C .*?)```", page, re.DOTALL)
    assert block
    return [(line[0], line[2:]) for line in block[1].splitlines()]


def test_the_example_is_a_conversation(page: str) -> None:
    client, server = ClientConversation(), ServerConversation()
    messages, events = (
        Draft202012Validator(messages_schema()),
        Draft202012Validator(events_schema()),
    )
    seen = set()
    for who, text in example(page):
        if text.startswith("("):
            client.send_audio()
            server.receive_audio()
        elif who == "C":
            messages.validate(json.loads(text))
            message, unknown = decode_message(text)
            assert unknown == ()
            client.send(message)
            server.receive(message)
        else:
            events.validate(json.loads(text))
            event = decode_event(text)
            client.receive(event)
            fields = {name: getattr(event, name) for name in type(event).model_fields}
            del fields["sequence"]
            assert server.number(type(event), **fields) == event
            seen.add(event.type)
    assert client.state is server.state is State.ENDED
    assert len(seen) == 8


def test_the_example_adds_up(page: str) -> None:
    events = [decode_event(text) for who, text in example(page) if who == "S"]
    (final,) = [event for event in events if isinstance(event, EmotionFinal)]
    assert sum(final.posterior.values()) == pytest.approx(1, abs=1e-9)
    for label, logit in final.explanation.logits.items():
        parts = [part.logits[label] for part in final.explanation.contributions]
        assert sum(parts) + final.explanation.bias[label] == pytest.approx(logit)
    for estimate in (event for event in events if isinstance(event, Estimate)):
        read, said = read_affect(estimate.posterior), estimate.affect
        assert read is not None
        assert said is not None
        assert (said.valence, said.arousal) == pytest.approx((read.valence, read.arousal), abs=1e-4)
    (ended,) = [event for event in events if isinstance(event, SessionEnded)]
    totals = ended.totals
    assert totals.utterances == totals.finals + totals.rejected + totals.failed


def test_every_doubt_has_its_meaning() -> None:
    assert set(DOUBT_MEANINGS) == set(DoubtCode)
