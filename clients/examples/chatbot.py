"""A chatbot that hears how its user speaks.

    python clients/examples/chatbot.py          # and open http://127.0.0.1:8090/

It needs `pip install 'emotrace[service]'` (FastAPI, uvicorn, httpx) and a running `emotrace-serve`.
The browser sends a microphone's sound, or typed lines; this program holds the session to Emotrace,
reads the events into an EmotionTracker, answers each of the user's turns, and adds its own answers
to the dialogue. By default it answers by rules. Where OPENAI_BASE_URL is set it asks that language
model (with OPENAI_MODEL and OPENAI_API_KEY) and tells it the tracker's line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from fastapi.responses import HTMLResponse
from pydantic import ValidationError

from emotrace_clients import DEFAULT_URL, ConnectionChange, EmotraceError, Session, connect
from emotrace_clients.tracker import EmotionTracker
from emotrace_clients.tracker_state import SpeakerState
from emotrace_protocol.events import EmotionFinal, MarkerReached
from emotrace_protocol.messages import AudioFormat

USER, BOT = "User", "Bot"
UNKNOWN = "(The words are not known.)"  # there is no transcriber
PAGE = Path(__file__).with_name("chatbot.html")
ADVICE = (
    "You are a kind and brief conversation partner. Before each message of the user stands a "
    "machine's estimate of the emotion that voice and words express. It may be wrong: let it guide "
    "your tone, and never tell the user what they feel."
)
RULES = {
    "anger": "That sounds important. What went wrong?",
    "disgust": "That sounds unpleasant. What happened?",
    "fear": "Take your time. What is the matter?",
    "happiness": "How nice! Tell me all about it.",
    "sadness": "I am sorry to hear that. Do you want to talk about it?",
    "surprise": "Oh! How did that come about?",
}


@dataclass(frozen=True)
class Turn:
    """What a reply is made from: the user's words (if any are known), and where the user stands."""

    words: str
    state: SpeakerState
    line: str


Message = dict[str, str]
Reply = Callable[[Turn, list[Message]], Awaitable[str]]


async def by_rules(turn: Turn, history: list[Message]) -> str:
    """A reply for each expressed emotion, and one for everything else."""
    return RULES.get(turn.state.label or "", "I see. Tell me more.")


def by_language_model(base_url: str, model: str, key: str) -> Reply:
    """Replies of a model behind an OpenAI-compatible address."""

    async def reply(turn: Turn, history: list[Message]) -> str:
        estimate = {"role": "system", "content": turn.line}
        said = {"role": "user", "content": turn.words or UNKNOWN}
        messages = [{"role": "system", "content": ADVICE}, *history, estimate, said]
        async with httpx.AsyncClient(timeout=60) as http:
            response = await http.post(
                f"{base_url.rstrip('/')}/chat/completions",
                json={"model": model, "messages": messages},
                headers={"Authorization": f"Bearer {key}"},
            )
        response.raise_for_status()
        return str(response.json()["choices"][0]["message"]["content"])

    return reply


def reply_from_environment() -> Reply:
    base_url = os.environ.get("OPENAI_BASE_URL")
    if not base_url:
        return by_rules
    model = os.environ.get("OPENAI_MODEL", "default")
    return by_language_model(base_url, model, os.environ.get("OPENAI_API_KEY", "none"))


@dataclass
class Chat:
    """One user. The browser is told what is estimated and answered."""

    browser: WebSocket
    session: Session
    changes: asyncio.Queue[ConnectionChange]
    reply: Reply
    tracker: EmotionTracker = field(default_factory=lambda: EmotionTracker(words=True))
    turns: asyncio.Queue[Turn | None] = field(default_factory=asyncio.Queue)
    history: list[Message] = field(default_factory=list)

    async def run(self) -> None:
        """Until the browser says that it ends, and everything is answered.

        Raises what ends it before: WebSocketDisconnect where the browser leaves, EmotraceError.
        """
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(self._watch())
            tasks.create_task(self._listen())
            tasks.create_task(self._answer())
            await self._read()
            watching.cancel()

    async def _listen(self) -> None:
        """From the browser: bytes are sound; `{"text": ...}` is a typed line; `{"end": true}`."""
        while True:
            message = await self.browser.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message["code"])
            if (sound := message.get("bytes")) is not None:
                await self.session.send_audio(sound)
                continue
            said = json.loads(message["text"])
            if said.get("end"):
                break
            await self.session.send_text(str(said["text"]), speaker=USER)
        await self.session.marker("heard")  # comes back after the estimates of all that was said

    async def _read(self) -> None:
        async for event in self.session:
            for shift in self.tracker.push(event):
                await self._tell(type="shift", text=str(shift))
            if isinstance(event, EmotionFinal):
                await self._judge(event)
            elif isinstance(event, MarkerReached):
                self.turns.put_nowait(None)

    async def _watch(self) -> None:
        """The connection to Emotrace broke, or is back."""
        while True:
            await self._tell(type="problem", text=(await self.changes.get()).message)

    async def _judge(self, final: EmotionFinal) -> None:
        state = self.tracker.state().of(final.speaker)
        assert state is not None, "a final estimate has a state"
        line = self.tracker.prompt_line(USER)
        await self._tell(type="estimate", state=state.model_dump(mode="json"), line=line)
        if final.speaker == USER:
            self.turns.put_nowait(Turn(state.words or "", state, line))

    async def _answer(self) -> None:
        while (turn := await self.turns.get()) is not None:
            try:
                text = await self.reply(turn, self.history)
            except httpx.HTTPError as error:
                await self._tell(type="problem", text=f"The language model fails: {error!r}")
                continue
            self.history.append({"role": "user", "content": turn.words or UNKNOWN})
            self.history.append({"role": "assistant", "content": text})
            await self._tell(type="reply", text=text)
            await self.session.send_text(text, speaker=BOT)
        await self.session.end()

    async def _tell(self, **message: Any) -> None:
        await self.browser.send_json(message)


def create_app(emotrace_url: str, reply: Reply) -> FastAPI:
    app = FastAPI()

    @app.get("/")
    def page() -> HTMLResponse:
        return HTMLResponse(PAGE.read_text(encoding="utf-8"))

    @app.websocket("/talk")
    async def talk(browser: WebSocket, rate: int = 16_000) -> None:
        await browser.accept()
        changes: asyncio.Queue[ConnectionChange] = asyncio.Queue()
        problems: list[str] = []
        left = False
        try:
            async with connect(
                emotrace_url,
                audio=AudioFormat(sample_rate=rate),
                speakers=(USER,),
                on_connection=changes.put_nowait,
            ) as session:
                await Chat(browser, session, changes, reply).run()
        except* WebSocketDisconnect:
            left = True
        except* (EmotraceError, ValidationError) as group:
            problems = [str(one) for one in group.exceptions]
        if not left:
            for problem in problems:
                await browser.send_json({"type": "problem", "text": problem})
            await browser.close()

    return app


def main() -> None:
    parser = argparse.ArgumentParser(description="A chatbot that hears how its user speaks.")
    parser.add_argument("--emotrace", default=DEFAULT_URL, help="the server's stream")
    parser.add_argument("--port", type=int, default=8090)
    options = parser.parse_args()
    uvicorn.run(create_app(options.emotrace, reply_from_environment()), port=options.port)


if __name__ == "__main__":
    main()
