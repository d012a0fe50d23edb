"""A server with the chat interface that language models are asked by. It notes what it is asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ANSWER = "I see. Tell me more."


@dataclass
class ChatServer:
    """asked: the messages of each request. url: up to `/chat/completions`."""

    url: str
    asked: list[list[dict[str, Any]]] = field(default_factory=list)


@contextmanager
def chat_server() -> Iterator[ChatServer]:
    asked: list[list[dict[str, Any]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(request["messages"])
            body = _streamed() if request.get("stream") else json.dumps(_whole())
            self.send_response(200 if self.path == "/v1/chat/completions" else 404)
            kind = "text/event-stream" if request.get("stream") else "application/json"
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *arguments: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield ChatServer(f"http://127.0.0.1:{server.server_address[1]}/v1", asked)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _whole() -> dict[str, Any]:
    message = {"role": "assistant", "content": ANSWER}
    return _completion({"message": message, "finish_reason": "stop"}, "chat.completion")


def _streamed() -> str:
    deltas = [
        {"delta": {"role": "assistant", "content": f"{word} "}, "finish_reason": None}
        for word in ANSWER.split(" ")
    ]
    chunks = [*deltas, {"delta": {}, "finish_reason": "stop"}]
    events = [json.dumps(_completion(one, "chat.completion.chunk")) for one in chunks]
    return "".join(f"data: {one}\n\n" for one in [*events, "[DONE]"])


def _completion(choice: dict[str, Any], kind: str) -> dict[str, Any]:
    choices = [{"index": 0, **choice}]
    return {"id": "chat-1", "object": kind, "created": 0, "model": "test", "choices": choices}
