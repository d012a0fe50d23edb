"""A Pipecat agent that hears how its user speaks.

    pip install 'emotrace[pipecat]' && emotrace-serve      # the server in another terminal
    python clients/examples/pipecat_bot.py                 # half a minute of the demo dialogue

Without accounts or devices: `Caller` stands for a transport and an STT service, and plays one of
the demo's speakers with her words. Where OPENAI_BASE_URL is set that language model answers (with
OPENAI_MODEL and OPENAI_API_KEY), else `Rules` does. The rest is what an agent of your own has.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from typing import Any

import soundfile
from loguru import logger
from pipecat.frames.frames import (
    EndFrame,
    Frame,
    InputAudioRawFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    ProposedUserStartedSpeakingFrame,
    ProposedUserStoppedSpeakingFrame,
    StartFrame,
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
from pipecat.turns.user_turn_strategies import ExternalUserTurnStrategies
from pipecat.workers.runner import WorkerRunner

from emotrace_clients import DEFAULT_URL
from emotrace_clients.demo import shipped
from emotrace_clients.integrations.listener import Listener
from emotrace_clients.integrations.pipecat import EmotraceContext, EmotraceTap
from emotrace_clients.turns import read_turns

CALLER = "Ann"
PIECE_MS = 20
STT_DELAY_MS = 300  # from the end of speech to its words
INSTRUCTIONS = (
    "You are a kind and brief voice assistant. Before each message of the user stands a machine's "
    "estimate of the emotion that voice and words express. It may be wrong: let it guide your "
    "tone, and never tell the user what they feel."
)


class Caller(FrameProcessor):
    """Stands for `transport.input(), stt`: a speaker of the demo, at the pace of time."""

    def __init__(self) -> None:
        super().__init__()
        self.finished = asyncio.Event()
        self._playing: asyncio.Task[None] | None = None

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        await self.push_frame(frame, direction)
        if isinstance(frame, StartFrame):
            self._playing = self.create_task(self._play())

    async def cleanup(self) -> None:
        await super().cleanup()
        if self._playing is not None:
            await self.cancel_task(self._playing)

    async def _play(self) -> None:
        samples, rate = soundfile.read(shipped.AUDIO, dtype="int16")
        samples = samples[:, shipped.speakers().index(CALLER)]
        turns = [turn for turn in read_turns(shipped.TURNS) if turn.speaker == CALLER]
        begun = asyncio.get_running_loop().time()
        for at_ms in range(0, len(samples) * 1000 // rate, PIECE_MS):
            piece = samples[at_ms * rate // 1000 : (at_ms + PIECE_MS) * rate // 1000]
            await self.push_frame(InputAudioRawFrame(piece.tobytes(), rate, 1))
            now = range(at_ms, at_ms + PIECE_MS)
            for turn in turns:
                if turn.start_ms in now:
                    await self.push_frame(ProposedUserStartedSpeakingFrame())
                if turn.end_ms + STT_DELAY_MS in now:
                    await self.push_frame(TranscriptionFrame(turn.text, "ann", "", finalized=True))
                    await self.push_frame(ProposedUserStoppedSpeakingFrame())
            ahead = begun + (at_ms + PIECE_MS) / 1000 - asyncio.get_running_loop().time()
            await asyncio.sleep(max(0.0, ahead))
        self.finished.set()


class Rules(FrameProcessor):
    """Stands for the LLM service where there is none."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if not isinstance(frame, LLMContextFrame):
            await self.push_frame(frame, direction)
            return
        estimate = last(frame.context, "developer")
        sad = "sadness" in estimate or "anger" in estimate or "fear" in estimate
        await self.push_frame(LLMFullResponseStartFrame())
        await self.push_frame(LLMTextFrame("I am here. Go on." if sad else "I see. Tell me more."))
        await self.push_frame(LLMFullResponseEndFrame())


def last(context: LLMContext, role: str) -> str:
    """The newest message of a role."""
    found = [one["content"] for one in context.get_messages() if one["role"] == role]
    return str(found[-1]) if found else "(none)"


def language_model() -> FrameProcessor:
    base_url = os.environ.get("OPENAI_BASE_URL")
    if not base_url:
        return Rules()
    settings = OpenAILLMService.Settings(
        model=os.environ.get("OPENAI_MODEL", "default"), system_instruction=INSTRUCTIONS
    )
    key = os.environ.get("OPENAI_API_KEY", "none")
    return OpenAILLMService(base_url=base_url, api_key=key, settings=settings)


async def run(emotrace_url: str) -> None:
    context = LLMContext()
    user, assistant = LLMContextAggregatorPair(
        context,
        user_params=LLMUserAggregatorParams(user_turn_strategies=ExternalUserTurnStrategies()),
    )

    @assistant.event_handler("on_assistant_turn_stopped")
    async def show(_: object, message: Any) -> None:
        print(f"{CALLER}: {last(context, 'user')}\n  {last(context, 'developer')}")
        print(f"Agent: {message.content}\n", flush=True)

    listener = Listener(emotrace_url)
    caller = Caller()
    pipeline = Pipeline(
        [
            caller,  # transport.input(), stt
            EmotraceTap(listener),
            user,
            EmotraceContext(listener),
            language_model(),  # then: tts, transport.output()
            assistant,
        ]
    )
    worker = PipelineWorker(pipeline)
    runner = WorkerRunner()
    await runner.add_workers(worker)
    running = asyncio.create_task(runner.run())
    finished = asyncio.create_task(caller.finished.wait())
    await asyncio.wait({running, finished}, return_when=asyncio.FIRST_COMPLETED)
    finished.cancel()
    await worker.queue_frame(EndFrame())
    await running


def main() -> None:
    parser = argparse.ArgumentParser(description="A Pipecat agent that hears how its user speaks.")
    parser.add_argument("--emotrace", default=DEFAULT_URL, help="the server's stream")
    options = parser.parse_args()
    logger.remove()
    logger.add(sys.stderr, level="WARNING")
    asyncio.run(run(options.emotrace))


if __name__ == "__main__":
    main()
