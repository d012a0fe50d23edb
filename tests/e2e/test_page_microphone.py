"""The page at microphone and camera, with the shipped bundle: who spoke, when, what is shown.

Chromium plays a file as each microphone and a film as each camera.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import LIVE, choose, downloads, saved, sound, stop, talking, turns_of_demo
from chromium import Page, chromium
from live import LiveServer, live_server
from PIL import Image

from emotrace_clients.demo import shipped
from emotrace_clients.turns import read_turns
from emotrace_models.bundle import bundle_path

SLACK_MS = 250  # a frame of 32 ms each way, and the buffers of the browser
LEAD_S = 2.0  # before the film of sound begins to speak, the page is ready
TALK = ((0, 0), (1, 0))  # two turns of the demo, over and over


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with live_server(bundle_path("default"), audio_queue_ms=10_000) as running:
        yield running


def film(path: Path) -> Path:
    """One second: the left half is red, the right half blue."""
    picture = Image.new("RGB", (640, 480), (200, 0, 0))
    picture.paste((0, 0, 200), (320, 0, 640, 480))
    jpeg = io.BytesIO()
    picture.save(jpeg, "JPEG", quality=90)
    path.write_bytes(jpeg.getvalue() * 30)
    return path


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"--use-file-for-fake-video-capture={film(tmp_path_factory.mktemp('film') / 'a.mjpeg')}"


@pytest.fixture(scope="module")
def dialogue(tmp_path_factory: pytest.TempPathFactory, capture: str) -> Iterator[Page]:
    """A browser whose microphone plays the demo dialogue once."""
    folder = tmp_path_factory.mktemp("dialogue")
    everything = [(n, n % 2) for n in range(len(read_turns(shipped.TURNS)))]
    voice = sound(folder / "voice.wav", turns_of_demo(everything, pause_s=0.7, lead_s=LEAD_S))
    played = f"--use-file-for-fake-audio-capture={voice}%noloop"
    with chromium(folder / "profile", capture, played) as page:
        yield page


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory, capture: str) -> Iterator[Page]:
    """A browser whose microphones play two turns over and over."""
    devices = "--use-fake-device-for-media-stream=device-count=2"
    with talking(tmp_path_factory.mktemp("talk"), TALK, capture, devices) as page:
        yield page


def estimates(page: Page) -> int:
    return int(page.evaluate("document.querySelectorAll('.mark.estimated').length"))


def test_the_demo_dialogue_is_found_at_a_microphone(
    dialogue: Page, server: LiveServer, tmp_path: Path
) -> None:
    page, turns = dialogue, read_turns(shipped.TURNS)
    page.visit(f"{server.url}/")
    page.wait_for("!document.getElementById('camera-choice').hidden")
    page.click("input[value=stereo]")
    page.click("#camera")
    page.evaluate('document.getElementById("speakers").value = "Ann, Ben"')
    page.click("#start-microphone")
    page.wait_for("document.querySelectorAll('.mark.interim').length >= 1", 90)
    assert page.texts(".mark.interim .bar")[0], "an interim estimate has its letters"
    page.wait_for(f"document.querySelectorAll('.mark.estimated').length >= {len(turns)}", 90)
    stop(page)
    with downloads(page, tmp_path):
        told = json.loads(saved(page, "#save-json", tmp_path, ".json").read_text())
    finals = [event for event in told["events"] if event["type"] == "emotion.final"]

    # The utterances are those of the dialogue.
    assert [final["speaker"] for final in finals] == [turn.speaker for turn in turns]
    began = [0]
    for turn in turns[:-1]:
        began.append(began[-1] + turn.end_ms - turn.start_ms + 100 + 700)
    for final, due in zip(finals, began, strict=True):
        assert final["start_ms"] - finals[0]["start_ms"] == pytest.approx(due, abs=SLACK_MS)

    # What is shown is what was told; nobody's face was in the film.
    assert page.texts(".mark.estimated .verdict") == [
        final["decoder"]["label"].capitalize()[:2]
        for final in sorted(finals, key=lambda one: (one["speaker"], one["start_ms"]))
    ]
    assert all("face" in final["missing"] or "facial" in final["missing"] for final in finals)
    assert len(page.texts(".card.estimated")) == len(turns)
    page.click(".card:nth-child(3) button")
    assert "utterance 2" in page.texts("#why-body p")[0]
    assert page.complaints == []


def test_who_speaks_is_said_with_a_key(talk: Page, server: LiveServer) -> None:
    page = talk
    page.visit(f"{server.url}/")
    page.complaints.clear()
    page.click("input[value=turns]")
    page.evaluate('document.getElementById("speakers").value = "Ann, Ben, Cleo"')
    page.click("#start-microphone")
    page.wait_for(LIVE)
    assert page.texts("#talk label") == ["Ann", "Ben", "Cleo", "nobody"]
    for speaker in ("Ann", "Ben"):
        before = estimates(page)
        page.wait_for(f"document.querySelectorAll('.mark.estimated').length > {before}", 30)
        assert page.texts(".card.estimated .speaker")[-1] == speaker
        page.press("ArrowRight")  # the focus is there already
    page.press("ArrowRight")
    assert page.evaluate("document.activeElement.parentElement.textContent") == "nobody"
    heard = "document.querySelectorAll('.mark').length"
    # What was said while Ben or Cleo had the word ends; after that nobody is heard.
    page.wait_for("document.querySelectorAll('.mark.speaking, .mark.waiting').length === 0", 30)
    count = page.evaluate(heard)
    heard_s = "parseFloat(document.querySelector('.extent').style.getPropertyValue('--end'))"
    page.wait_for(f"{heard_s} > {page.evaluate(heard_s)} + 6", 30)
    assert page.evaluate(heard) == count
    stop(page)
    assert page.evaluate("document.getElementById('talk').hidden")
    assert page.complaints == []


def test_two_microphones_are_two_speakers(talk: Page, server: LiveServer) -> None:
    page = talk
    page.visit(f"{server.url}/")
    page.complaints.clear()
    page.click("input[value=two]")
    page.click("#start-microphone")
    page.wait_for("!document.getElementById('problem').hidden")
    assert page.texts("#problem")[0].startswith("Both speakers have the same microphone.")
    page.wait_for("document.querySelectorAll('#microphone option').length >= 3")
    names = page.texts("#microphone option")
    assert names[0] == "the browser's own choice"
    first, second = page.evaluate(
        "[...document.querySelectorAll('#microphone option')].slice(1).map((one) => one.value)"
    )[:2]
    choose(page, "microphone", first)
    choose(page, "second-microphone", second)
    page.click("#start-microphone")
    speakers = "[...document.querySelectorAll('.card.estimated .speaker')]"
    page.wait_for(f"new Set({speakers}.map((one) => one.textContent)).size === 2", 30)
    stop(page)
    assert page.complaints == []


def test_only_the_face_leaves_a_browser_that_finds_it(talk: Page, server: LiveServer) -> None:
    """Of Chromium on Linux the finder of faces is absent; this one says: the right half."""
    page = talk
    finder = page.call(
        "Page.addScriptToEvaluateOnNewDocument",
        source="window.FaceDetector = class { async detect(picture) { return picture.videoWidth "
        "? [{ boundingBox: { x: 440, y: 200, width: 100, height: 120 } }] : []; } };"
        "const send = WebSocket.prototype.send; window.jpegs = [];"
        "WebSocket.prototype.send = function (data) {"
        "const image = typeof data === 'string' && data.includes('\"jpeg\"');"
        "if (image) jpegs.push(JSON.parse(data).jpeg);"
        "return send.call(this, data); };",
    )
    try:
        page.visit(f"{server.url}/")
        page.complaints.clear()
        page.wait_for("!document.getElementById('camera-choice').hidden")
        page.click("#camera")
        page.click("#start-microphone")
        page.wait_for("jpegs.length >= 2")
        assert page.texts("#camera-told")[0].startswith("Only the face is sent")
        stop(page)
        with Image.open(io.BytesIO(base64.b64decode(page.evaluate("jpegs[1]")))) as picture:
            assert picture.size == (170, 204)
            red, _, blue = picture.convert("RGB").resize((1, 1)).getpixel((0, 0))
        assert blue > 150 > 60 > red
    finally:
        page.call("Page.removeScriptToEvaluateOnNewDocument", **finder)
    assert page.complaints == []


def test_a_camera_that_is_unplugged_leaves_the_sound(talk: Page, server: LiveServer) -> None:
    page = talk
    watch = page.call(
        "Page.addScriptToEvaluateOnNewDocument",
        source="const devices = MediaDevices.prototype, ask = devices.getUserMedia;"
        "devices.getUserMedia = async function (...wishes) {"
        "return (window.given = await ask.apply(this, wishes)); };",
    )
    try:
        page.visit(f"{server.url}/")
    finally:
        page.call("Page.removeScriptToEvaluateOnNewDocument", **watch)
    page.complaints.clear()
    page.wait_for("!document.getElementById('camera-choice').hidden")
    page.click("#camera")
    page.click("#start-microphone")
    page.wait_for("!document.getElementById('camera-view').hidden")
    page.evaluate("given.getVideoTracks()[0].dispatchEvent(new Event('ended'))")
    page.wait_for("document.getElementById('camera-view').hidden")
    assert any(told.startswith("The camera was unplugged") for told in page.texts("#remarks li"))
    page.wait_for("document.querySelectorAll('.mark').length >= 1")
    stop(page)
    assert page.complaints == []
