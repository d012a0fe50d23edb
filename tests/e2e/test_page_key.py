"""The page on a server with keys: a person types one, and it goes nowhere else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import (
    OVER,
    SAID,
    look,
    play_demo_fast,
    settle,
    size,
    stop,
    tab_stops,
    talking,
    violations,
)
from cable import cable
from chromium import Page
from live import LiveServer, live_server

from emotrace_service.identity import entry, new_key
from emotrace_service.tickets import PREFIX

KEY = new_key()
ASKED = "!document.getElementById('access').hidden"
FOCUS = "document.activeElement.id"


@pytest.fixture(scope="module")
def server(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    keys = tmp_path_factory.mktemp("keys") / "keys.toml"
    keys.write_text(entry("page", KEY, 3))
    with live_server(toy, audio_queue_ms=10_000, keys=keys) as running:
        yield running


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with talking(tmp_path_factory.mktemp("browser"), ((0, 0), (1, 0))) as page:
        yield page


@pytest.fixture
def page(browser: Page, server: LiveServer) -> Page:
    browser.visit(f"{server.url}/")
    browser.wait_for(ASKED)
    browser.complaints.clear()
    return browser


def type_key(page: Page, key: str) -> None:
    """As a person does, in place of what is there."""
    page.evaluate(
        "{ const field = document.getElementById('key'); field.focus(); field.select(); }"
    )
    page.call("Input.insertText", text=key)


def refusal(page: Page) -> str:
    """The sentence that the page says instead of a session."""
    page.wait_for(f"{SAID} && {OVER}")
    assert page.evaluate(f"{FOCUS} === 'key'"), "where it is to be mended"
    assert page.evaluate("document.getElementById('key').matches('[aria-invalid=true]')")
    return page.texts("#problem[role=alert]")[0]


def test_the_right_key_opens_any_number_of_sessions(
    page: Page, server: LiveServer, capfd: pytest.CaptureFixture[str]
) -> None:
    type_key(page, f" {KEY} ")  # as it is copied
    for _ in range(2):
        play_demo_fast(page)
        assert "10 utterances, 10 estimates" in page.texts("#state")[0]
    assert page.complaints == []
    kept = page.evaluate(
        "JSON.stringify([location.href, document.cookie, { ...localStorage }, "
        "{ ...sessionStorage }, performance.getEntries().map((one) => one.name), "
        "document.documentElement.outerHTML])"
    )
    assert "v1/tickets" in kept
    for secret in (KEY, PREFIX):
        assert secret not in kept + capfd.readouterr().out
    page.call("Page.reload")
    page.wait_for(f"document.readyState === 'complete' && {ASKED}")
    assert page.evaluate("document.getElementById('key').value") == ""


@pytest.mark.parametrize("wrong", [new_key(), KEY[:-1], f"“{KEY}”", "schlüssel"])
def test_a_wrong_key_is_refused_in_a_sentence(page: Page, wrong: str) -> None:
    type_key(page, wrong)
    page.click("#play-demo")
    told = refusal(page)
    assert told.startswith("The server does not know this key. Check that all of it is there")
    assert wrong not in told + json.dumps(page.complaints)
    page.call("Input.insertText", text=KEY)  # the wrong one is selected
    assert not page.evaluate("document.getElementById('key').matches('[aria-invalid]')")
    play_demo_fast(page)
    assert page.texts("#problem") == [""]


def test_a_forgotten_key_is_asked_for(page: Page) -> None:
    page.click("#start-microphone")
    assert refusal(page).startswith("This server asks for a key. Type it, and start again.")
    assert page.complaints == []
    assert page.texts("#state") == ["Not connected"]


def test_a_session_goes_on_over_a_cut_connection(browser: Page, server: LiveServer) -> None:
    with cable(server.url) as line:
        browser.visit(f"{line.url}/")
        browser.wait_for(ASKED)
        type_key(browser, KEY)
        browser.click("#start-microphone")
        browser.wait_for("document.querySelectorAll('.mark').length >= 1")
        line.pull()
        browser.wait_for("document.getElementById('connection').textContent.includes('again')")
        line.plug()
        browser.wait_for("document.getElementById('connection').hidden")
        assert any("the session went on." in told for told in browser.texts("#remarks li"))
        browser.wait_for("document.querySelectorAll('.mark.estimated').length >= 2")
        stop(browser)
        assert browser.texts("#problem") == [""]


def test_a_server_that_is_away_is_no_wrong_key(browser: Page, server: LiveServer) -> None:
    with cable(server.url) as line:
        browser.visit(f"{line.url}/")
        browser.wait_for(ASKED)
        type_key(browser, KEY)
        line.pull()
        browser.click("#start-microphone")
        browser.wait_for(f"{SAID} && {OVER}")
        assert browser.texts("#problem")[0].startswith("The server gives no access now. Is it")
        assert not browser.evaluate("document.getElementById('key').matches('[aria-invalid]')")


def test_by_keyboard_alone(page: Page) -> None:
    stops = tab_stops(page)
    assert stops[:3] == ["Skip the controls", "key", "play-demo"]
    page.evaluate("document.getElementById('aloud').checked = false")
    page.evaluate("document.getElementById('key').focus()")
    page.call("Input.insertText", text="emk_")
    page.press("Tab")
    page.press("Enter", "\r")
    refusal(page)
    page.call("Input.insertText", text=KEY)
    page.press("Tab")
    page.press("Enter", "\r")
    page.wait_for(f"{FOCUS} === 'stop'")
    page.wait_for("document.getElementById('state').textContent.startsWith('Ended')")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_serious(page: Page, dark: bool, tmp_path: Path) -> None:
    try:
        look(page, dark=dark)
        page.click("#play-demo")
        refusal(page)
        settle(page)
        assert violations(page) == []
        page.screenshot(tmp_path / "wide.png")
        size(page, 390, 844)
        settle(page)
        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.screenshot(tmp_path / "phone.png")
    finally:
        look(page)
        page.call("Emulation.clearDeviceMetricsOverride")


def test_an_open_server_asks_for_none(browser: Page, toy: Path) -> None:
    with live_server(toy, audio_queue_ms=10_000) as server:
        browser.visit(f"{server.url}/")
        play_demo_fast(browser)
        assert not browser.evaluate(ASKED)
