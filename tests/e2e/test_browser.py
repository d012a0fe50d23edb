"""The browser page in a headless Chromium against a real server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import choose, play_demo_fast, show, stop, talking
from chromium import Page
from fakes import toy_bundle
from live import LiveServer, live_server
from papers import paper_bundle
from scripted_server import final

from emotrace_clients.demo import shipped
from emotrace_clients.turns import read_turns
from emotrace_models.labels import SCHEMES
from emotrace_protocol.estimates import Affect, Quality
from emotrace_protocol.events import (
    EmotionRevised,
    SpeechRejected,
    SpeechStarted,
    TranscriptFinal,
)

HOSTILE = "<img src=x onerror=document.title='owned'>"
MICROPHONE = ((0, 0), (1, 1), (2, 0))  # turns of the demo, over and over: Ann, Ben, Ann


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
    with talking(tmp_path_factory.mktemp("browser"), MICROPHONE) as page:
        yield page


def test_the_demo_is_heard_explained_and_ended(page: Page, tmp_path: Path) -> None:
    play_demo_fast(page)
    turns = read_turns(shipped.TURNS)
    assert page.texts(".card .speaker") == [turn.speaker for turn in turns]
    assert page.texts(".card .words") == [f"“{turn.text}”" for turn in turns]
    assert page.texts(".lane-name") == ["Ann", "Ben"]
    assert page.evaluate("document.querySelectorAll('.mark.estimated').length") == len(turns)
    assert page.evaluate("document.querySelectorAll('[role=option]').length") == len(turns)
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
    assert len(page.texts(".heat td.gate")) == 12
    assert page.texts("#why-body .costs tbody th")[0] == "what was heard"
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
    assert page.texts("#lag")[0].startswith("Lag ")
    assert "Times of the estimates so far (10)" in page.texts("#stages caption")


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
    assert not page.texts("#why-body .cell.gate"), "the model has no gates"
    assert any("no interim estimates" in told for told in page.texts("#remarks li"))
    stop(page)
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
        play_demo_fast(page)
        names = SCHEMES[scheme].names
        signs = page.texts("#legend .sign")
        assert len(set(signs)) == len(names), "the signs tell the labels apart without colour"
        assert page.texts("#legend li") == [
            sign + name for sign, name in zip(signs, names, strict=True)
        ]
        bars = page.texts("#why-body .bars .name")
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
    assert not page.evaluate("document.getElementById('camera-view').hidden")
    assert "whole picture is sent" in page.texts("#camera-told")[0]
    stop(page)
    assert all("from voice and face" in told for told in page.texts(".card .estimate"))
    assert page.evaluate("document.getElementById('camera-view').hidden")
    off = page.evaluate("document.getElementById('preview').srcObject === null")
    assert off, "the camera is off"
    assert page.complaints == []


def test_doubts_quality_and_what_was_no_speech_are_said(page: Page, tmp_path: Path) -> None:
    doubtful = final(
        doubts=("low_confidence", "noise", "wind_noise"),
        abstained=True,
        affect=Affect(valence=-0.5, arousal=0.25),
        quality=Quality(snr_db=4.4, bandwidth_hz=3_400, clipped=0.013, level_db=-31.0),
    )
    silent = final(1).model_copy(update={"quality": None})
    place = {"sequence": 0, "utterance": 2, "speaker": "A", "start_ms": 2_000}
    words = {"text": "Thank you for watching!", "language": None, "source": "client"}
    show(
        page,
        [
            doubtful,
            silent,
            SpeechStarted(**place),
            TranscriptFinal(**place, end_ms=2_700, **words),
            SpeechRejected(**place, end_ms=2_700, reason="music"),
        ],
    )
    page.evaluate("shown.views.choose(0, true)")
    first, second, third = page.texts(".card")
    assert "unsure (anger?)" in first
    assert "doubtful: noisy, wind noise" in first
    assert "doubtful" not in second
    assert "no estimate: music or tones, not speech" in third
    assert "Thank you" not in third
    assert page.evaluate("document.querySelectorAll('.card.rejected .strip').length") == 0
    assert page.texts(".mark .bar") == ["An?", "An", "–"]
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


def test_a_revision_is_marked_wherever_the_utterance_is_shown(page: Page) -> None:
    revised = EmotionRevised(
        sequence=3,
        utterance=0,
        speaker="A",
        start_ms=0,
        end_ms=900,
        previous="anger",
        label="happiness",
        posterior={"anger": 0.4, "happiness": 0.6},
        cause=1,
    )
    show(page, [final(0), final(1)])
    page.evaluate("shown.views.choose(0, true)")
    assert page.texts(".mark .verdict") == ["An", "An"]
    show(page, [final(0), final(1), revised])
    page.evaluate("shown.views.choose(0, true)")
    assert page.texts(".mark .verdict") == ["↺Ha", "An"]
    assert page.evaluate("document.querySelectorAll('.mark.revised').length") == 1
    assert "in the dialogue: happiness ↺ revised from anger, after no. 1" in page.texts(".card")[0]
    assert "Later, after no. 1 was heard, it was revised from anger to happiness." in page.texts(
        "#why-body p"
    )
    mark = page.evaluate("document.querySelector('[role=option]').getAttribute('aria-label')")
    assert mark.endswith("in the dialogue happiness; revised from anger")


def test_the_microphone_is_heard_and_hostile_names_stay_text(page: Page) -> None:
    page.evaluate(f'document.getElementById("speakers").value = "{HOSTILE}"')
    page.click("#start-microphone")
    page.wait_for("document.querySelectorAll('.card .estimate .emotion').length >= 1")
    stop(page)
    assert set(page.texts(".card .speaker")) == {HOSTILE}
    assert page.evaluate("document.querySelectorAll('main img').length") == 0
    assert page.evaluate("document.title") == "Emotrace: live"
    assert all("without words" in told for told in page.texts(".card .estimate"))
    assert any(told.startswith("Not used: words.") for told in page.texts("#modalities li"))
    assert page.evaluate("document.getElementById('start-microphone').disabled") is False
    assert page.complaints == []


def test_a_stereo_microphone_is_two_speakers_and_names_must_fit(page: Page) -> None:
    page.evaluate('document.getElementById("speakers").value = "Ann, Ben"')
    page.click("#start-microphone")
    page.wait_for("!document.getElementById('problem').hidden")
    assert page.texts("#problem")[0].startswith("The settings name 2 speakers")
    page.click("input[value=stereo]")
    page.click("#start-microphone")
    page.wait_for("document.querySelectorAll('.card .estimate .emotion').length >= 2")
    assert page.evaluate("document.getElementById('problem').hidden")
    stop(page)
    assert page.texts(".card .speaker")[:2] == ["Ann", "Ben"]
    assert page.complaints == []
