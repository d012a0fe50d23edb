"""What tests of the page do with it in a browser, beyond clicks."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from chromium import Page, chromium
from scripted_server import started

from emotrace_clients.demo import shipped
from emotrace_clients.turns import read_turns
from emotrace_protocol import Event, encode
from emotrace_protocol.events import SessionStarted
from emotrace_protocol.messages import AudioFormat, SessionStart

RATE = 16_000
LIVE = "document.getElementById('state').textContent.startsWith('Live')"
ENDED = "document.getElementById('state').textContent.startsWith('Ended')"
OVER = "document.getElementById('stop').hidden && !document.getElementById('play-demo').disabled"
SAID = "!document.getElementById('problem').hidden"


def choose(page: Page, menu: str, value: str) -> None:
    """An option of a menu, as a person chooses it."""
    page.evaluate(
        f"{{ const menu = document.getElementById({json.dumps(menu)});"
        f"menu.value = {json.dumps(value)}; menu.dispatchEvent(new Event('change')); }}"
    )


def play_demo_fast(page: Page) -> None:
    """The whole demo, unheard and as fast as the server takes it."""
    page.evaluate("document.getElementById('aloud').checked = false")
    page.click("#play-demo")
    page.wait_for(ENDED, 90)
    settle(page)


def stop(page: Page) -> None:
    """Ends the session, and waits for what is still to come of it."""
    page.click("#stop")
    page.wait_for(ENDED)
    settle(page)


def give_file(page: Page, path: Path) -> None:
    """A file that a person chose, unheard and as fast as the server takes it."""
    page.evaluate("document.getElementById('aloud').checked = false")
    root = page.call("DOM.getDocument")["root"]["nodeId"]
    node = page.call("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
    page.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])


def sound(path: Path, samples: npt.NDArray[Any], rate: int = RATE) -> Path:
    """A sound file of int16 or float samples; the format is that of its name."""
    soundfile.write(path, samples, rate)
    return path


def show(page: Page, events: Sequence[Event], speakers: tuple[str, ...] = ("A",)) -> None:
    """Events in the page's views, as if a server had sent them, after a session.started."""
    audio = AudioFormat(channels=len(speakers))
    first = SessionStarted(sequence=0, **started(SessionStart(audio=audio, speakers=speakers)))
    told = [json.loads(encode(event)) for event in (first, *events)]
    page.evaluate(
        """(async (events) => {
          const [{ Record }, { Views }] = await Promise.all([
            import("./record.js"), import("./views.js")]);
          const root = document.getElementById("views");
          const record = new Record();
          const views = new Views(root);
          document.getElementById("intro").hidden = true;
          root.hidden = false;
          for (const event of events) {
            const utterance = record.take(event);
            if (event.type === "session.started") views.begin(record);
            if (utterance !== null) views.show(utterance, event);
          }
          window.shown = { record, views };
          views.draw();
        })("""
        + json.dumps(told)
        + ")"
    )


@contextmanager
def downloads(page: Page, folder: Path) -> Iterator[None]:
    """Files that the page hands to the person go there."""
    folder.mkdir(exist_ok=True)
    page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    try:
        yield
    finally:
        page.call("Browser.setDownloadBehavior", behavior="default")


def saved(page: Page, button: str, folder: Path, ending: str) -> Path:
    """The file that a button of the page saves; see `downloads`."""
    before = set(folder.glob(f"*{ending}"))
    page.click(button)
    for _ in range(600):
        page.evaluate("new Promise((done) => setTimeout(done, 50))")
        if new := set(folder.glob(f"*{ending}")) - before:
            return new.pop()
    raise AssertionError(f"{button} saved nothing")


def look(page: Page, *, dark: bool = False, still: bool = False) -> None:
    """How the person has set up the system: dark, with little motion."""
    features = {
        "prefers-color-scheme": "dark" if dark else "light",
        "prefers-reduced-motion": "reduce" if still else "no-preference",
    }
    told = [{"name": name, "value": value} for name, value in features.items()]
    page.call("Emulation.setEmulatedMedia", features=told)


