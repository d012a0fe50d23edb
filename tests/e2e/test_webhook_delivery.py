"""A session's events reach a real backend: signed, complete, in order, also over a bad moment."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from live import demo_pcm, live_server, pieces, stream

from emotrace_clients.webhook import verify
from emotrace_protocol.messages import SessionStart

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
KINDS = {
    "session.started", "emotion.final", "emotion.revised", "speech.rejected", "session.ended"
}  # fmt: skip


class Backend:
    """It verifies what comes, and is out of order for the first post."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.attempts = 0

    def take(self, headers: dict[str, str], body: bytes) -> int:
        verify(SECRET, headers, body)  # raises
        self.attempts += 1
        if self.attempts == 1:
            return 503
        self.got.append(json.loads(body))
        return 204


@contextmanager
def listening(backend: Backend) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            self.send_response(backend.take(dict(self.headers), body))
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/hook"
        finally:
            server.shutdown()
            thread.join()


async def test_a_backend_gets_what_the_client_gets(toy: Path) -> None:
    backend = Backend()
    audio, pcm = demo_pcm()
    with (
        listening(backend) as url,
        live_server(toy, webhook_url=url, webhook_secret=SECRET, drain_timeout_ms=20_000) as server,
    ):
        started, heard, _ = await stream(server, SessionStart(audio=audio), pieces(pcm))
    # The server has ended, so all is delivered.
    expected = [event.model_dump(mode="json") for event in heard if event.type in KINDS]
    for event, post in zip(expected, backend.got, strict=True):
        kind = event.pop("type")
        assert post["type"] == kind
        assert post["data"] == {"session": started.session, **event}
    assert {"emotion.final", "emotion.revised"} <= {post["type"] for post in backend.got}
    assert backend.attempts == len(expected) + 1
    assert server.metric("emotrace_webhook_events_total", result="delivered") == len(expected)
    assert server.metric("emotrace_webhook_retries_total") == 1
