"""Microseconds that traces cost an utterance: of the event loop's thread, and of all threads.

A session's events, made beforehand, are told to a trace again and again; spans go to a collector
on this machine that drops them. Times are of the processor, not of the clock on the wall.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from doubles import Stage, silence, speech
from fakes import toy_bundle

from emotrace_protocol.events import EmotionFinal
from emotrace_protocol.messages import SessionEnd, SessionStart
from emotrace_service.tracing import load_tracing

SESSIONS = 300  # more than the exporter can take in so short a time
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


class Drop(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


async def main(bundle: Path) -> None:
    sound = [speech(1.5), silence(1.0)] * 10
    heard = (
        await Stage(bundle, audio_queue_ms=60_000).play(SessionStart(), *sound, SessionEnd())
    ).heard
    finals = sum(isinstance(event, EmotionFinal) for event in heard)
    with HTTPServer(("127.0.0.1", 0), Drop) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        os.environ[ENDPOINT] = f"http://127.0.0.1:{server.server_port}"
        tracing = load_tracing(os.environ)
        assert tracing is not None
        begun, all_begun = time.thread_time(), time.process_time()
        for number in range(SESSIONS):
            trace = tracing.session(f"s{number}")
            for event in heard:
                trace.told(event)
            trace.end("client")
        own = time.thread_time() - begun
        tracing.close()
        every = time.process_time() - all_begun
        server.shutdown()
    utterances = SESSIONS * finals
    print(f"{utterances} utterances: {1e6 * own / utterances:.0f} µs of the event loop each,")
    print(f"{1e6 * every / utterances:.0f} µs with the exporter's thread and the collector's")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(main(toy_bundle(Path(folder) / "toy")))
