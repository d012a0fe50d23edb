"""The real Pipecat with a real Emotrace server: the demo's Ann talks to an agent.

The recogniser is a stand-in that knows her words; the language model is Pipecat's own OpenAI
service, and what it is sent is what is looked at.
"""

from __future__ import annotations

import asyncio
import json
import logging
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # Pipecat imports Python's audioop
    pytest.importorskip(
        "pipecat.audio.utils", reason="needs Pipecat: `make test-integrations` sets it up"
    )

from agents import ANN, TAIL_MS, check_example, page_code, python, talk, until_up
from chat_server import ANSWER, ChatServer, chat_server
from eventually import eventually
from listening import NOWHERE, PATIENT_MS, PIECE, judge, read, speak
from pipecat.frames.frames import (
    EndFrame,
    Frame,
    InputAudioRawFrame,
    InterruptionFrame,
    LLMContextFrame,
    ProposedUserStartedSpeakingFrame,
    ProposedUserStoppedSpeakingFrame,
    TextFrame,
    TranscriptionFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.openai.llm import OpenAILLMService
from pipecat.tests.utils import SleepFrame, run_test
from pipecat.turns.user_turn_strategies import ExternalUserTurnStrategies
from pipecat.workers.runner import WorkerRunner
from scripted_server import Scripted, scripted

from emotrace_clients.integrations.listener import Listener
from emotrace_clients.integrations.pipecat import EmotraceContext, EmotraceTap
from emotrace_clients.turns import Turn

# Pipecat's dependencies use what their dependencies deprecate.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Recogniser(FrameProcessor):
    """An STT service with turn detection of its own, for a dialogue whose words are known."""

    def __init__(self, turns: list[Turn]) -> None:
        super().__init__()
        self._turns = turns
        self._heard_ms = 0

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        await self.push_frame(frame, direction)
        if not isinstance(frame, InputAudioRawFrame):
            return
        before = self._heard_ms
        self._heard_ms += frame.num_frames * 1000 // frame.sample_rate
        for turn in self._turns:
            if before <= turn.start_ms < self._heard_ms:
                await self.push_frame(ProposedUserStartedSpeakingFrame())
            if before <= turn.end_ms + TAIL_MS // 2 < self._heard_ms:
                await self.push_frame(TranscriptionFrame(turn.text, "user", "", finalized=True))
                await self.push_frame(ProposedUserStoppedSpeakingFrame())


@dataclass
class Bot:
    """A running agent."""

    worker: PipelineWorker
    listener: Listener
    chat: ChatServer
    replies: asyncio.Queue[str]
    context: LLMContext

    async def take(self, piece: bytes, rate: int) -> None:
        await self.worker.queue_frame(InputAudioRawFrame(piece, rate, 1))
        await asyncio.sleep(0)


@asynccontextmanager
async def bot(url: str, turns: list[Turn], **options: Any) -> AsyncIterator[Bot]:
    with chat_server() as chat:
        context = LLMContext()
        user, assistant = LLMContextAggregatorPair(
            context,
            user_params=LLMUserAggregatorParams(user_turn_strategies=ExternalUserTurnStrategies()),
        )
        replies: asyncio.Queue[str] = asyncio.Queue()

        @assistant.event_handler("on_assistant_turn_stopped")
        async def stopped(_: object, message: Any) -> None:
            replies.put_nowait(message.content)

        listener = Listener(url, **options)
        pipeline = Pipeline(
            [
                Recogniser(turns),
                EmotraceTap(listener),
                user,
                EmotraceContext(listener),
                OpenAILLMService(api_key="none", base_url=chat.url),
                assistant,
            ]
        )
        worker = PipelineWorker(pipeline, cancel_on_idle_timeout=False)
        started = asyncio.Event()

        @worker.event_handler("on_pipeline_started")
        async def ready(*_: object) -> None:
            started.set()

        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(worker)
        running = asyncio.create_task(runner.run())
        await asyncio.wait_for(started.wait(), 120)
        try:
            yield Bot(worker, listener, chat, replies, context)
        finally:
            await worker.queue_frame(EndFrame())
            await asyncio.wait_for(running, 120)
        assert listener._task is None, "the session did not end with the pipeline"


def lines(messages: list[dict[str, Any]]) -> list[str]:
    return [one["content"] for one in messages if one["role"] == "developer"]


async def test_each_answer_is_asked_for_with_the_estimate_of_the_turn(emotrace_url: str) -> None:
    async with bot(emotrace_url, ANN, timeout_ms=PATIENT_MS) as agent:
        await until_up(agent.listener)
        assert await talk(agent, 3) == [ANSWER] * 3
        state = agent.listener.tracker.state()
    assert len(agent.chat.asked) == 3
    for number, (messages, turn) in enumerate(zip(agent.chat.asked, ANN, strict=False), 1):
        assert messages[-1] == {"role": "user", "content": turn.text}
        assert messages[-2]["role"] == "developer"
        assert len(lines(messages)) == number
        assert messages[-2]["content"].startswith("Estimate of expressed emotion (by a machine")
        assert '"User" ' in messages[-2]["content"]
        assert "Agent" not in messages[-2]["content"]
        assert turn.text not in messages[-2]["content"]
    assert len({messages[-2]["content"] for messages in agent.chat.asked}) > 1
    assert {one.speaker for one in state.speakers} == {"User", "Agent"}
    user = state.of("User")
    assert user is not None
    assert "lexical" in user.modalities  # the recogniser's words reached the estimate
    assert not user.interim


async def test_without_emotrace_the_agent_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    async with bot(NOWHERE, ANN, timeout_ms=PATIENT_MS) as agent:
        assert await talk(agent, 2) == [ANSWER] * 2
    for messages in agent.chat.asked:
        assert lines(messages) == []
        assert messages[-1]["role"] == "user"
    warnings = [one for one in caplog.records if one.name == "emotrace.listener"]
    assert [one.levelname for one in warnings if one.levelno >= logging.WARNING] == ["WARNING"]


async def test_a_server_that_is_too_slow_is_not_waited_for() -> None:
    async def script(server: Scripted) -> None:
        await server.start()
        await speak(server, 0)
        await server.serve_until_end()

    async with scripted(script) as url, bot(url, ANN, timeout_ms=1) as agent:
        assert await talk(agent, 2) == [ANSWER] * 2
    assert [lines(messages) for messages in agent.chat.asked] == [[], []]


async def test_the_tap_passes_every_frame_on_as_it_is() -> None:
    sent = [
        InputAudioRawFrame(bytes(640), 16_000, 1),
        TranscriptionFrame("Hello.", "user", "", finalized=True),
        TextFrame("and so on"),
    ]
    down, _ = await run_test(EmotraceTap(Listener(NOWHERE)), frames_to_send=sent)
    assert {id(frame) for frame in sent} <= {id(frame) for frame in down}
    texts = [frame for frame in down if isinstance(frame, TextFrame)]
    assert [id(frame) for frame in texts] == [id(frame) for frame in sent[1:]]


async def test_an_interruption_ends_the_wait() -> None:
    """The context that is held is dropped, like an answer that is interrupted."""

    async def script(server: Scripted) -> None:
        await server.start()
        await speak(server, 0)
        await read(server)

    async with scripted(script) as url:
        listener = Listener(url, timeout_ms=PATIENT_MS)
        listener.hear(PIECE, 16_000)
        await eventually(lambda: listener.user_turn.unjudged)
        frames = [
            LLMContextFrame(LLMContext()),
            SleepFrame(),
            InterruptionFrame(),
            TextFrame("next"),
        ]
        down, _ = await run_test(EmotraceContext(listener), frames_to_send=frames)
        await listener.close()
    assert [type(frame) for frame in down] == [InterruptionFrame, TextFrame]


async def test_a_turn_that_is_asked_twice_is_told_once() -> None:
    async def script(server: Scripted) -> None:
        await server.start()
        await speak(server, 0)
        await judge(server, 0)
        await read(server)

    context = LLMContext([{"role": "user", "content": "Well."}])
    copy = LLMContext([{"role": "user", "content": "Well."}])
    async with scripted(script) as url:
        listener = Listener(url, timeout_ms=PATIENT_MS)
        listener.hear(PIECE, 16_000)
        await eventually(lambda: listener.user_turn.judged == 0)
        frames = [
            LLMContextFrame(copy, speculation=True),
            LLMContextFrame(context),
            LLMContextFrame(context),
        ]
        await run_test(EmotraceContext(listener), frames_to_send=frames)
        await listener.close()
    for one in (context, copy):
        roles = [json.loads(json.dumps(message))["role"] for message in one.get_messages()]
        assert roles == ["developer", "user"]


def test_the_page_s_code_runs() -> None:
    python("-c", page_code("pipecat"))


@pytest.mark.long  # half a minute, at the pace of time
def test_the_example_plays_the_demo(emotrace_url: str) -> None:
    check_example("pipecat_bot.py", "--emotrace", emotrace_url)
