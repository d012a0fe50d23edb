"""Everything that can go wrong at the page: each gets a plain sentence that says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from browsing import (
    ENDED,
    LIVE,
    OVER,
    SAID,
    choose,
    downloads,
    give_file,
    noise,
    play_demo_fast,
    saved,
    settle,
    sound,
    stop,
    talking,
    turns_of_demo,
)
from cable import cable
from chromium import FLAGS, Page, chromium
from live import LiveServer, live_server

FAKE_DEVICE = "--use-fake-device-for-media-stream"
FAKE_PROMPT = "--use-fake-ui-for-media-stream"  # says yes
FAR = "far.test"  # a name that Chromium takes for another machine
TALK = ((0, 0), (1, 0))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    far = f"--host-resolver-rules=MAP {FAR} 127.0.0.1"
    with talking(tmp_path_factory.mktemp("browser"), TALK, far) as page:
        yield page


def problem(page: Page) -> str:
    """The sentence that the page says, once it is at rest again."""
    page.wait_for(f"{SAID} && {OVER}")
    return page.texts("#problem")[0]


def said(place: str) -> str:
    """What stands at a place, as an expression."""
    return f"document.getElementById('{place}').textContent"


# Files.


def test_a_file_without_sound(page: Page, tmp_path: Path) -> None:
    give_file(page, sound(tmp_path / "empty.wav", np.zeros(48_000, dtype=np.int16)))
    assert problem(page).startswith("The sound is next to silent (at most −180 dB). Check that")
    assert page.texts("#empty") == page.texts("#problem")
    assert page.complaints == []


def test_a_file_of_noise(page: Page, tmp_path: Path) -> None:
    give_file(page, sound(tmp_path / "noise.flac", noise(5.0)))
    assert "Take a recording in which" in problem(page)
    assert page.complaints == []


@pytest.mark.parametrize(
    ("rejected", "told"),
    [
        (0, "No speech was found in 12.0 s of sound. Take a recording in which somebody speaks"),
        (3, "What was heard is no speech (3 times noise, music or the like instead)"),
    ],
)
def test_a_session_that_found_nothing(page: Page, rejected: int, told: str) -> None:
    said = page.evaluate(
        "import('./wording.js').then(({ nothingFound }) => nothingFound({ ended: { totals: "
        f"{{ finals: 0, failed: 0, audio_ms: 12000, rejected: {rejected} }} }} }}, 0.1))"
    )
    assert said.startswith(told)


def test_a_file_of_two_hours(page: Page, tmp_path: Path) -> None:
    give_file(page, sound(tmp_path / "long.flac", np.zeros(2 * 3_600 * 8_000, np.int16), 8_000))
    told = problem(page)
    assert told.startswith("This file has 120 minutes. The page takes files of up to 30 minutes")
    assert "emotrace report FILE" in told
    assert page.complaints == []


def test_a_video_without_sound(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "mute.webm"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx", rate=Fraction(10))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(10):
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    give_file(page, path)
    assert problem(page).startswith("This video has no sound that the browser can decode.")
    assert page.complaints == []


def test_a_file_that_is_no_sound(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "letter.wav"
    path.write_text("Dear Ann,")
    give_file(page, path)
    assert problem(page).startswith("The browser cannot decode this file.")
    assert page.complaints == []


def test_a_file_after_trouble_is_heard(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "letter.wav"
    path.write_text("Dear Ben,")
    give_file(page, path)
    problem(page)
    give_file(page, sound(tmp_path / "talk.wav", turns_of_demo(TALK)))
    page.wait_for(ENDED)
    settle(page)
    assert page.evaluate("document.getElementById('problem').hidden")
    assert page.evaluate("document.querySelectorAll('.mark.estimated').length") == len(TALK)


# Devices.


def test_a_microphone_that_is_not_allowed(
    server: LiveServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chromium.FLAGS", [flag for flag in FLAGS if flag != FAKE_PROMPT])
    with chromium(tmp_path) as page:
        page.visit(f"{server.url}/")
        refusal = {"permission": {"name": "microphone"}, "setting": "denied"}
        page.call("Browser.setPermission", **refusal, origin=server.url)
        page.click("#start-microphone")
        assert problem(page).startswith("The microphone is not allowed. Allow it for this page")
        page.evaluate("document.getElementById('problem').hidden = true")
        page.click("#find-devices")
        page.wait_for(SAID)
        assert page.complaints == []


def test_a_microphone_that_is_not_there_any_more(page: Page) -> None:
    page.evaluate("document.getElementById('microphone').add(new Option('an old one', 'gone')); ")
    choose(page, "microphone", "gone")
    page.click("#start-microphone")
    assert problem(page).startswith("The chosen microphone is not there any more.")


def test_a_microphone_that_is_unplugged(browser: Page, server: LiveServer) -> None:
    """What was heard before is finished. Only that the plug is pulled is played here."""
    page = browser
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
    page.click("#start-microphone")
    page.wait_for("document.querySelectorAll('.mark').length >= 1")
    page.evaluate("given.getAudioTracks()[0].dispatchEvent(new Event('ended'))")
    page.wait_for(ENDED)
    assert any("was unplugged." in told for told in page.texts("#remarks li"))


def test_no_microphone_at_all(
    server: LiveServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chromium.FLAGS", [flag for flag in FLAGS if flag != FAKE_DEVICE])
    with chromium(tmp_path) as page:
        page.visit(f"{server.url}/")
        page.click("#start-microphone")
        assert problem(page).startswith("No microphone was found. Plug one in, and start again;")
        assert page.complaints == []


def test_a_microphone_that_gives_nothing(page: Page) -> None:
    told = page.evaluate(
        "import('./silence.js').then(({ Silence }) => {"
        "const silence = new Silence(3), told = [];"
        "for (let n = 0; n < 400; n += 1)"
        "  told.push(...silence.update([0, n === 150 ? 0.01 : 0, null]));"
        "return told; })"
    )
    assert told == [0]


# Browsers.


def test_a_page_from_another_machine_over_http(browser: Page, server: LiveServer) -> None:
    browser.visit(f"{server.url.replace('127.0.0.1', FAR)}/")
    browser.wait_for("document.querySelectorAll('#remarks li').length > 0")
    told = browser.texts("#remarks li")[0]
    assert told.startswith("This page came over plain HTTP from another machine")
    browser.click("#start-microphone")
    assert problem(browser).startswith("This browser gives the microphone only to pages from this")


@pytest.mark.parametrize(
    ("absent", "told"),
    [
        ("WebSocket", "This browser lacks what the page needs (WebSocket). Use a current Firefox"),
        ("AudioWorkletNode", "This browser gives pages no microphone"),
    ],
)
def test_a_browser_that_lacks_something(
    browser: Page, server: LiveServer, absent: str, told: str
) -> None:
    old = browser.call(
        "Page.addScriptToEvaluateOnNewDocument", source=f"delete globalThis.{absent};"
    )
    try:
        browser.visit(f"{server.url}/")
    finally:
        browser.call("Page.removeScriptToEvaluateOnNewDocument", **old)
    said = browser.texts("#problem") + browser.texts("#remarks li")
    assert any(one.startswith(told) for one in said)
    can_start = not browser.evaluate("document.getElementById('play-demo').disabled")
    assert can_start == (absent != "WebSocket")


def test_a_browser_in_which_the_page_does_not_start(browser: Page, server: LiveServer) -> None:
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.call("Page.navigate", url=f"{server.url}/")
        shown = (
            "document.readyState === 'complete' && Boolean(document.getElementById('unsupported'))"
        )
        while not browser.evaluate(shown):  # the page's own clock stands still
            pass
        assert browser.texts("#unsupported")[0].startswith("This page does not start in this")
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
    browser.visit(f"{server.url}/")
    assert browser.evaluate("document.getElementById('unsupported') === null")


# The server.


def test_a_connection_that_breaks_is_taken_up_again(browser: Page, server: LiveServer) -> None:
    with cable(server.url) as line:
        browser.visit(f"{line.url}/")
        browser.click("#start-microphone")
        browser.wait_for("document.querySelectorAll('.mark').length >= 1")
        line.pull()
        browser.wait_for("!document.getElementById('connection').hidden")
        browser.wait_for(f"{said('connection')}.includes('Trying again')")
        assert browser.texts("#connection")[0].endswith("Sound is kept meanwhile.")
        line.plug()
        browser.wait_for("document.getElementById('connection').hidden")
        told = browser.texts("#remarks li")
        assert any(one.endswith("and the session went on. Nothing was lost.") for one in told)
        browser.wait_for("document.querySelectorAll('.mark.estimated').length >= 2")
        stop(browser)
        assert browser.texts("#problem") == [""]


def test_a_server_that_has_too_much_to_do(page: Page) -> None:
    page.evaluate(
        "import('./status.js').then(({ Status }) => {"
        "window.shown = new Status((id) => document.getElementById(id));"
        "shown.degraded({ level: 1, message: 'No interim estimates.' }); })"
    )
    assert page.texts("#degraded:not([hidden])") == ["No interim estimates."]
    page.evaluate("shown.degraded({ level: 0, message: 'All is done again.' })")
    assert page.texts("#degraded:not([hidden])") == []
    page.evaluate("for (let n = 0; n < 2; n += 1) shown.remark('All is done again.')")
    assert page.texts("#remarks li") == ["No interim estimates.", "All is done again. (3 times)"]


def test_a_server_that_is_gone(browser: Page, toy: Path, tmp_path: Path) -> None:
    with live_server(toy) as server:
        browser.visit(f"{server.url}/")
        play_demo_fast(browser)
        browser.click("#start-microphone")
        browser.wait_for(LIVE)
    assert problem(browser).startswith("The server is stopping.")
    browser.click("#start-microphone")
    browser.wait_for(f"{said('problem')}.startsWith('No server answers')")
    browser.wait_for(OVER)
    browser.click("#play-demo")
    browser.wait_for(f"{said('problem')}.startsWith('The demo cannot')")
    # What was heard can still be saved, as a report too: its parts are there already.
    with downloads(browser, tmp_path):
        text = saved(browser, "#save-report", tmp_path, ".html").read_text(encoding="utf-8")
    assert text.rstrip().endswith("</html>")
