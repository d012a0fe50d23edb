"""Pipecat: an estimate of the user's expressed emotion in the language model's context.

    listener = Listener("ws://127.0.0.1:8080/v1/stream")
    pipeline = Pipeline([
        transport.input(), stt,
        EmotraceTap(listener),        # the user's sound and words to Emotrace
        user_aggregator,
        EmotraceContext(listener),    # the estimate into the context, before the user's words
        llm, tts, transport.output(), assistant_aggregator,
    ])

Pipecat decides in the user aggregator that a turn is over, and sends the context on at once. That
frame alone is held, for `timeout_ms` at most: sound, words and turn-taking are never delayed, and
an interruption drops it like any answer that has not begun.
"""

from __future__ import annotations

from pipecat.frames.frames import (
    Frame,
    InputAudioRawFrame,
    LLMContextAssistantTurnFrame,
    LLMContextFrame,
    TranscriptionFrame,
)
from pipecat.processors.aggregators.llm_context import (
    LLMContext,
    LLMContextMessage,
    LLMSpecificMessage,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from emotrace_clients.integrations.listener import Listener


class EmotraceTap(FrameProcessor):
    """Between the STT service and the user aggregator: passes everything on, at once and unchanged.

    One user a pipeline, as with STT services. The session ends with the pipeline.
    """

    def __init__(self, listener: Listener) -> None:
        super().__init__()
        self._listener = listener

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            self._listener.hear(frame.audio, frame.sample_rate, frame.num_channels)
        elif isinstance(frame, TranscriptionFrame):
            self._listener.hear_words(frame.text)
        elif (
            isinstance(frame, LLMContextAssistantTurnFrame) and direction is FrameDirection.UPSTREAM
        ):
            self._listener.reply(frame.text)
        await self.push_frame(frame, direction)

    async def cleanup(self) -> None:
        await super().cleanup()
        await self._listener.close()


class EmotraceContext(FrameProcessor):
    """Between the user aggregator and the LLM service: a developer message with the estimate.

    Each of the user's turns gets one, in its place in the context, if there is an estimate in time.
    """

    def __init__(self, listener: Listener) -> None:
        super().__init__()
        self._listener = listener
        self._told: tuple[int, str] | None = None

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, LLMContextFrame) and direction is FrameDirection.DOWNSTREAM:
            turn = await self._listener.turn()
            if turn is not None:
                line = self._listener.tracker.prompt_line(self._listener.user)
                news = (turn.utterance, line)
                if frame.speculation:
                    _add(frame.context, line)  # to a copy: the context itself is still to be told
                elif news != self._told:
                    self._told = news
                    _add(frame.context, line)
        await self.push_frame(frame, direction)


def _add(context: LLMContext, line: str) -> None:
    """Before the user's words, so that these stay the last thing said."""
    messages = context.get_messages()
    last = messages[-1] if messages else None
    is_user = (
        last is not None and not isinstance(last, LLMSpecificMessage) and last.get("role") == "user"
    )
    at = len(messages) - 1 if is_user else len(messages)
    message: LLMContextMessage = {"role": "developer", "content": line}
    context.set_messages([*messages[:at], message, *messages[at:]])
