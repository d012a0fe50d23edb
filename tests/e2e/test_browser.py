"""The browser page in a headless Chromium against a real server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
from chromium import Page, chromium
from live import LiveServer, live_server
from papers import paper_bundle

from emotrace_clients.demo import shipped
from emotrace_clients.turns import read_turns

HOSTILE = "<img src=x onerror=document.title='owned'>"
MICROPHONE_S = 9.0  # of the demo: Ann, Ben, Ann


@pytest.fixture(scope="module")
def server(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    other = str(paper_bundle(tmp_path_factory.mktemp("papers") / "gban", "gban"))
    with live_server(toy, audio_queue_ms=10_000, also=(other,)) as running:
        yield running


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("browser")
    samples, rate = soundfile.read(shipped.AUDIO, dtype="int16", frames=int(MICROPHONE_S * 16_000))
    soundfile.write(folder / "voice.wav", samples, rate)
    capture = f"--use-file-for-fake-audio-capture={folder / 'voice.wav'}"
    with chromium(folder / "profile", capture) as page:
        yield page


@pytest.fixture
def page(browser: Page, server: LiveServer) -> Page:
    browser.visit(f"{server.url}/")
    browser.complaints.clear()
    return browser


OVER = "document.getElementById('stop').hidden"
ENDED = "document.getElementById('state').textContent.startsWith('Ended')"


def test_the_demo_is_heard_explained_and_ended(page: Page, tmp_path: Path) -> None:
    page.click("#play-demo")
    page.wait_for(ENDED, 90)
    turns = read_turns(shipped.TURNS)
    assert page.texts(".card .speaker") == [turn.speaker for turn in turns]
    assert page.texts(".card .words") == [f"“{turn.text}”" for turn in turns]
    assert page.texts("#names span") == ["Ann", "Ben"]
    for told in page.texts(".card .estimate"):
        assert re.search(
            r"(anger|happiness|neutral|sadness).* \d+ % sure, from voice and words", told
        )
    assert all(told.startswith("in the dialogue: ") for told in page.texts(".card .decoder"))
    assert "10 utterances, 10 estimates" in page.texts("#state")[0]
    assert page.texts("#problem") == [""]
    assert page.texts("#announcer")[0].startswith("Ben: ")
    page.screenshot(tmp_path / "demo.png")
    assert page.complaints == []

    # The newest utterance is explained; its contributions add up to the sum that is shown.
    assert "utterance 9" in page.texts("#why-body p")[0]
    values = [float(told.replace("−", "-")) for told in page.texts("#why-body .value")]
    assert len(values) == 12 + 2
    assert sum(values[:-1]) == pytest.approx(values[-1], abs=0.01 * len(values))

    # A person with a keyboard chooses another, and asks about another label.
    page.evaluate("document.querySelectorAll('.card button')[2].focus()")
    page.press("Enter", "\r")
    assert "utterance 2" in page.texts("#why-body p")[0]
    assert page.evaluate("document.querySelectorAll('[aria-pressed=true]').length") == 1
    page.evaluate(
        "{ const ask = document.querySelector('#why-body select'); ask.value = 'sadness';"
        "ask.dispatchEvent(new Event('change')); }"
    )
    assert "“sadness”" in page.texts("#why-body caption")[0]


def test_another_model_is_chosen_and_explained(page: Page) -> None:
    page.wait_for("!document.getElementById('bundles').hidden")
    assert page.texts("#bundle option") == [
        "toy: gated_xlstm from voice and words",
        "gban: gban from voice and words",
    ]
    page.evaluate("document.getElementById('bundle').value = 'gban'")
    page.click("#play-demo")
    page.wait_for("document.querySelectorAll('.card .estimate .emotion').length >= 1")
    assert "bundle gban" in page.texts("#state")[0]
    assert page.texts("#why-body caption")[0].startswith("What changes when each joins")
    assert "–" in page.texts("#why-body tbody tr")[0]
    assert any("no interim estimates" in told for told in page.texts("#remarks li"))
    page.click("#stop")
    page.wait_for(ENDED)
    assert page.complaints == []


def test_the_microphone_is_heard_and_hostile_names_stay_text(page: Page) -> None:
    page.evaluate(f'document.getElementById("speakers").value = "{HOSTILE}"')
    page.click("#start-microphone")
    page.wait_for("document.querySelectorAll('.card .estimate .emotion').length >= 2")
    page.click("#stop")
    page.wait_for(ENDED)
    assert set(page.texts(".card .speaker")) == {HOSTILE}
    assert page.evaluate("document.querySelectorAll('main img').length") == 0
    assert page.evaluate("document.title") == "Emotrace: live"
    assert all("without words" in told for told in page.texts(".card .estimate"))
    assert any(told.startswith("Not used: words.") for told in page.texts("#remarks li"))
    assert page.evaluate("document.getElementById('start-microphone').disabled") is False
    assert page.complaints == []


def test_a_stereo_microphone_is_two_speakers_and_names_must_fit(page: Page) -> None:
    page.evaluate('document.getElementById("speakers").value = "Ann, Ben"')
    page.click("#start-microphone")
    page.wait_for("!document.getElementById('problem').hidden")
    assert page.texts("#problem")[0].startswith("The settings name 2 speakers")
    page.click("#stereo")
    page.click("#start-microphone")
    page.wait_for("document.querySelectorAll('.card .estimate .emotion').length >= 2")
    assert page.evaluate("document.getElementById('problem').hidden")
    page.click("#stop")
    page.wait_for(ENDED)
    assert page.texts(".card .speaker")[:2] == ["Ann", "Ben"]
    assert page.complaints == []


def test_a_server_that_is_gone_is_said_in_a_sentence(browser: Page, toy: Path) -> None:
    with live_server(toy) as server:
        browser.visit(f"{server.url}/")
        browser.click("#start-microphone")
        browser.wait_for("document.getElementById('state').textContent.startsWith('Live')")
    browser.wait_for("!document.getElementById('problem').hidden")
    assert browser.texts("#problem") == ["The server is stopping. The server stops; connect again."]
    browser.wait_for(OVER)
    browser.click("#start-microphone")
    browser.wait_for("document.getElementById('problem').textContent.startsWith('The server does')")
    browser.click("#play-demo")
    browser.wait_for("document.getElementById('problem').textContent.startsWith('The demo cannot')")
