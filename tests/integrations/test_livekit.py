"""The real LiveKit Agents with a real Emotrace server: the demo's Ann talks to an agent.

A whole AgentSession without a room: sound comes from its audio input, the recogniser is a stand-in
that knows her words, and the language model notes what it is asked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

pytest.importorskip(
    "livekit.agents", reason="needs LiveKit Agents: pip install 'emotrace[livekit]'"
)

from agents import ANN, TAIL_MS, check_example, page_code, python, talk, until_up
from eventually import eventually
from listening import NOWHERE, PATIENT_MS, speak
from livekit import rtc
from livekit.agents import AgentSession, APIConnectOptions, Plugin, llm, stt
from livekit.agents.voice.io import AudioInput
from scripted_server import Scripted, scripted

from emotrace_clients.integrations.listener import Listener
from emotrace_clients.integrations.livekit import METADATA, EmotraceAgent
from emotrace_clients.tracker_state import SpeakerState
from emotrace_clients.turns import Turn

ANSWER = "I see. Tell me more."
ORIGINAL = {"provider": "test"}


class Recogniser(stt.STT):
    """A streaming recogniser with turn detection, for a dialogue whose words are known."""

    def __init__(self, turns: list[Turn]) -> None:
        super().__init__(capabilities=stt.STTCapabilities(streaming=True, interim_results=False))
        self.turns = turns

    async def _recognize_impl(self, *_: Any, **__: Any) -> stt.SpeechEvent:
        raise NotImplementedError

    def stream(self, *, conn_options: APIConnectOptions, **_: Any) -> stt.RecognizeStream:
        return Recognising(stt=self, conn_options=conn_options, turns=self.turns)


class Recognising(stt.RecognizeStream):
    def __init__(self, turns: list[Turn], **options: Any) -> None:
        super().__init__(**options)
        self._turns = turns

    async def _run(self) -> None:
        heard_ms = 0.0
        async for frame in self._input_ch:
            if not isinstance(frame, rtc.AudioFrame):
                continue
            before, heard_ms = heard_ms, heard_ms + 1000 * frame.duration
            for turn in self._turns:
                if before <= turn.start_ms < heard_ms:
                    self._say(stt.SpeechEventType.START_OF_SPEECH)
                if before <= turn.end_ms + TAIL_MS / 2 < heard_ms:
                    data = stt.SpeechData(
                        language="en", text=turn.text, confidence=0.9, metadata=dict(ORIGINAL)
                    )
                    self._say(stt.SpeechEventType.FINAL_TRANSCRIPT, data)
                    self._say(stt.SpeechEventType.END_OF_SPEECH)

    def _say(self, kind: stt.SpeechEventType, *data: stt.SpeechData) -> None:
        self._event_ch.send_nowait(stt.SpeechEvent(type=kind, alternatives=list(data)))


class Model(llm.LLM):
    """asked: the context of each request, as (role, text)."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[list[tuple[str, str]]] = []

    def chat(self, *, chat_ctx: llm.ChatContext, **options: Any) -> llm.LLMStream:
        self.asked.append([(one.role, one.text_content or "") for one in chat_ctx.messages()])
        return Answering(
            self,
            chat_ctx=chat_ctx,
            tools=options.get("tools") or [],
            conn_options=options["conn_options"],
        )


class Answering(llm.LLMStream):
    async def _run(self) -> None:
        delta = llm.ChoiceDelta(role="assistant", content=ANSWER)
        self._event_ch.send_nowait(llm.ChatChunk(id="1", delta=delta))


class Microphone(AudioInput):
    def __init__(self) -> None:
        super().__init__(label="test")
        self.frames: asyncio.Queue[rtc.AudioFrame] = asyncio.Queue()

    async def __anext__(self) -> rtc.AudioFrame:
        return await self.frames.get()


