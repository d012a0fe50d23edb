"""LiveKit Agents: an estimate of the user's expressed emotion beside the transcript and the prompt.

    class Assistant(EmotraceAgent):
        def __init__(self) -> None:
            super().__init__(listener=Listener(), instructions="You are a helpful voice assistant.")

    await session.start(agent=Assistant(), room=ctx.room)

The estimate goes into the context in `llm_node`, and not in `on_user_turn_completed`: by default
LiveKit begins to answer before a turn is over (preemptive generation), and throws away what it has
where that hook changes the context.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing
from dataclasses import replace
from importlib.metadata import version
from typing import Any

from livekit import rtc
from livekit.agents import (
    Agent,
    CloseEvent,
    ConversationItemAddedEvent,
    FlushSentinel,
    ModelSettings,
    Plugin,
    llm,
    stt,
)

from emotrace_clients.integrations.listener import Listener

METADATA = "emotrace"  # the key in SpeechData.metadata
logger = logging.getLogger("emotrace.livekit")


class EmotraceAgent(Agent):
    """An Agent that listens with Emotrace too, and is never held up by it.

    listener: of one user; agents that hand over to one another share it, and its session ends with
        the AgentSession. The others are those of Agent.

    Whoever overrides a node calls it of this class: `super().stt_node(...)`. A speech-to-speech
    model has neither node: there the estimate is in `listener.tracker`, if something feeds it.
    """

    def __init__(self, *, listener: Listener, **options: Any) -> None:
        super().__init__(**options)
        self.listener = listener

    async def stt_node(
        self, audio: AsyncIterable[rtc.AudioFrame], model_settings: ModelSettings
    ) -> AsyncGenerator[stt.SpeechEvent, None]:
        """What the STT gives, unchanged but for `metadata["emotrace"]` of final transcripts.

        That is the estimate of the turn as it is known then (SpeakerState as JSON).
        """
        session = self.session
        session.on("conversation_item_added", self._note_reply)
        session.once("close", self._note_close)
        try:
            heard = self._heard(audio)
            async with aclosing(Agent.default.stt_node(self, heard, model_settings)) as node:
                async for event in node:
                    yield self._noted(event)
        finally:
            session.off("conversation_item_added", self._note_reply)

    async def llm_node(
        self,
        chat_ctx: llm.ChatContext,
        tools: list[llm.Tool],
        model_settings: ModelSettings,
    ) -> AsyncGenerator[llm.ChatChunk | str | FlushSentinel, None]:
        """Asks the LLM with one system message more, before the user's words, in a copy."""
        line = await self.listener.line()
        told = chat_ctx if line is None else _with(chat_ctx, line)
        async with aclosing(Agent.default.llm_node(self, told, tools, model_settings)) as node:
            async for chunk in node:
                yield chunk

    async def _heard(self, audio: AsyncIterable[rtc.AudioFrame]) -> AsyncGenerator[rtc.AudioFrame]:
        async for frame in audio:
            self.listener.hear(frame.data.tobytes(), frame.sample_rate, frame.num_channels)
            yield frame

    def _note_reply(self, added: ConversationItemAddedEvent) -> None:
        if isinstance(added.item, llm.ChatMessage) and added.item.role == "assistant":
            self.listener.reply(added.item.text_content or "")

    def _note_close(self, _: CloseEvent) -> None:
        self._closing = asyncio.create_task(self.listener.close())

    def _noted(self, event: stt.SpeechEvent) -> stt.SpeechEvent:
        if event.type is not stt.SpeechEventType.FINAL_TRANSCRIPT or not event.alternatives:
            return event
        best, *others = event.alternatives
        self.listener.hear_words(best.text)
        known = self.listener.known()
        if known is None:
            return event
        metadata = {**(best.metadata or {}), METADATA: known.model_dump(mode="json")}
        return replace(event, alternatives=[replace(best, metadata=metadata), *others])


def _with(chat_ctx: llm.ChatContext, line: str) -> llm.ChatContext:
    copy = chat_ctx.copy()
    at = max(
        (
            number
            for number, item in enumerate(copy.items)
            if isinstance(item, llm.ChatMessage) and item.role == "user"
        ),
        default=len(copy.items),
    )
    copy.items.insert(at, llm.ChatMessage(role="system", content=[line]))
    return copy


class EmotracePlugin(Plugin):
    """What LiveKit lists among its plug-ins. It has no files to download."""

    def __init__(self) -> None:
        super().__init__(__name__, version("emotrace"), "emotrace", logger)


Plugin.register_plugin(EmotracePlugin())
