"""Stand-ins for a session's surroundings: a socket without a network, models without threads."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from emotrace_models.bundle import Bundle
from emotrace_models.predictor import DialogueState, NothingToHear, Predictor, Sensed
from emotrace_models.speech_gate import Appraisal, appraise
from emotrace_models.types import FloatArray, Modality, Transcript, Utterance
from emotrace_models.voice_activity import VoiceState
from emotrace_protocol import Event, Message, decode_event, encode
from emotrace_protocol.messages import SessionStart
from emotrace_service.errors import EngineError, UtteranceIncomplete
from emotrace_service.inference import Detected, Heard, Predicted, StageTimes
from emotrace_service.listening import SocketClosed
from emotrace_service.logs import logger
from emotrace_service.metrics import Metrics
from emotrace_service.serving import Serving
from emotrace_service.session import Session
from emotrace_service.settings import Settings
from emotrace_service.shelf import Shelf

RATE = 16_000
LOUD = 0.1


def voice(seconds: float) -> FloatArray:
    """[sample] float32: a gliding pitch through two resonances that move, in about [-3, 3]."""
    time = np.arange(int(seconds * RATE)) / RATE
    pitch = 130 * 2 ** (0.3 * np.sin(5.7 * time))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    low, high = 500 + 350 * np.sin(13 * time), 1_700 + 700 * np.sin(8 * time)
    sound = np.zeros(len(time))
    for k in range(1, 25):
        near = 1 / (1 + ((k * pitch - low) / 120) ** 2)
        far = 1 / (1 + ((k * pitch - high) / 200) ** 2)
        sound += (near + 0.6 * far) * np.sin(k * phase)
    return sound.astype(np.float32)


def speech(seconds: float) -> bytes:
    """What `EnergyBackend` takes for speech and the speech gate lets pass, as s16le."""
    return (2 * LOUD * 32_767 * voice(seconds)).astype("<i2").tobytes()


def silence(seconds: float) -> bytes:
    return bytes(int(seconds * RATE) * 2)


TURN = speech(1.0) + silence(0.6)  # one utterance, and the silence that ends it
QUIET = SessionStart(interim=False)


class EnergyBackend:
    """An InferenceBackend that hears loudness, runs a real Predictor at once, and can fail.

    poison: utterances whose prediction fails. broken: detection raises this. words: what the
    transcriber says, None if there is none; deaf: it fails. hold: predictions wait for this.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.predictor = Predictor(bundle)
        self.poison: set[int] = set()
        self.broken: Exception | None = None
        self.words: str | None = None
        self.deaf = False
        self.hold: asyncio.Event | None = None
        self.predicted: list[Utterance] = []
        self.waiting = 0  # predictions that ever waited
        self.cancelled = 0

    def transcribes(self, language: str | None) -> bool:
        return self.words is not None

    def start(self, bundle: str) -> DialogueState:
        return self.predictor.start()

    def start_voice(self) -> VoiceState:
        nothing = np.zeros(1, np.float32)
        return VoiceState(nothing)

    async def detect(self, blocks: Sequence[FloatArray], states: Sequence[VoiceState]) -> Detected:
        if self.broken is not None:
            raise self.broken
        rows = [(np.abs(block).mean(axis=1) > LOUD / 2).astype(np.float32) for block in blocks]
        return Detected(tuple(rows), tuple(states))

    async def until_waiting(self, predictions: int) -> None:
        """So many predictions have begun to wait for `hold`."""
        async with asyncio.timeout(20):
            while self.waiting < predictions:  # noqa: ASYNC110 - it counts, it is no event
                await asyncio.sleep(0.001)

    async def transcribe(self, utterance: Utterance, language: str | None) -> Transcript | None:
        if self.deaf:
            raise EngineError("the model failed")
        return Transcript(self.words or "", "server", language)

    async def appraise(self, utterance: Utterance, *, interim: bool = False) -> Appraisal:
        return appraise(utterance)

    async def sense(self, state: DialogueState, utterance: Utterance) -> Heard:
        return Heard(self.predictor.sense([(state, utterance)])[0], StageTimes())

    async def read(self, state: DialogueState, utterance: Utterance) -> Heard:
        return Heard(self.predictor.read([(state, utterance)])[0], StageTimes())

    async def shadow(self, state: DialogueState, utterance: Utterance) -> Predicted:
        return await self.predict(state, utterance)

    async def prepare(self, state: DialogueState, speaker: str) -> DialogueState:
        return self.predictor.prepare([(state, speaker)])[0]

    def pressure(self, now: float) -> float:
        return 0.0

    def watch(self, now: float) -> None:
        pass

    def used_s(self) -> float:
        return 0.0

    async def close(self) -> None:
        pass

    async def predict(
        self,
        state: DialogueState,
        utterance: Utterance,
        sensed: Sensed | None = None,
        *,
        interim: bool = False,
    ) -> Predicted:
        if self.hold is not None:
            self.waiting += 1
            try:
                await self.hold.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        if utterance.index in self.poison:
            raise EngineError("the model failed")
        self.predicted.append(utterance)
        try:
            ((after, outcome),) = self.predictor.predict([(state, utterance)], [sensed or {}])
        except NothingToHear as error:
            raise UtteranceIncomplete(str(error)) from error
        return Predicted(after, outcome, StageTimes())


