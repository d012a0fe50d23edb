"""The chatbot example with a real Emotrace server: it hears the demo, answers, and joins in."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
import soundfile
import uvicorn
from chat_server import ANSWER, chat_server
from chromium import chromium
from eventually import eventually
from live import DEMO, LiveServer, demo_pcm, live_server, pieces
from websockets.asyncio.client import ClientConnection, connect

from emotrace_clients.demo import shipped
from emotrace_clients.turns import read_turns
from emotrace_models.bundle import bundle_path

EXAMPLE = Path(__file__).parents[2] / "clients/examples/chatbot.py"
NOWHERE = "ws://127.0.0.1:9/v1/stream"


@pytest.fixture(scope="module")
def chatbot() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("chatbot_example", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def emotrace() -> Iterator[LiveServer]:
    with live_server(bundle_path("default"), audio_queue_ms=10_000) as running:
        yield running


@contextmanager
def running(app: Any) -> Iterator[str]:
    """The address of the chatbot's talk."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the chatbot did not start"
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"ws://127.0.0.1:{port}/talk"
    finally:
        server.should_exit = True
        thread.join(30)


class Browser:
    """The user's side. told: every message of the chatbot."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.told: list[dict[str, Any]] = []

    async def read(self) -> None:
        async for message in self.socket:
            self.told.append(json.loads(message))

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [one for one in self.told if one["type"] == kind]

    def states(self, speaker: str) -> list[dict[str, Any]]:
        return [e["state"] for e in self.of("estimate") if e["state"]["speaker"] == speaker]


@asynccontextmanager
async def browsing(address: str) -> AsyncIterator[Browser]:
    async with connect(address, max_size=None) as socket:
        browser = Browser(socket)
        reading = asyncio.create_task(browser.read())
        try:
            yield browser
        finally:
            await socket.close()
            await reading


async def test_it_answers_each_turn_of_the_demo_and_joins_the_dialogue(
    chatbot: ModuleType, emotrace: LiveServer
) -> None:
    audio, sound = demo_pcm(channel=0)
    turns = [turn for turn in read_turns(shipped.TURNS) if turn.speaker == "Ann"]
    app = chatbot.create_app(emotrace.stream_url, chatbot.by_rules)
    with running(app) as address:
        async with browsing(f"{address}?rate={audio.sample_rate}") as browser:
            sent = 0
            for number, turn in enumerate(turns, 1):
                until = (turn.end_ms + 700) * audio.sample_rate // 1000 * 2
                for piece in pieces(sound[sent:until], 6_400):
                    await browser.socket.send(piece)
                sent = until
                await eventually(lambda count=number: len(browser.states("Bot")) == count)
            await browser.socket.send('{"end": true}')
            await browser.socket.wait_closed()
        user, bot = browser.states("User"), browser.states("Bot")
    assert [state["utterance"] for state in user] == [0, 2, 4, 6, 8]
    assert [state["utterance"] for state in bot] == [1, 3, 5, 7, 9]
    replies = [one["text"] for one in browser.of("reply")]
    assert [state["words"] for state in bot] == replies
    labels = [state["label"] for state in user]
    assert replies == [chatbot.RULES.get(label, "I see. Tell me more.") for label in labels]
    lines = [one["line"] for one in browser.of("estimate") if one["state"]["speaker"] == "User"]
    assert len(set(lines)) > 1
    assert all(line.startswith("Estimate of expressed emotion") for line in lines)
    assert browser.of("problem") == []


async def test_typed_lines_are_turns_too(chatbot: ModuleType, emotrace: LiveServer) -> None:
    app = chatbot.create_app(emotrace.stream_url, chatbot.by_rules)
    with running(app) as address:
        async with browsing(address) as browser:
            await browser.socket.send(json.dumps({"text": "I am so happy to see you!"}))
            await eventually(lambda: browser.states("Bot"))
            await browser.socket.send('{"end": true}')
            await browser.socket.wait_closed()
    (user,) = browser.states("User")
    assert (user["words"], user["modalities"]) == ("I am so happy to see you!", ["lexical"])


async def test_a_language_model_is_told_the_estimate_before_the_words(
    chatbot: ModuleType, emotrace: LiveServer
) -> None:
    with chat_server() as model:
        reply = chatbot.by_language_model(model.url, "test", "key")
        with running(chatbot.create_app(emotrace.stream_url, reply)) as address:
            async with browsing(address) as browser:
                for number, text in enumerate(("I hate you!", "I am so happy!"), 1):
                    await browser.socket.send(json.dumps({"text": text}))
                    await eventually(lambda count=number: len(browser.states("Bot")) == count)
    first, second = model.asked
    assert [one["role"] for one in first] == ["system", "system", "user"]
    assert "never tell the user what they feel" in first[0]["content"]
    assert first[1]["content"].startswith("Estimate of expressed emotion (by a machine")
    assert first[2]["content"] == "I hate you!"
    assert [one["content"] for one in second[1:3]] == ["I hate you!", ANSWER]
    assert second[-1]["content"] == "I am so happy!"
    assert second[-2]["content"] != first[1]["content"]
    assert [one["text"] for one in browser.of("reply")] == [ANSWER, ANSWER]


async def test_a_language_model_that_fails_is_told_and_the_chat_goes_on(
    chatbot: ModuleType, emotrace: LiveServer
) -> None:
    reply = chatbot.by_language_model("http://127.0.0.1:9/v1", "test", "key")
    with running(chatbot.create_app(emotrace.stream_url, reply)) as address:
        async with browsing(address) as browser:
            for number in (1, 2):
                await browser.socket.send(json.dumps({"text": "Hello."}))
                await eventually(lambda count=number: len(browser.of("problem")) == count)
            await browser.socket.send('{"end": true}')
            await browser.socket.wait_closed()
    assert "language model" in browser.of("problem")[0]["text"]


@pytest.mark.parametrize(
    ("query", "problem"), [("", "No server answers"), ("?rate=12345", "a sample rate is one of")]
)
async def test_what_cannot_begin_is_told(chatbot: ModuleType, query: str, problem: str) -> None:
    with running(chatbot.create_app(NOWHERE, chatbot.by_rules)) as address:
        async with browsing(address + query) as browser:
            await browser.socket.wait_closed()
    (told,) = browser.of("problem")
    assert problem in told["text"]


async def test_a_server_that_goes_away_is_told(chatbot: ModuleType, toy: Path) -> None:
    with ExitStack() as servers:
        server = servers.enter_context(live_server(toy, drain_timeout_ms=0))
        app = chatbot.create_app(server.stream_url, chatbot.by_rules)
        with running(app) as address:
            async with browsing(address) as browser:
                await browser.socket.send(json.dumps({"text": "Hello."}))
                await eventually(lambda: browser.states("User"))
                await asyncio.to_thread(servers.close)
                await eventually(lambda: browser.of("problem"))


def test_the_environment_chooses_who_answers(
    chatbot: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert chatbot.reply_from_environment() is chatbot.by_rules
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:11434/v1")
    assert chatbot.reply_from_environment() is not chatbot.by_rules


async def test_the_page_is_served_and_loads_nothing_from_elsewhere(chatbot: ModuleType) -> None:
    app = chatbot.create_app(NOWHERE, chatbot.by_rules)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app), base_url="http://chatbot"
    ) as http:
        page = (await http.get("/")).text
    assert "They do not say what a person feels" in page
    assert re.findall(r"(?:https?:)?//[\w.-]+\.[a-z]{2,}", page) == []
    assert "innerHTML" not in page


def test_the_page_hears_a_microphone_and_shows_the_answers(
    chatbot: ModuleType, emotrace: LiveServer, tmp_path: Path
) -> None:
    samples, rate = soundfile.read(DEMO, dtype="int16", stop=160_000)  # ten seconds: two turns
    wav = tmp_path / "ann.wav"
    soundfile.write(wav, samples[:, 0], rate)
    app = chatbot.create_app(emotrace.stream_url, chatbot.by_rules)
    with (
        running(app) as address,
        chromium(tmp_path / "profile", f"--use-file-for-fake-audio-capture={wav}%noloop") as page,
    ):
        page.visit(address.replace("ws://", "http://").replace("/talk", "/"))
        page.click("#speak")
        page.wait_for("document.querySelectorAll('#log .Bot').length >= 2")
        page.evaluate("document.getElementById('words').value = 'I am so happy!'")
        page.click("#say button")
        page.wait_for("document.querySelectorAll('#log .Bot').length >= 3")
        page.click("#end")
        page.wait_for("document.querySelector('#log li:last-child').textContent.includes('over')")
        assert any("I am so happy!" in text for text in page.texts("#log .User"))
        assert page.complaints == []
