"""A backend without sockets: it receives the server's webhook and keeps each dialogue's state.

    export EMOTRACE_WEBHOOK_SECRET=whsec_...                  # the same for both
    python clients/examples/webhook_receiver.py               # listens on 127.0.0.1:8091
    EMOTRACE_WEBHOOK_URL=http://127.0.0.1:8091/emotrace emotrace-serve

It needs `pip install 'emotrace[service]'` (FastAPI, uvicorn). `GET /dialogues` tells the states.
Several secrets with commas between them all count, while one takes another's place.
"""

from __future__ import annotations

import os
import sys
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response

from emotrace_clients.tracker import EmotionTracker
from emotrace_clients.webhook import WebhookFault, WebhookRefused, read_event, verify

MAX_BODY_BYTES = 1024 * 1024
REMEMBERED = 10_000  # deliveries: one that comes again is answered and not counted
DIALOGUES = 1_000
STATUS = {WebhookFault.SECRET_INVALID: 500, WebhookFault.BODY_INVALID: 422}
UNAUTHORISED = 401


def create_app(secrets: Sequence[str]) -> FastAPI:
    app = FastAPI()
    seen: OrderedDict[str, None] = OrderedDict()
    dialogues: OrderedDict[str, EmotionTracker] = OrderedDict()

    @app.post("/emotrace")
    async def receive(request: Request) -> Response:
        body = b""
        async for piece in request.stream():
            body += piece
            if len(body) > MAX_BODY_BYTES:
                return Response(status_code=413)
        try:
            delivery = verify(secrets, request.headers, body)
            if delivery.id in seen:
                return Response(status_code=204)
            session, event = read_event(body)
        except WebhookRefused as refused:
            print(f"refused: {refused}", file=sys.stderr)
            return Response(status_code=STATUS.get(refused.fault, UNAUTHORISED))
        seen[delivery.id] = None
        if event.type == "session.ended" and event.reason == "deleted":
            dialogues.pop(session, None)  # this is the last that is told of it
            return Response(status_code=204)
        dialogues.setdefault(session, EmotionTracker()).push(event)  # it gives the shifts
        dialogues.move_to_end(session)
        for kept, most in ((seen, REMEMBERED), (dialogues, DIALOGUES)):
            while len(kept) > most:
                kept.popitem(last=False)
        return Response(status_code=204)

    @app.get("/dialogues")
    def states() -> dict[str, Any]:
        return {
            session: tracker.state().model_dump(mode="json")
            for session, tracker in dialogues.items()
        }

    return app


def main() -> None:
    secrets = [one for one in os.environ.get("EMOTRACE_WEBHOOK_SECRET", "").split(",") if one]
    if not secrets:
        sys.exit("Set EMOTRACE_WEBHOOK_SECRET to the secret that the server signs with.")
    uvicorn.run(create_app(secrets), port=8091)


if __name__ == "__main__":
    main()
