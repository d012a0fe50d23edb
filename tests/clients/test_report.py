"""The report as text: one document that holds its events as data, whatever is in them."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest
from scripted_server import final, started

from emotrace_clients.report import report_html
from emotrace_protocol import Event
from emotrace_protocol.events import SessionStarted, TranscriptFinal
from emotrace_protocol.messages import SessionStart

HOSTILE = (
    "</script><script>document.title='owned'</script><!--<script>",
    "]]>{{timeline.js}}{{nonce}}",
    "<img src=x onerror=alert(1)>\u2028\u2029\\",
)


class Document(HTMLParser):
    """The elements of a document."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def events(words: str) -> list[Event]:
    place = {"utterance": 0, "speaker": "A", "start_ms": 0, "end_ms": 900}
    said = TranscriptFinal(sequence=1, text=words, language=None, source="client", **place)
    return [SessionStarted(sequence=0, **started(SessionStart())), said, final()]


def data_of(text: str) -> dict[str, object]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    told: dict[str, object] = json.loads(found[1])
    return told


@pytest.mark.parametrize("words", HOSTILE)
def test_whatever_was_said_is_data(words: str) -> None:
    heard = events(words)
    text = report_html(heard, words)
    assert data_of(text) == {
        "title": words,
        "events": [event.model_dump(mode="json") for event in heard],
    }
    plain = Document(report_html(events("Hello."), "Report"))
    found = Document(text)
    assert [name for name, _ in found.elements] == [name for name, _ in plain.elements]
    assert len(found.of("script")) == 2
    assert not found.of("img")


def test_it_needs_nothing_from_elsewhere() -> None:
    text = report_html(events("Hello."), "Report")
    document = Document(text)
    assert not [one for one in document.of("script") if "src" in one]
    assert [one["href"] for one in document.of("link")] == ["data:,"]
    assert "{{" not in text
    assert re.findall(r"^(?:import|export) ", text, re.MULTILINE) == []


def test_each_document_has_its_own_nonce() -> None:
    one, other = (report_html(events("Hello."), "Report") for _ in range(2))
    nonces = [re.findall(r"nonce-([\w-]{24})'", text) for text in (one, other)]
    assert len(set(nonces[0])) == 1
    assert nonces[0] != nonces[1]
    assert one.replace(nonces[0][0], "") == other.replace(nonces[1][0], "")
    document = Document(one)
    marked = [each.get("nonce") for each in document.of("script") + document.of("style")]
    assert marked == [None, nonces[0][0], nonces[0][0]]
