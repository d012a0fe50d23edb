"""RayBackend: an InferenceBackend whose models run on the nodes of a Ray cluster.

Sessions and sockets stay here, and so does voice detection: it is asked every 32 ms of every
channel, and a call to another process costs more than it does. All else goes to replicas
(ray_replicas.py) as packed values (packing.py). Nothing is kept there: any replica can take any
call, so that one that dies costs its callers a second try and no more.

    a replica that dies      its calls are made once more, on another
    too much to do           EngineOverloaded, at once
    a call that hangs        is given up in time, and its replica fails its next check of health
    a caller that is gone    its call is cancelled
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from ray.exceptions import RayActorError, TaskCancelledError
from ray.serve.exceptions import BackPressureError

from emotrace_models.predictor import DialogueState, Predictor, Sensed
from emotrace_models.speech_gate import Appraisal
from emotrace_models.transcription import knows
from emotrace_models.types import FloatArray, Modality, Transcript, Utterance
from emotrace_models.voice_activity import VoiceState
from emotrace_service.engine import INTERIM_WITHIN_S, LocalBackend
from emotrace_service.errors import EngineClosed, EngineError, EngineOverloaded
from emotrace_service.inference import Detected, Heard, Predicted, StageTimes
from emotrace_service.packing import pack, parts, unpack

Method = Callable[[bytes], Awaitable[bytes]]

ATTEMPTS = 2
CLOSING_S = 5.0  # for calls that are under way when the server stops
GONE = (RayActorError, TaskCancelledError)  # the replica died, or was ended with calls waiting


@dataclass(frozen=True, slots=True, eq=False)
class Words:
    """handle: of the transcriber's replicas. languages: as `knows` wants them."""

    handle: Any
    languages: frozenset[str]


