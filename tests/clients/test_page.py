"""The browser page as text: self-contained, it knows every event, and its parts fit together."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import emotrace_clients
from emotrace_clients import wording
from emotrace_protocol import NOTICE
from emotrace_protocol.events import EVENTS

PAGE = Path(emotrace_clients.__file__).parent / "browser"
SCRIPTS = sorted(PAGE.glob("*.js"))
STYLES = sorted(PAGE.glob("*.css"))
TEXTS = [*SCRIPTS, *STYLES, PAGE / "index.html", PAGE / "report.html"]
EMOTIONS = (
    "anger",
    "happiness",
    "sadness",
    "neutral",
    "fear",
    "disgust",
    "surprise",
    "boredom",
    "excitement",
    "frustration",
    "calm",
)


def test_there_is_a_page() -> None:
    assert len(SCRIPTS) >= 8
    assert (PAGE / "index.html").is_file()


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_nothing_comes_from_elsewhere(path: Path) -> None:
    text = path.read_text().replace("http://www.w3.org/2000/svg", "")  # a name, not an address
    assert re.findall(r"(?:https?:)?//[\w.-]+\.[a-z]{2,}", text) == []


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_no_text_becomes_markup(path: Path) -> None:
    dangerous = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function"
    assert re.findall(dangerous, path.read_text()) == []


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_what_is_imported_is_there(path: Path) -> None:
    for imported in re.findall(r'from "\./([^"]+)"', path.read_text()):
        assert (PAGE / imported).is_file(), imported


def test_the_page_knows_every_event() -> None:
    app = (PAGE / "app.js").read_text()
    nothing_to_show = {"marker.reached", "heartbeat", "session.resumed", "input.ack"}
    handled = set(re.findall(r'case "([a-z.]+)":', app))
    assert handled | nothing_to_show == set(EVENTS)
    for name in nothing_to_show:
        assert name in app


def test_the_page_has_the_words_of_the_terminal() -> None:
    script = (PAGE / "wording.js").read_text()
    for name, words in (("DOUBTS", wording.DOUBTS), ("NO_SPEECH", wording.NO_SPEECH)):
        table = re.search(rf"const {name} = \{{(.*?)\}};", script, re.DOTALL)
        assert table is not None
        assert dict(re.findall(r'(\w+): "([^"]+)"', table[1])) == words


def test_every_element_that_a_script_looks_for_is_in_the_page() -> None:
    ids = set(re.findall(r'id="([^"]+)"', (PAGE / "index.html").read_text()))
    wiring = "".join((PAGE / name).read_text() for name in ("app.js", "settings.js", "status.js"))
    wanted = set(re.findall(r'at\("([^"]+)"\)', wiring))
    assert len(wanted) > 20
    assert wanted <= ids


def test_the_notice_is_on_the_page_before_any_session() -> None:
    assert NOTICE in (PAGE / "index.html").read_text()


@pytest.mark.parametrize(("page", "default"), [("index.html", "'self'"), ("report.html", "'none'")])
def test_the_policy_forbids_foreign_scripts(page: str, default: str) -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', (PAGE / page).read_text())
    assert policy is not None
    assert f"default-src {default}" in policy[1]
    assert "unsafe" not in policy[1]


def test_the_report_carries_each_part_before_it_is_used() -> None:
    parts = re.findall(r"\{\{(\w+\.js)\}\}", (PAGE / "report.html").read_text())
    exported: list[str] = []
    for n, part in enumerate(parts):
        text = (PAGE / part).read_text()
        assert set(re.findall(r'from "\./([^"]+)"', text)) <= set(parts[:n]), part
        assert not re.search(r"^export (default|\{|\*|let|var)", text, re.MULTILINE), part
        assert "</script" not in text
        assert "<!--" not in text
        exported += re.findall(r"^export (?:async )?\w+ (\w+)", text, re.MULTILINE)
    assert len(exported) == len(set(exported)), "two parts export the same name"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_texts_stand_out_from_what_is_behind_them(theme: str) -> None:
    """Contrast of at least 4.5 (WCAG 2.2, 1.4.3), for every colour that carries text."""
    light, dark = re.findall(r":root \{([^}]+)\}", (PAGE / "views.css").read_text())
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", light if theme == "light" else dark))
    for text in ("ink", "soft", "accent", "trouble", "good", *EMOTIONS):
        for behind in ("card", "page"):
            assert contrast(colours[text], colours[behind]) >= 4.5, (text, behind)
    for behind in ("for", "against", "accent-page"):
        assert contrast(colours["ink"], colours[behind]) >= 4.5, behind
    assert contrast(colours["on-accent"], colours["accent"]) >= 4.5
    assert contrast(colours["trouble"], colours["trouble-page"]) >= 4.5


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
