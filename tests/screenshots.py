"""Takes the pictures of the page that the documentation shows: python tests/screenshots.py

The shipped bundle hears the demo at the pace of time; it takes a minute, and needs Chromium and
Pillow. Pictures go to docs/images.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from browsing import ENDED, look, screenshot, settle, size
from chromium import Page, chromium
from live import live_server

from emotrace_models.bundle import bundle_path

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
CHOSEN = 6  # an utterance with a dialogue before it
WIDE = (1280, 1180)
PHONE = (390, 844)


def take(page: Page, name: str, height: int) -> None:
    settle(page)
    path = IMAGES / f"page-{name}.png"
    screenshot(page, path, height)
    print(f"{path.name}: {path.stat().st_size // 1024} kB")


def main() -> None:
    server = live_server(bundle_path("default"), audio_queue_ms=10_000)
    with server as running, tempfile.TemporaryDirectory() as folder, chromium(Path(folder)) as page:
        size(page, *WIDE)
        page.visit(f"{running.url}/")
        page.click("#play-demo")
        page.wait_for(ENDED, 90)
        chosen = f".card:nth-child({CHOSEN + 1}) button"
        page.click(chosen)
        for name, dark in (("light", False), ("dark", True)):
            look(page, dark=dark)
            take(page, name, WIDE[1])
        look(page)
        size(page, *PHONE, scale=1.5)
        page.click(chosen)
        take(page, "phone", 2 * PHONE[1])


if __name__ == "__main__":
    main()