class RayBackend:
    """predictors: of the same bundles as the replicas have; they only say how a dialogue starts.

    voices: detects voices, and has no other models. models: handle of ModelReplicas. words: None
    where there is no transcriber. timeout_s: a call that takes longer is given up. leave: ends the
    replicas; called from a thread. `close` calls it.
    """

    def __init__(
        self,
        predictors: Mapping[str, Predictor],
        voices: LocalBackend,
        models: Any,
        words: Words | None,
        *,
        timeout_s: float,
        leave: Callable[[], None],
    ) -> None:
        self._predictors = predictors
        self._voices = voices
        self._words = words
        self._timeout_s = timeout_s
        self._leave = leave
        self._appraise: Method = models.appraise.remote
        self._sense: Method = models.sense.remote
        self._read: Method = models.read.remote
        self._predict: Method = models.predict.remote
        self._prepare: Method = models.prepare.remote
        self._early = {
            key: {
                encoder.stream
                for encoder in predictor.bundle.encoders
                if encoder.modality is not Modality.LEXICAL
            }
            for key, predictor in predictors.items()
        }
        self._urgent: dict[object, float] = {}  # when each began
        self._calls = 0
        self._idle = asyncio.Event()
        self._closed = False

    def transcribes(self, language: str | None) -> bool:
        return self._words is not None and knows(self._words.languages, language)

    def start(self, bundle: str) -> DialogueState:
        return self._predictors[bundle].start()

    def start_voice(self) -> VoiceState:
        return self._voices.start_voice()

    async def detect(self, blocks: Sequence[FloatArray], states: Sequence[VoiceState]) -> Detected:
        return await self._voices.detect(blocks, states)

    async def appraise(self, utterance: Utterance, *, interim: bool = False) -> Appraisal:
        appraisal: Appraisal = await self._ask(self._appraise, (utterance,), interim=interim)
        return appraisal

    async def sense(self, state: DialogueState, utterance: Utterance) -> Heard:
        begun = time.monotonic()
        heard: Heard = await self._ask(self._sense, (state, utterance))
        return replace(heard, times=_waited(heard.times, begun))

    async def read(self, state: DialogueState, utterance: Utterance) -> Heard:
        begun = time.monotonic()
        silent = replace(utterance, samples=None, frames=(), voice=None)
        heard: Heard = await self._ask(self._read, (state, silent))
        return replace(heard, times=_waited(heard.times, begun))

    async def transcribe(self, utterance: Utterance, language: str | None) -> Transcript | None:
        if self._words is None or not self.transcribes(language):
            raise EngineError(f"there is no transcriber for the language {language!r}")
        transcript: Transcript | None = await self._ask(
            self._words.handle.transcribe.remote,
            (replace(utterance, frames=(), voice=None), language),
            urgent=False,
        )
        return transcript

    async def predict(
        self,
        state: DialogueState,
        utterance: Utterance,
        sensed: Sensed | None = None,
        *,
        interim: bool = False,
    ) -> Predicted:
        begun = time.monotonic()
        if sensed is not None and self._holds(state, utterance, sensed):
            utterance = replace(utterance, samples=None, frames=(), voice=None)
        predicted: Predicted = await self._ask(
            self._predict, (state, utterance, sensed), interim=interim
        )
        return replace(predicted, times=_waited(predicted.times, begun))

    async def shadow(self, state: DialogueState, utterance: Utterance) -> Predicted:
        raise EngineError("a cluster runs no shadow")

    async def prepare(self, state: DialogueState, speaker: str) -> DialogueState:
        if not self._predictors[state.bundle].prepares:
            return state
        prepared: DialogueState = await self._ask(self._prepare, (state, speaker), urgent=False)
        return prepared

    def pressure(self, now: float) -> float:
        """Seconds that the oldest urgent call has waited for its answer, the computing included:
        where it stands is not known here."""
        oldest = min(self._urgent.values(), default=now)
        return max(self._voices.pressure(now), now - oldest)

    def used_s(self) -> float:
        """The replicas are not counted: they may run on other machines, and their number follows
        what there is to do."""
        return self._voices.used_s()

    def watch(self, now: float) -> None:
        """Voice detection is watched; each call to a replica has its own limit of time."""
        self._voices.watch(now)

    async def close(self) -> None:
        """Give the calls under way a while, then end the replicas."""
        self._closed = True
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSING_S):
                while self._calls:
                    self._idle.clear()
                    await self._idle.wait()
        await self._voices.close()
        await asyncio.to_thread(self._leave)

    def _holds(self, state: DialogueState, utterance: Utterance, sensed: Sensed) -> bool:
        """Whether `sensed` has all that is made of sound and pictures, so that they need not
        travel again."""
        return self._early[state.bundle] <= sensed.keys() and all(
            felt.before is state.speakers.get((stream, utterance.speaker))
            for stream, felt in sensed.items()
        )

    async def _ask(
        self,
        method: Method,
        request: tuple[Any, ...],
        *,
        interim: bool = False,
        urgent: bool = True,
    ) -> Any:
        if self._closed:
            raise EngineClosed("the server stops")
        ticket = object()
        if urgent and not interim:
            self._urgent[ticket] = time.monotonic()
        self._calls += 1
        try:
            async with asyncio.timeout(INTERIM_WITHIN_S if interim else self._timeout_s):
                data = await self._sent(method, pack(request))
        except TimeoutError:
            said = "it would come too late" if interim else "no replica answered in time"
            raise EngineError(said) from None
        finally:
            self._urgent.pop(ticket, None)
            self._calls -= 1
            self._idle.set()
        answer = unpack(data, parts(request))
        if isinstance(answer, EngineError):
            raise answer
        return answer

    async def _sent(self, method: Method, message: bytes) -> bytes:
        """Raises EngineError, which says nothing of what was sent."""
        for _ in range(ATTEMPTS):
            response: Any = method(message)
            try:
                data: bytes = await response
            except asyncio.CancelledError:
                response.cancel()
                raise
            except BackPressureError:
                raise EngineOverloaded("too much waits to be computed") from None
            except GONE:
                continue
            except Exception as error:
                raise EngineError(f"the cluster failed with {type(error).__name__}") from None
            return data
        if self._closed:
            raise EngineClosed("the server stops")
        raise EngineError("two replicas died, one after the other")


def _waited(times: StageTimes, begun: float) -> StageTimes:
    """What was not spent computing was spent waiting, on the way included."""
    computed = times.encoding + times.fusion + times.decoding
    return replace(times, queue=max(0.0, time.monotonic() - begun - computed))
