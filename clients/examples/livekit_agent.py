"""A LiveKit agent that hears how its user speaks.

    pip install 'emotrace[livekit]' && emotrace-serve      # the server in another terminal
    python clients/examples/livekit_agent.py demo          # half a minute of the demo dialogue
    python clients/examples/livekit_agent.py console       # your own voice; `dev`, `start`: rooms

`demo` needs no account and no device: a speaker of the demo stands for the microphone and the STT,
and rules for the language model. The others are LiveKit's own commands. They need an account with
LiveKit (LIVEKIT_URL, LIVEKIT_API_KEY, LIVEKIT_API_SECRET), which reaches models by their names.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import soundfile
from livekit import rtc
from livekit.agents import AgentServer, AgentSession, APIConnectOptions, JobContext, cli, llm, stt
from livekit.agents.voice.io import AudioInput

from emotrace_clients import DEFAULT_URL
from emotrace_clients.demo import shipped
from emotrace_clients.integrations.listener import Listener
from emotrace_clients.integrations.livekit import EmotraceAgent
from emotrace_clients.turns import read_turns

CALLER = "Ann"
PIECE_MS = 20
STT_DELAY_MS = 300  # from the end of speech to its words
INSTRUCTIONS = (
    "You are a kind and brief voice assistant. Before each message of the user stands a machine's "
    "estimate of the emotion that voice and words express. It may be wrong: let it guide your "
    "tone, and never tell the user what they feel."
)

server = AgentServer()


class Assistant(EmotraceAgent):
    """An agent of your own: its nodes, tools and hooks are those of LiveKit's Agent."""

    def __init__(self, emotrace_url: str = DEFAULT_URL) -> None:
        super().__init__(listener=Listener(emotrace_url), instructions=INSTRUCTIONS)


@server.rtc_session()
async def answer(ctx: JobContext) -> None:
    session: AgentSession[None] = AgentSession(
        stt="deepgram/nova-3", llm="openai/gpt-4.1-mini", tts="cartesia/sonic-3"
    )
    await session.start(agent=Assistant(), room=ctx.room)
    await session.generate_reply(instructions="Greet the user.")


class CallerMicrophone(AudioInput):
    """One speaker of the demo, at the pace of time."""

    def __init__(self) -> None:
        super().__init__(label="demo")
        samples, self.rate = soundfile.read(shipped.AUDIO, dtype="int16")
        self.samples = samples[:, shipped.speakers().index(CALLER)]
        self.finished = asyncio.Event()
        self._at = 0
        self._begun_s = 0.0

    async def __anext__(self) -> rtc.AudioFrame:
        now_s = asyncio.get_running_loop().time()
        self._begun_s = self._begun_s or now_s
        await asyncio.sleep(max(0.0, self._begun_s + self._at / self.rate - now_s))
        piece = self.samples[self._at : self._at + PIECE_MS * self.rate // 1000]
        if not len(piece):
            self.finished.set()
            raise StopAsyncIteration
        self._at += len(piece)
        return rtc.AudioFrame(piece.tobytes(), self.rate, 1, len(piece))


class CallerWords(stt.STT):
    """Stands for a recogniser with turn detection: it knows what the demo's speaker says."""

    def __init__(self) -> None:
        super().__init__(capabilities=stt.STTCapabilities(streaming=True, interim_results=False))

    async def _recognize_impl(self, *_: Any, **__: Any) -> stt.SpeechEvent:
        raise NotImplementedError("it streams")

    def stream(self, *, conn_options: APIConnectOptions, **_: Any) -> stt.RecognizeStream:
        return CallerStream(stt=self, conn_options=conn_options)


class CallerStream(stt.RecognizeStream):
    async def _run(self) -> None:
        turns = [turn for turn in read_turns(shipped.TURNS) if turn.speaker == CALLER]
        heard_ms = 0
        async for frame in self._input_ch:
            if not isinstance(frame, rtc.AudioFrame):
                continue
            now = range(heard_ms, heard_ms + PIECE_MS)
            heard_ms += PIECE_MS
            for turn in turns:
                if turn.start_ms in now:
                    self._tell(stt.SpeechEventType.START_OF_SPEECH)
                if turn.end_ms + STT_DELAY_MS in now:
                    words = stt.SpeechData(language="en", text=turn.text)
                    self._tell(stt.SpeechEventType.FINAL_TRANSCRIPT, words)
                    self._tell(stt.SpeechEventType.END_OF_SPEECH)

    def _tell(self, kind: stt.SpeechEventType, *words: stt.SpeechData) -> None:
        self._event_ch.send_nowait(stt.SpeechEvent(type=kind, alternatives=list(words)))


class Rules(llm.LLM):
    """Stands for a language model, and prints what one would be told."""

    def chat(self, *, chat_ctx: llm.ChatContext, **options: Any) -> llm.LLMStream:
        return RulesStream(self, chat_ctx=chat_ctx, tools=[], conn_options=options["conn_options"])


class RulesStream(llm.LLMStream):
    async def _run(self) -> None:
        told = [one.text_content or "" for one in self._chat_ctx.messages()]
        estimate = told[-2] if told[-2].startswith("Estimate") else "(no estimate)"
        print(f"{CALLER}: {told[-1]}\n  {estimate}", flush=True)
        sad = any(one in estimate for one in ("sadness", "anger", "fear"))
        text = "I am here. Go on." if sad else "I see. Tell me more."
        delta = llm.ChoiceDelta(role="assistant", content=text)
        self._event_ch.send_nowait(llm.ChatChunk(id="rules", delta=delta))


async def demo(emotrace_url: str) -> None:
    microphone = CallerMicrophone()
    session: AgentSession[None] = AgentSession(
        stt=CallerWords(),
        llm=Rules(),
        vad=None,
        turn_handling={"turn_detection": "stt", "endpointing": {"min_delay": 0.3}},
    )

    def show(added: Any) -> None:
        if isinstance(added.item, llm.ChatMessage) and added.item.role == "assistant":
            print(f"Agent: {added.item.text_content}\n", flush=True)

    session.on("conversation_item_added", show)
    session.input.audio = microphone
    await session.start(Assistant(emotrace_url), session_host=False, record=False)
    await microphone.finished.wait()
    await session.aclose()


if __name__ == "__main__":
    if sys.argv[1:2] == ["demo"]:
        asyncio.run(demo(*sys.argv[2:3] or [DEFAULT_URL]))
    else:
        cli.run_app(server)
