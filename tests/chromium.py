"""A headless Chromium, driven through its DevTools protocol: no driver program, no new package."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
    "--mute-audio",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--remote-debugging-port=0",
    "--window-size=1280,1000",
)


class Page:
    """One tab. complaints: what its console and its engine called an error."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._session: str | None = None
        self.complaints: list[str] = []
        (target,) = (
            one["targetId"]
            for one in self.call("Target.getTargets")["targetInfos"]
            if one["type"] == "page"
        )
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Runtime", "Log", "Page"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command and its answer."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        self._socket.send(json.dumps(message))
        while True:
            heard = json.loads(self._socket.recv(timeout=120))
            if heard.get("id") == number:
                assert "error" not in heard, heard["error"]
                result: dict[str, Any] = heard["result"]
                return result
            self._note(heard)

    def _note(self, heard: dict[str, Any]) -> None:
        method, told = heard.get("method"), heard.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(told["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning"):
            self.complaints.append(json.dumps(told["args"]))
        elif method == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            self.complaints.append(told["entry"]["text"])

    def visit(self, url: str) -> None:
        """Loads a page, scripts and all."""
        self.call("Page.navigate", url=url)
        self.wait_for(f"location.href === {json.dumps(url)} && document.readyState === 'complete'")

    def evaluate(self, expression: str) -> Any:
        """The value of an expression; a promise is waited for. Clicks count as a person's."""
        answer = self.call(
            "Runtime.evaluate",
            expression=expression,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, condition: str, seconds: float = 60) -> None:
        """Until a condition of the page holds."""
        script = (
            "new Promise((done) => { const until = Date.now() + %d; const look = () => { "
            "const holds = Boolean(%s); if (holds || Date.now() > until) done(holds); "
            "else setTimeout(look, 30); }; look(); })"
        )
        assert self.evaluate(script % (seconds * 1000, condition)), (
            f"not within {seconds} s: {condition}; the page says {self.texts('#state, #problem')}"
        )

    def texts(self, selector: str) -> list[str]:
        """What the elements say."""
        found = f"[...document.querySelectorAll({json.dumps(selector)})]"
        said: list[str] = self.evaluate(f"{found}.map((one) => one.textContent.trim())")
        return said

    def click(self, selector: str) -> None:
        self.evaluate(f"document.querySelector({json.dumps(selector)}).click()")

    def press(self, key: str, text: str = "") -> None:
        """A key, where the focus is."""
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, text=text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=key)

    def screenshot(self, path: Path) -> None:
        image = self.call("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(image))


@contextmanager
def chromium(profile: Path, *flags: str) -> Iterator[Page]:
    """Skips the test where Chromium is not installed."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("needs Chromium (make system-deps)")
    process = subprocess.Popen(
        [program, *FLAGS, *flags, f"--user-data-dir={profile}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        address = next(
            line.split()[-1] for line in process.stderr if line.startswith("DevTools listening on")
        )
        with connect(address, max_size=None, proxy=None, compression=None) as socket:
            yield Page(socket)
            socket.send(json.dumps({"id": 0, "method": "Browser.close"}))
            process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()
