"""A server with the toy bundle, and its page in a browser; some tests have their own of either."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Page, chromium
from live import LiveServer, live_server


@pytest.fixture(scope="module")
def server(toy: Path) -> Iterator[LiveServer]:
    with live_server(toy, audio_queue_ms=10_000) as running:
        yield running


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium(tmp_path_factory.mktemp("browser") / "profile") as page:
        yield page


@pytest.fixture
def page(browser: Page, server: LiveServer) -> Page:
    browser.visit(f"{server.url}/")
    browser.complaints.clear()
    return browser