@dataclass
class Call:
    """A running session."""

    session: AgentSession[None]
    listener: Listener
    model: Model
    microphone: Microphone
    replies: asyncio.Queue[str]
    finals: list[stt.SpeechData] = field(default_factory=list)

    async def take(self, piece: bytes, rate: int) -> None:
        self.microphone.frames.put_nowait(rtc.AudioFrame(piece, rate, 1, len(piece) // 2))
        await eventually(self.microphone.frames.empty)


@asynccontextmanager
async def call(url: str, turns: list[Turn], **options: Any) -> AsyncIterator[Call]:
    listener, model, microphone = Listener(url, **options), Model(), Microphone()
    replies: asyncio.Queue[str] = asyncio.Queue()
    finals: list[stt.SpeechData] = []

    class Assistant(EmotraceAgent):
        async def stt_node(self, audio: Any, model_settings: Any) -> AsyncIterator[stt.SpeechEvent]:
            async for event in super().stt_node(audio, model_settings):
                if event.type is stt.SpeechEventType.FINAL_TRANSCRIPT:
                    finals.append(event.alternatives[0])
                yield event

    session: AgentSession[None] = AgentSession(
        stt=Recogniser(turns),
        llm=model,
        vad=None,
        turn_handling={
            "turn_detection": "stt",
            "endpointing": {"min_delay": 0.0, "max_delay": 0.0},
        },
    )

    @session.on("conversation_item_added")
    def added(event: Any) -> None:
        if isinstance(event.item, llm.ChatMessage) and event.item.role == "assistant":
            replies.put_nowait(event.item.text_content)

    session.input.audio = microphone
    await session.start(
        Assistant(listener=listener, instructions="Be kind."), session_host=False, record=False
    )
    try:
        yield Call(session, listener, model, microphone, replies, finals)
    finally:
        await session.aclose()
    await asyncio.sleep(0)
    assert listener._task is None, "Emotrace's session did not end with the agent's"


def estimates(asked: list[tuple[str, str]]) -> list[int]:
    """Where in a request there is one."""
    return [n for n, (_, text) in enumerate(asked) if text.startswith("Estimate of expressed")]


async def test_each_answer_is_asked_for_with_the_estimate_of_the_turn(
    emotrace_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with call(emotrace_url, ANN, timeout_ms=PATIENT_MS) as caller:
        await until_up(caller.listener)
        assert await talk(caller, 3) == [ANSWER] * 3
        state = caller.listener.tracker.state()
        history = caller.session.history.messages()
    assert len(caller.model.asked) == 3  # no answer that was begun early was thrown away
    assert "invalidated" not in caplog.text
    lines = []
    for asked, turn in zip(caller.model.asked, ANN, strict=False):
        assert asked[-1] == ("user", turn.text)
        assert estimates(asked) == [len(asked) - 2]
        assert asked[-2][0] == "system"
        lines.append(asked[-2][1])
    assert all('"User" ' in line and "Agent" not in line for line in lines)
    assert len(set(lines)) > 1
    assert estimates([(one.role, one.text_content or "") for one in history]) == []
    assert {one.speaker for one in state.speakers} == {"User", "Agent"}
    user = state.of("User")
    assert user is not None
    assert "lexical" in user.modalities  # the recogniser's words reached the estimate


async def test_final_transcripts_carry_what_is_known_and_are_else_unchanged(
    emotrace_url: str,
) -> None:
    async with call(emotrace_url, ANN, timeout_ms=PATIENT_MS) as caller:
        await until_up(caller.listener)
        await talk(caller, 2)
        # What follows comes when the estimate of the second turn is known.
        again = stt.SpeechEvent(
            type=stt.SpeechEventType.FINAL_TRANSCRIPT,
            request_id="r",
            alternatives=[
                stt.SpeechData(language="en", text="", metadata=dict(ORIGINAL)),
                stt.SpeechData(language="de", text="other"),
            ],
        )
        caller.listener.user_turn._answered = -1
        agent = caller.session.current_agent
        assert isinstance(agent, EmotraceAgent)
        noted = agent._noted(again)
    assert [one.text for one in caller.finals] == [turn.text for turn in ANN[:2]]
    assert [one.confidence for one in caller.finals] == [0.9, 0.9]
    for one in caller.finals:
        assert one.metadata is not None
        assert one.metadata["provider"] == "test"
    best, other = noted.alternatives
    assert best.metadata is not None
    assert best.metadata["provider"] == "test"
    assert SpeakerState.model_validate(best.metadata[METADATA]).speaker == "User"
    assert (noted.request_id, other.text, other.metadata) == ("r", "other", None)
    assert again.alternatives[0].metadata == ORIGINAL  # what the recogniser gave is untouched


async def test_without_emotrace_the_agent_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    async with call(NOWHERE, ANN, timeout_ms=PATIENT_MS) as caller:
        assert await talk(caller, 2) == [ANSWER] * 2
    assert [estimates(asked) for asked in caller.model.asked] == [[], []]
    assert [one.metadata for one in caller.finals] == [ORIGINAL, ORIGINAL]
    warnings = [one for one in caplog.records if one.name == "emotrace.listener"]
    assert [one.levelname for one in warnings if one.levelno >= logging.WARNING] == ["WARNING"]


async def test_a_server_that_is_too_slow_is_not_waited_for() -> None:
    async def script(server: Scripted) -> None:
        await server.start()
        await speak(server, 0)
        await server.serve_until_end()

    async with scripted(script) as url, call(url, ANN, timeout_ms=1) as caller:
        assert await talk(caller, 2) == [ANSWER] * 2
    assert [estimates(asked) for asked in caller.model.asked] == [[], []]


async def test_a_typed_turn_waits_for_nothing() -> None:
    async def script(server: Scripted) -> None:
        await server.start()
        await server.serve_until_end()

    async with scripted(script) as url, call(url, [], timeout_ms=PATIENT_MS) as caller:
        await until_up(caller.listener)
        await asyncio.wait_for(caller.session.run(user_input="Hello, in writing."), 120)
    (asked,) = caller.model.asked
    assert asked[-1] == ("user", "Hello, in writing.")
    assert estimates(asked) == []


def test_it_is_among_livekit_s_plug_ins() -> None:
    (found,) = [one for one in Plugin.registered_plugins if one.package == "emotrace"]
    assert found.version
    assert found.title == "emotrace_clients.integrations.livekit"


def test_the_page_s_code_runs() -> None:
    python("-c", page_code("livekit"))


@pytest.mark.long  # half a minute, at the pace of time
def test_the_example_plays_the_demo(emotrace_url: str) -> None:
    check_example("livekit_agent.py", "demo", emotrace_url)