class MemorySocket:
    """The server's end of a websocket; the test is the client. `stuck`: sending never ends."""

    def __init__(self) -> None:
        self._incoming: asyncio.Queue[str | bytes | None] = asyncio.Queue()
        self._outgoing: asyncio.Queue[Event] = asyncio.Queue()
        self._taken = False
        self.heard: list[Event] = []
        self.code: int | None = None
        self.stuck = False

    def say(self, *messages: Message | str | bytes) -> None:
        for message in messages:
            self._incoming.put_nowait(encode(message) if isinstance(message, Message) else message)

    def vanish(self) -> None:
        self._incoming.put_nowait(None)

    async def listened(self) -> None:
        """Until the server has dealt with all that was said, and listens again."""
        await asyncio.wait_for(self._incoming.join(), 20)

    async def until(self, event_type: str) -> Any:
        """The next event of this type."""
        while True:
            event = await asyncio.wait_for(self._outgoing.get(), 20)
            if event.type == event_type:
                return event

    def of(self, event_type: str) -> list[Any]:
        return [event for event in self.heard if event.type == event_type]

    @property
    def types(self) -> list[str]:
        return [event.type for event in self.heard]

    async def receive(self) -> str | bytes:
        if self._taken:
            self._incoming.task_done()
            self._taken = False
        data = await self._incoming.get()
        self._taken = True
        if data is None:
            raise SocketClosed
        return data

    async def send(self, text: str) -> None:
        if self.stuck:
            await asyncio.Event().wait()
        event = decode_event(text)
        self.heard.append(event)
        self._outgoing.put_nowait(event)

    async def close(self, code: int) -> None:
        self.code = code


class Stage:
    """A server without a network: a backend, settings, and sessions on memory sockets."""

    def __init__(self, bundle: Path, requires: tuple[Modality, ...] = (), **options: Any) -> None:
        loaded = replace(Bundle.load(bundle), requires=requires)
        self.backend = EnergyBackend(loaded)
        settings = Settings(**{"bundle": str(bundle), "text_wait_ms": 0, **options})
        self.metrics = Metrics()
        self.serving = Serving(
            settings, Shelf({loaded.name: loaded}), self.backend, self.metrics, logger()
        )

    def session(self) -> tuple[MemorySocket, asyncio.Task[None]]:
        """A connection, accepted, on which nothing was said."""
        socket = MemorySocket()
        return socket, asyncio.create_task(Session(socket, self.serving).run())

    async def play(self, *messages: Message | str | bytes) -> MemorySocket:
        """A whole session in which the client says all this at once."""
        socket, task = self.session()
        socket.say(*messages)
        await asyncio.wait_for(task, 30)
        return socket

    def metric(self, name: str, **labels: str) -> float:
        value = self.metrics.registry.get_sample_value(name, labels)
        assert value is not None, name
        return value
