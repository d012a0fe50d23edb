"""Interim estimates: made beside the finals, one at a time, given up where they are in the way.

An interim estimate is a prediction whose dialogue is dropped. None is sent after its utterance
ended, nor while what was heard of it is no speech, and a final never waits for one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from emotrace_models.predictor import DialogueState
from emotrace_models.speech_gate import Appraisal
from emotrace_models.types import Prediction, Utterance
from emotrace_protocol.errors import WarningCode
from emotrace_protocol.events import EmotionInterim
from emotrace_service.errors import EngineError
from emotrace_service.inference import InferenceBackend
from emotrace_service.metrics import Metrics
from emotrace_service.notices import Notices
from emotrace_service.reporting import Reporter, place_fields


async def tell_interim(
    notices: Notices,
    reporter: Reporter,
    prediction: Prediction,
    appraisal: Appraisal,
    utterance: Utterance,
) -> None:
    """utterance: as it was estimated, with its words if it had some."""
    await notices.emit(
        EmotionInterim,
        **place_fields(utterance),
        **reporter.estimate_fields(prediction, utterance, appraisal.quality, appraisal.doubts),
    )


class Interims:
    """Of one session. busy: whether there is no time for interim estimates."""

    def __init__(
        self,
        backend: InferenceBackend,
        reporter: Reporter,
        notices: Notices,
        metrics: Metrics,
        busy: Callable[[], bool],
    ) -> None:
        self._backend = backend
        self._reporter = reporter
        self._notices = notices
        self._metrics = metrics
        self._busy = busy
        self._task: asyncio.Task[None] | None = None
        self._utterance = -1

    async def start(self, dialogue: DialogueState, utterance: Utterance) -> None:
        """Begin an estimate of an utterance that goes on, or leave it out."""
        if self._task is not None and self._task.done():
            await self.settle()
        if self._task is not None or self._busy():
            await self._skip()
            return
        self._utterance = utterance.index
        self._task = asyncio.create_task(self._run(dialogue, utterance))

    async def give_up(self, index: int | None = None) -> None:
        """Drop the estimate that runs, if it is of utterance `index` (None: of any)."""
        if self._task is not None and index in (None, self._utterance):
            self._task.cancel()
            await self.settle()

    async def settle(self) -> None:
        """Wait for the estimate that runs, if any; raises what it raised."""
        if self._task is not None:
            await asyncio.wait({self._task})
            task, self._task = self._task, None
            if not task.cancelled():
                task.result()

    async def _run(self, dialogue: DialogueState, utterance: Utterance) -> None:
        try:
            appraisal = await self._backend.appraise(utterance, interim=True)
            if appraisal.rejection is not None:
                self._metrics.interims.labels("withheld").inc()
                return
            predicted = await self._backend.predict(dialogue, appraisal.utterance, interim=True)
        except EngineError:
            await self._skip()
            return
        await tell_interim(
            self._notices,
            self._reporter,
            predicted.outcome.prediction,
            appraisal,
            appraisal.utterance,
        )
        self._metrics.interims.labels("sent").inc()

    async def _skip(self) -> None:
        self._metrics.interims.labels("skipped").inc()
        await self._notices.warn_once(
            WarningCode.INTERIM_SKIPPED, "Interim estimates are left out where time is short."
        )
