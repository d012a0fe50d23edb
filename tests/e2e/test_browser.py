"""The browser page in a headless Chromium against a real server."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
from chromium import Page, chromium
from fakes import toy_bundle
from live import LiveServer, live_server
from papers import paper_bundle
from scripted_server import final

from emotrace_clients.demo import shipped
from emotrace_clients.turns import read_turns
from emotrace_models.labels import SCHEMES
from emotrace_protocol import encode
from emotrace_protocol.events import Affect, Quality

HOSTILE = "<img src=x onerror=document.title='owned'>"
MICROPHONE_S = 9.0  # of the demo: Ann, Ben, Ann


@pytest.fixture(scope="module")
def server(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("bundles")
    also = (
        str(paper_bundle(folder / "gban", "gban")),
        str(paper_bundle(folder / "tucker", "tucker")),
        str(toy_bundle(folder / "seven", name="seven", scheme="ekman7", views=("common4",))),
    )
    with live_server(toy, audio_queue_ms=10_000, also=also) as running:
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
LIVE = "document.getElementById('state').textContent.startsWith('Live')"
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
        "tucker: tucker from voice and face",
        "seven: gated_xlstm from voice and words",
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


def test_seven_labels_and_a_smaller_set_of_them(page: Page, tmp_path: Path) -> None:
    page.wait_for("!document.getElementById('bundles').hidden")
    assert page.evaluate("document.getElementById('label-sets').hidden")
    choose(page, "bundle", "seven")
    assert page.texts("#labels option") == [
        f"{scheme}: {', '.join(SCHEMES[scheme].names)}" for scheme in ("ekman7", "common4")
    ]
    for scheme in ("ekman7", "common4"):
        choose(page, "labels", scheme)
        page.click("#start-microphone")
        page.wait_for(LIVE)
        page.wait_for("document.querySelectorAll('.card .estimate .emotion').length >= 1")
        page.click("#stop")
        page.wait_for(ENDED)
        names = SCHEMES[scheme].names
        signs = page.texts("#legend .sign")
        assert len(set(signs)) == len(names), "the signs tell the labels apart without colour"
        assert page.texts("#legend li") == [
            sign + name for sign, name in zip(signs, names, strict=True)
        ]
        bars = page.texts(".card:first-child .bars .name")
        assert bars == page.texts("#legend li")
        assert page.texts("#why-body .affect figcaption")[0].endswith("not measured.")
        page.screenshot(tmp_path / f"{scheme}.png")
    assert page.complaints == []


def test_the_camera_is_seen_where_the_model_reads_faces(page: Page) -> None:
    page.wait_for("!document.getElementById('bundles').hidden")
    assert page.evaluate("document.getElementById('camera-choice').hidden")
    choose(page, "bundle", "tucker")
    assert not page.evaluate("document.getElementById('camera-choice').hidden")
    page.click("#camera")
    page.click("#start-microphone")
    page.wait_for("document.querySelectorAll('.card .estimate .emotion').length >= 1", 90)
    assert not page.evaluate("document.getElementById('preview').hidden")
    page.click("#stop")
    page.wait_for(ENDED)
    assert all("from voice and face" in told for told in page.texts(".card .estimate"))
    preview = "document.getElementById('preview')"
    assert page.evaluate(f"{preview}.hidden && {preview}.srcObject === null"), "the camera is off"
    assert page.complaints == []


def test_doubts_quality_and_what_was_no_speech_are_said(page: Page, tmp_path: Path) -> None:
    doubtful = final(
        doubts=("low_confidence", "noise", "wind_noise"),
        abstained=True,
        affect=Affect(valence=-0.5, arousal=0.25),
        quality=Quality(snr_db=4.4, bandwidth_hz=3_400, clipped=0.013, level_db=-31.0),
    )
    silent = final(1).model_copy(update={"quality": None})
    place = {"utterance": 2, "speaker": "A", "start_ms": 2_000, "end_ms": 2_700}
    events = {
        "estimates": [json.loads(encode(one)) for one in (doubtful, silent)],
        "words": {**place, "text": "Thank you for watching!"},
        "rejected": {**place, "reason": "music"},
    }
    page.evaluate(
        """(async (events) => {
          const [{ Dialogue }, { WhyPanel }] = await Promise.all([
            import("./dialogue.js"), import("./why.js")]);
          const at = (id) => document.getElementById(id);
          const why = new WhyPanel(at("why-body"), at("why-empty"));
          const show = (final, revision) => why.show(final, revision);
          const dialogue = new Dialogue(at("dialogue"), at("names"), show);
          dialogue.clear(["A"]);
          events.estimates.forEach((one) => dialogue.final(one));
          dialogue.speechStarted(events.words);
          dialogue.transcript(events.words);
          dialogue.rejected(events.rejected);
          dialogue.choose(0, true);
        })("""
        + json.dumps(events)
        + ")"
    )
    first, second, third = page.texts(".card")
    assert "unsure (anger?)" in first
    assert "doubtful: noisy, wind noise" in first
    assert "doubtful" not in second
    assert "no estimate: music or tones, not speech" in third
    assert "Thank you" not in third
    assert page.evaluate("document.querySelectorAll('.card.rejected .bars').length") == 0
    told = " ".join(page.texts("#why-body p, #why-body figcaption"))
    assert "Valence −0.50, arousal +0.25: derived from the labels" in told
    assert "voice 4 dB over the background, up to 3.4 kHz, at −31 dB, 1.3 % overdriven" in told
    dot = "document.querySelector('.dot').getBoundingClientRect()"
    plane = "document.querySelector('.plane').getBoundingClientRect()"
    across, down = page.evaluate(
        f"(() => {{ const d = {dot}, p = {plane}; return [(d.x + d.width / 2 - p.x) / p.width, "
        "(d.y + d.height / 2 - p.y) / p.height]; })()"
    )
    assert (across, down) == pytest.approx((0.25, 0.375), abs=0.03)
    page.screenshot(tmp_path / "doubts.png")
    page.click(".card:nth-child(2) button")
    assert "Sound:" not in " ".join(page.texts("#why-body p"))
    assert page.complaints == []


def choose(page: Page, menu: str, value: str) -> None:
    page.evaluate(
        f"{{ const menu = document.getElementById('{menu}'); menu.value = '{value}';"
        "menu.dispatchEvent(new Event('change')); }"
    )


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
