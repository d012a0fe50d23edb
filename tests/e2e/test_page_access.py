"""The page for everybody: by keyboard, by ear, in dark and light, on a phone, without motion."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import ENDED, look, play_demo_fast, settle, show, size, tab_stops, violations
from chromium import Page
from scripted_server import final, started

from emotrace_clients.report import report_html
from emotrace_protocol.events import SessionStarted
from emotrace_protocol.messages import SessionStart

THEMES = pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])


@pytest.fixture
def page(page: Page) -> Iterator[Page]:
    page.evaluate("document.querySelector('details').open = true")
    yield page
    look(page)
    page.call("Emulation.clearDeviceMetricsOverride")


@THEMES
def test_axe_finds_nothing_serious_in_the_page(page: Page, dark: bool) -> None:
    look(page, dark=dark)
    assert violations(page) == []
    play_demo_fast(page)
    assert violations(page) == []
    size(page, 390, 844)
    settle(page)
    assert violations(page) == []


@THEMES
def test_axe_finds_nothing_serious_in_a_report(browser: Page, tmp_path: Path, dark: bool) -> None:
    path = tmp_path / "report.html"
    first = SessionStarted(sequence=0, **started(SessionStart()))
    path.write_text(report_html([first, final(0), final(1)], "Report"), encoding="utf-8")
    browser.call("Page.setBypassCSP", enabled=True)  # for axe, which is no part of it
    try:
        look(browser, dark=dark)
        browser.visit(path.as_uri())
        settle(browser)
        assert violations(browser) == []
    finally:
        browser.call("Page.setBypassCSP", enabled=False)
        look(browser)


def test_tab_stops_at_every_control(page: Page) -> None:
    play_demo_fast(page)
    stops = tab_stops(page)
    shown = page.evaluate(
        "[...document.querySelectorAll('button, select, summary, input, a[href]')].filter((one) => "
        "one.checkVisibility() && !one.disabled && one.type !== 'radio')"
        ".map((one) => one.id || one.textContent.trim())"
    )
    assert len(shown) > 20
    assert [one for one in shown if one not in stops] == []
    # Of choices that exclude each other Tab stops at one, and arrow keys reach the others.
    assert page.evaluate("document.querySelectorAll('input[name=mode]').length") == 4
    assert stops.count("option") == 1, "the timeline is one stop"
    assert stops[0] == "Skip the controls"


def test_the_focus_is_never_lost(page: Page) -> None:
    here = "document.activeElement.id"
    page.evaluate("document.getElementById('aloud').checked = false")
    page.evaluate("document.getElementById('play-demo').focus()")
    page.press("Enter", "\r")
    page.wait_for(f"{here} === 'stop'")
    page.wait_for(ENDED)
    page.wait_for(f"{here} === 'play-demo'")


def test_the_focus_is_seen(page: Page) -> None:
    page.evaluate("document.activeElement.blur()")
    for _ in range(4):
        page.press("Tab")
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"


def test_arrow_keys_walk_the_timeline(page: Page) -> None:
    turns = [final(n, "AB"[n % 2]) for n in range(6)]
    show(page, turns, ("A", "B"))
    page.evaluate("document.querySelector('[role=option]').focus()")
    walked = []
    for key in ("End", "ArrowLeft", "ArrowUp", "ArrowDown", "Home", "ArrowRight", "ArrowRight"):
        page.press(key)
        walked.append(page.evaluate("shown.views.whyPanel.number"))
        label = page.evaluate("document.activeElement.getAttribute('aria-label')")
        assert label.startswith(f"{'AB'[walked[-1] % 2]}, 0:0{walked[-1]}.0 to ")
        chosen = "[...document.querySelectorAll('[aria-selected=true]')]"
        here = page.evaluate(f"{chosen}.map((one) => one === document.activeElement)")
        assert here == [True]
    assert walked == [5, 4, 4, 3, 0, 1, 2]


def test_the_timeline_follows_until_somebody_looks_back(page: Page) -> None:
    def reach(seconds: int) -> None:
        page.evaluate(f"shown.views.reach({seconds * 1_000})")
        settle(page)

    show(page, [final(0)])
    reach(120)
    track = "document.querySelector('.tracks')"
    at_end = f"{track}.scrollLeft + {track}.clientWidth >= {track}.scrollWidth - 2"
    back = "document.querySelector('.tools button')"
    assert page.evaluate(at_end)
    assert page.evaluate(f"{back}.hidden")
    page.evaluate(f"{track}.scrollLeft = 0")
    settle(page)
    reach(180)
    assert page.evaluate(f"{track}.scrollLeft") == 0
    assert not page.evaluate(f"{back}.hidden")
    page.evaluate(f"{back}.click()")
    settle(page)
    reach(240)
    assert page.evaluate(at_end)


def test_without_motion_nothing_moves(page: Page) -> None:
    moving = (
        "[...document.querySelectorAll('*')].filter((one) => "
        "getComputedStyle(one).transitionDuration !== '0s').length"
    )
    show(page, [final(0)])
    settle(page)
    assert page.evaluate(moving) > 0
    look(page, still=True)
    assert page.evaluate(moving) == 0


def test_a_phone_needs_no_scrolling_sideways(page: Page) -> None:
    size(page, 390, 844)
    play_demo_fast(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.click(".card:nth-child(2) button")
    settle(page)
    top = page.evaluate("document.getElementById('why').getBoundingClientRect().top")
    assert 0 <= top < 400, "what was asked for is in sight"
