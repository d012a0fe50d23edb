"""A session's events reach a real backend: signed, complete, in order, also over a bad moment; and
not, once the session is deleted."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from eventually import eventually
from live import demo_pcm, live_server, pieces, stream, talk

from emotrace_clients.webhook import verify
from emotrace_protocol.messages import SessionDelete, SessionStart

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
KINDS = {
    "session.started", "emotion.final", "emotion.revised", "speech.rejected", "session.ended"
}  # fmt: skip


class Backend:
    """It verifies what comes, and is out of order for the first post. patience_s: until it wants to
    be asked again."""

    def __init__(self, patience_s: int = 0) -> None:
        self.got: list[dict[str, Any]] = []
        self.attempts = 0
        self.patience_s = patience_s

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
            self.send_header("retry-after", str(backend.patience_s))
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


async def test_what_waits_of_a_deleted_session_reaches_nobody(toy: Path) -> None:
    backend = Backend(patience_s=120)
    audio, pcm = demo_pcm(12.0)
    with (
        listening(backend) as url,
        live_server(toy, webhook_url=url, webhook_secret=SECRET, drain_timeout_ms=0) as server,
    ):
        async with talk(server) as client:
            await client.say(SessionStart(audio=audio), *pieces(pcm))
            for _ in range(2):
                await client.until("emotion.final")
            waiting = server.metric("emotrace_webhook_waiting")
            assert waiting >= 3
            assert backend.got == []
            await client.say(SessionDelete())
            began = time.monotonic()
            await eventually(lambda: backend.got and not server.metric("emotrace_webhook_waiting"))
            assert time.monotonic() - began <= 1.0
            await client.closed()
    (only,) = backend.got
    assert (only["type"], only["data"]["reason"]) == ("session.ended", "deleted")
    assert set(only["data"]) == {"session", "sequence", "reason", "totals"}
    assert server.metric("emotrace_webhook_events_total", result="deleted") >= waiting
    assert server.metric("emotrace_webhook_retries_total") == 0
