"""What the page saves: JSON, CSV, and a report that is the same as the command line's."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import (
    ENDED,
    downloads,
    give_file,
    play_demo_fast,
    saved,
    screenshot,
    settle,
    show,
    sound,
    turns_of_demo,
)
from chromium import Page
from live import LiveServer, live_server
from scripted_server import final, started

from emotrace_clients.demo import shipped
from emotrace_clients.report import report_html
from emotrace_clients.turns import read_turns
from emotrace_models.bundle import bundle_path
from emotrace_protocol import NOTICE, Event, decode_event
from emotrace_protocol.events import SessionStarted, SpeechRejected, SpeechStarted, TranscriptFinal
from emotrace_protocol.messages import SessionStart

FORMULAS = ("=1+1", "+49 30", "-2", "@SUM(A1)", "\tTab", "\rReturn", "＝1+1")
# In this order the shipped bundle changes its mind about one of the demo's turns.
REVISED = ((1, 0), (8, 0), (1, 0))


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with live_server(bundle_path("default"), audio_queue_ms=10_000) as running:
        yield running


@pytest.fixture
def page(page: Page, tmp_path: Path) -> Iterator[Page]:
    with downloads(page, tmp_path / "saved"):
        yield page


def events_of(path: Path) -> list[Event]:
    return [decode_event(json.dumps(event)) for event in json.loads(path.read_text())["events"]]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def drawn(page: Page, path: Path) -> str:
    """What a report looks like as elements, once it has drawn itself."""
    page.visit(path.as_uri())
    page.wait_for("document.querySelector('main .panel') !== null")
    settle(page)
    return str(page.evaluate("document.querySelector('main').outerHTML"))


def test_a_session_is_saved_as_json_csv_and_report(page: Page, tmp_path: Path) -> None:
    play_demo_fast(page)
    folder, turns = tmp_path / "saved", read_turns(shipped.TURNS)
    told = saved(page, "#save-json", folder, ".json")
    assert json.loads(told.read_text())["notice"] == NOTICE
    events = events_of(told)
    finals = [event for event in events if event.type == "emotion.final"]
    assert (events[0].type, events[-1].type) == ("session.started", "session.ended")
    assert len(finals) == len(turns)

    rows = rows_of(saved(page, "#save-csv", folder, ".csv"))
    assert [row["text"] for row in rows] == [turn.text for turn in turns]
    assert [row["label"] for row in rows] == [one.label for one in finals]
    for row, one in zip(rows, finals, strict=True):
        assert row["outcome"] == "estimated"
        assert row["unsure"] == str(one.abstained).lower()
        assert {name: float(row[f"p_{name}"]) for name in one.posterior} == one.posterior
        assert float(row["valence"]) == one.affect.valence

    report = saved(page, "#save-report", folder, ".html")
    assert page.complaints == []
    title = page.evaluate("document.title")
    mine = drawn(page, report)
    assert page.complaints == []
    title, facts = page.evaluate("document.title"), " ".join(page.texts(".facts dd"))
    assert title.startswith("Emotrace, ")
    assert "10 utterances, 10 estimates" in facts
    assert page.texts(".card .words") == [f"“{turn.text}”" for turn in turns]
    screenshot(page, tmp_path / "report.png")

    # The command line makes the same document of the same events.
    other = tmp_path / "other.html"
    other.write_text(report_html(events, title), encoding="utf-8")
    assert drawn(page, other) == mine
    assert page.complaints == []

    # It is not a picture: an utterance can be chosen, with the keyboard too.
    page.click(".card:nth-child(5) button")
    assert "utterance 4" in page.texts("#why-body p")[0]
    page.evaluate("document.querySelector('[role=option][tabindex=\"0\"]').focus()")
    page.press("ArrowRight")
    assert "utterance 5" in page.texts("#why-body p")[0]


def test_a_dialogue_in_which_the_model_changes_its_mind(page: Page, tmp_path: Path) -> None:
    give_file(page, sound(tmp_path / "dialogue.wav", turns_of_demo(REVISED)))
    page.wait_for(ENDED)
    settle(page)
    events = events_of(saved(page, "#save-json", tmp_path / "saved", ".json"))
    revisions = {event.utterance: event for event in events if event.type == "emotion.revised"}
    assert revisions, "this bundle changes its mind nowhere: take another order of turns"
    cards = page.texts(".card")
    for number, revision in revisions.items():
        assert f"in the dialogue: {revision.label} ↺ revised from" in cards[number]
    assert len(page.texts(".mark.revised")) == len(revisions)
    rows = rows_of(saved(page, "#save-csv", tmp_path / "saved", ".csv"))
    assert {int(row["utterance"]) for row in rows if row["revised_from"]} == set(revisions)
    assert page.complaints == []


def test_nothing_that_was_said_becomes_a_formula(page: Page) -> None:
    place = {"sequence": 0, "speaker": "=A", "start_ms": 0}
    events: list[Event] = []
    for number, words in enumerate(FORMULAS):
        said = {"text": words, "language": None, "source": "client", "end_ms": 900}
        events.append(TranscriptFinal(utterance=number, **place, **said))
        events.append(final(number, "=A"))
    events.append(SpeechStarted(utterance=len(FORMULAS), **place))
    events.append(SpeechRejected(utterance=len(FORMULAS), **place, end_ms=900, reason="noise"))
    show(page, events, ("=A",))
    text = page.evaluate("import('./exports.js').then(({ asCsv }) => asCsv(shown.record))")
    rows = list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline="")))
    assert [row["text"] for row in rows] == [f"'{words}" for words in FORMULAS] + [""]
    assert {row["speaker"] for row in rows} == {"'=A"}
    assert rows[-1]["outcome"] == "rejected"
    assert rows[-1]["label"] == ""
    assert not any(cell[:1] in "=+@\t\r" for row in rows for cell in row.values() if cell)
    assert all(line.endswith("\r") for line in text.split("\n")[:-1])


@pytest.mark.parametrize(
    "words",
    [
        "</script><script>document.title='owned'</script>",
        "<!--<script>{{views.css}}",
        "<img src=x onerror=document.title='owned'>\u2028]]>",
    ],
)
def test_hostile_words_in_a_report_are_words(browser: Page, tmp_path: Path, words: str) -> None:
    browser.complaints.clear()
    place = {"utterance": 0, "speaker": words[:64], "start_ms": 0, "end_ms": 900}
    said = TranscriptFinal(sequence=1, text=words, language=None, source="client", **place)
    first = SessionStarted(sequence=0, **started(SessionStart(speakers=(words[:64],))))
    path = tmp_path / "hostile.html"
    path.write_text(report_html([first, said, final(0, words[:64])], words), encoding="utf-8")
    drawn(browser, path)
    assert browser.texts(".card .words") == [f"“{words}”".strip()]
    assert browser.texts(".lane-name") == [words[:64].strip()]
    assert browser.texts("h1") == [words.strip()]
    assert browser.evaluate("document.querySelectorAll('img, main script').length") == 0
    assert browser.evaluate("document.title") == words
    assert browser.complaints == []


def test_a_report_reaches_for_nothing(browser: Page, tmp_path: Path) -> None:
    """Not even a script that got in could: the document's policy forbids it."""
    path = tmp_path / "report.html"
    first = SessionStarted(sequence=0, **started(SessionStart()))
    path.write_text(report_html([first, final()], "Report"), encoding="utf-8")
    drawn(browser, path)
    entries = browser.evaluate("performance.getEntriesByType('resource').map((one) => one.name)")
    assert [name for name in entries if not name.startswith("data:")] == []
    browser.complaints.clear()
    refused = browser.evaluate(
        "fetch('http://127.0.0.1:9/').then(() => false, () => true).then((fetched) => {"
        "const made = document.createElement('script'); made.textContent = 'window.owned = true';"
        "document.body.append(made); return fetched && window.owned === undefined; })"
    )
    assert refused
    assert sum("Content Security Policy" in told for told in browser.complaints) >= 2
    browser.complaints.clear()


def test_a_long_session_is_drawn(page: Page, tmp_path: Path) -> None:
    """Two hours: 2,000 utterances of two speakers."""
    finals = [
        final(n, "AB"[n % 2], start_ms=3_600 * n, end_ms=3_600 * n + 3_000) for n in range(2_000)
    ]
    show(page, finals, ("A", "B"))
    assert page.evaluate("document.querySelectorAll('.mark').length") == 2_000
    page.evaluate("shown.views.choose(1000, true)")
    assert "utterance 1000" in page.texts("#why-body p")[0]
    first = page.evaluate("document.querySelector('.ruler').lastChild.textContent")
    assert first.startswith(("119:", "120:"))
    assert page.complaints == []
