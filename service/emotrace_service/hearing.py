"""One utterance's sound on its way to an estimate: is it speech, what is heard and seen, its words.

It begins where the end of an utterance is likely and not yet sure, while the endpointer waits for
more speech: when the wait is over, all this is there. If speech goes on it is dropped. That changes
no number: everything here is a function of the utterance and of the dialogue before it.

    appraise ─► sense ──────┐
           └──► transcribe ─┴─► predict     (the words come late; `predict` is the Judge's)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from emotrace_models.predictor import DialogueState
from emotrace_models.speech_gate import Appraisal
from emotrace_models.types import Transcript, Utterance
from emotrace_service.inference import Heard, InferenceBackend
from emotrace_service.metrics import Metrics


class Hearing:
    """Of one utterance, from its construction on. Whoever made it calls `give_up` or awaits it.

    language: for the transcriber; None: any. transcribes: whether the server makes the words.
    transcription_s: how long that took.
    """

    def __init__(
        self,
        backend: InferenceBackend,
        dialogue: DialogueState,
        utterance: Utterance,
        *,
        language: str | None,
        transcribes: bool,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self.utterance = utterance
        self.transcription_s = 0.0
        self._backend = backend
        self._dialogue = dialogue
        self._language = language
        self._transcribes = transcribes
        self._metrics = metrics
        self._clock = clock
        self._appraising = asyncio.create_task(self._appraise())
        self._sensing = asyncio.create_task(self._sense())
        self._transcribing = asyncio.create_task(self._transcribe())

    async def appraised(self) -> Appraisal:
        """Raises EngineError."""
        return await asyncio.shield(self._appraising)

    @property
    def is_heard(self) -> bool:
        """Whether `heard` has its answer."""
        return self._sensing.done()

    async def heard(self) -> Heard | None:
        """None: it is no speech. Raises EngineError."""
        return await asyncio.shield(self._sensing)

    async def recognised(self, timeout_s: float | None = None) -> Transcript | None:
        """The server's words; None where there are none. Raises EngineError, or TimeoutError."""
        return await asyncio.wait_for(asyncio.shield(self._transcribing), timeout_s)

    def same_as(self, utterance: Utterance) -> bool:
        """Whether it is of this very stretch of sound and of the same pictures."""
        own = self.utterance
        return (own.index, own.start_sample, own.end_sample) == (
            utterance.index,
            utterance.start_sample,
            utterance.end_sample,
        ) and own.frames == utterance.frames

    def give_up(self) -> None:
        """Its results are wanted no more."""
        for task in (self._appraising, self._sensing, self._transcribing):
            task.cancel()
            task.add_done_callback(_retrieve)

    async def _appraise(self) -> Appraisal:
        begun = self._clock()
        appraisal = await self._backend.appraise(self.utterance)
        self._metrics.stages.labels("appraisal").observe(self._clock() - begun)
        return appraisal

    async def _sense(self) -> Heard | None:
        appraisal = await self.appraised()
        if appraisal.rejection is not None:
            return None
        return await self._backend.sense(self._dialogue, appraisal.utterance)

    async def _transcribe(self) -> Transcript | None:
        appraisal = await self.appraised()
        if appraisal.rejection is not None or not self._transcribes:
            return None
        begun = self._clock()
        words = await self._backend.transcribe(appraisal.utterance, self._language)
        self.transcription_s = self._clock() - begun
        self._metrics.stages.labels("transcription").observe(self.transcription_s)
        return words


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Nobody asks any more what it raised."""
    if not task.cancelled():
        task.exception()