def size(page: Page, width: int, height: int, scale: float = 1) -> None:
    """The window's size; under 600 pixels it is a phone's."""
    page.call(
        "Emulation.setDeviceMetricsOverride",
        width=width,
        height=height,
        deviceScaleFactor=scale,
        mobile=width < 600,
    )


def axe() -> str:
    """The source of axe-core, from a package that carries it; else the test is skipped."""
    spec = find_spec("axe_playwright_python")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        return (Path(folder) / "axe.min.js").read_text(encoding="utf-8")
    pytest.skip("needs axe-core (pip install --no-deps axe-playwright-python)")


def violations(page: Page) -> list[str]:
    """What axe-core finds of serious or critical weight, as `rule: place, ...`."""
    page.evaluate(f"{axe()}; undefined")
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")["violations"]
    return [
        f"{one['id']}: {', '.join(str(node['target'][0]) for node in one['nodes'][:5])}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


def tab_stops(page: Page, most: int = 200) -> list[str]:
    """Where Tab stops, from the top of the document until it leaves it: ids, or texts."""
    page.evaluate("document.activeElement.blur(); window.getSelection().removeAllRanges()")
    stops: list[str] = []
    for _ in range(most):
        page.press("Tab")
        here = page.evaluate(
            "(() => { const one = document.activeElement; return one === document.body ? '' : "
            "one.id || one.getAttribute('role') || one.textContent.trim() || one.type; })()"
        )
        if not here or (stops and here == stops[0]):
            return stops
        stops.append(here)
    raise AssertionError("Tab does not come to an end")


def screenshot(page: Page, path: Path, height: int | None = None) -> None:
    """The page from its top, as high as it is or as told, in a palette of 256 colours."""
    from PIL import Image

    measured = page.call("Page.getLayoutMetrics")["cssContentSize"]
    clip = {"x": 0, "y": 0, "width": measured["width"], "height": height or measured["height"]}
    made = page.call(
        "Page.captureScreenshot",
        format="png",
        captureBeyondViewport=True,
        clip={**clip, "scale": 1},
    )
    path.write_bytes(base64.b64decode(made["data"]))
    with Image.open(path) as image:
        image.convert("RGB").quantize(256).save(path, optimize=True)


def turns_of_demo(
    order: Sequence[tuple[int, int]], pause_s: float = 0.8, lead_s: float = 0.5
) -> npt.NDArray[np.int16]:
    """Turns of the demo in another order, each (its number, its channel of two)."""
    samples, rate = soundfile.read(shipped.AUDIO, dtype="int16")
    turns = read_turns(shipped.TURNS)
    said = [np.zeros((int(lead_s * rate), 2), dtype=np.int16)]
    for number, channel in order:
        turn = turns[number]
        own = samples[
            (turn.start_ms - 50) * rate // 1_000 : (turn.end_ms + 50) * rate // 1_000,
            shipped.speakers().index(turn.speaker),
        ]
        piece = np.zeros((len(own) + int(pause_s * rate), 2), dtype=np.int16)
        piece[: len(own), channel] = own
        said.append(piece)
    return np.concatenate(said)


@contextmanager
def talking(folder: Path, order: Sequence[tuple[int, int]], *flags: str) -> Iterator[Page]:
    """A browser whose microphone plays turns of the demo (see `turns_of_demo`) over and over."""
    voice = sound(folder / "voice.wav", turns_of_demo(order))
    with chromium(folder / "profile", f"--use-file-for-fake-audio-capture={voice}", *flags) as page:
        yield page


def noise(seconds: float, seed: int = 0) -> npt.NDArray[np.float32]:
    """White noise at -20 dB."""
    generator = np.random.default_rng(seed)
    return (0.1 * generator.standard_normal(int(seconds * RATE))).astype(np.float32)


def settle(page: Page) -> None:
    """Two frames, after which nothing is still to be drawn."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
