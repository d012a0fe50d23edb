"""The engine: models on worker threads and their processes, so that the event loop never computes.

Sessions await `detect`, `appraise`, `sense`, `read`, `transcribe`, `predict` and `prepare`. Each
call becomes an item with a future of its own; the pure Batcher says what runs together and when,
and a crew of threads takes the batches (crews.py). One thread listens: the voices of all sessions
cost a tenth of a core, and must not wait for anything. The others transcribe, or have a process of
their own compute (processes.py) and sleep meanwhile, so that no more is computed at once than there
are threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from emotrace_models.predictor import DialogueState, Predictor, Sensed
from emotrace_models.speech_gate import Appraisal
from emotrace_models.transcription import Transcriber
from emotrace_models.types import FloatArray, Transcript, Utterance
from emotrace_models.voice_activity import VoiceDetector, VoiceState
from emotrace_service.batching import BatchPolicy
from emotrace_service.computing import Models, OwnModels
from emotrace_service.confined_pictures import PICTURES
from emotrace_service.crews import INTERIM, Batch, Crew
from emotrace_service.errors import EngineError
from emotrace_service.inference import Detected, Heard, Predicted
from emotrace_service.lanes import Lane, Lanes
from emotrace_service.metrics import Metrics

DETECT, APPRAISE, SENSE, READ, PREDICT = "detect", "appraise", "sense", "read", "predict"
PREPARE, TRANSCRIBE, SHADOW = "prepare", "transcribe", "shadow"
INTERIM_WITHIN_S = 0.5
SHADOW_WITHIN_S = 10.0  # nobody waits for it, but one dialogue at a time must not hold up the next
# A detection a message would have the interpreter change hands thousands of times a second.
DETECTION = BatchPolicy(max_items=256, max_wait=0.010)
BESIDE = BatchPolicy(max_items=4, max_wait=0.0)  # what a final may have to wait for is kept short


class LocalBackend:
    """An InferenceBackend of this machine. `close` ends its threads, and their processes.

    predictors: by the key of their bundle. models: gives each compute thread where its models are;
    in this process unless given. threads: that compute. capacity: items that may wait.
    transcribed_together: utterances at most. hang_s: a batch that runs longer is given up.
    """

    def __init__(
        self,
        predictors: Mapping[str, Predictor],
        detector: VoiceDetector,
        transcriber: Transcriber | None,
        *,
        threads: int,
        policy: BatchPolicy,
        capacity: int,
        metrics: Metrics,
        models: Callable[[], Models] | None = None,
        transcribed_together: int = 1,
        hang_s: float = 60.0,
    ) -> None:
        self._predictors = predictors
        self._detector = detector
        self._transcriber = transcriber
        self._metrics = metrics
        self._ears = Crew(
            "ears",
            Lanes((Lane({DETECT: DETECTION}, capacity),), 1),
            lambda _, __, batch: self._detect(batch),
            threads=1,
            models=lambda: OwnModels({}),
            metrics=metrics,
            hang_s=hang_s,
        )
        self._crew = Crew(
            "compute",
            Lanes(
                (
                    Lane(
                        {
                            APPRAISE: BatchPolicy(1, 0.0),
                            SENSE: policy,
                            READ: policy,
                            PREDICT: policy,
                        },
                        capacity,
                    ),
                    Lane(
                        {
                            INTERIM + APPRAISE: BESIDE,
                            INTERIM + PREDICT: BESIDE,
                            PREPARE: BESIDE,
                        },
                        capacity,
                        beside=True,
                        spare=True,
                    ),
                    Lane(
                        {TRANSCRIBE: BatchPolicy(transcribed_together, 0.0)}, capacity, beside=True
                    ),
                    Lane({SHADOW: BESIDE}, capacity, beside=True, spare=True),
                ),
                threads,
            ),
            self._compute,
            threads=threads,
            models=models or (lambda: OwnModels(predictors)),
            metrics=metrics,
            hang_s=hang_s,
        )

    def transcribes(self, language: str | None) -> bool:
        return self._transcriber is not None and self._transcriber.supports(language)

    def start(self, bundle: str) -> DialogueState:
        return self._predictors[bundle].start()

    def start_voice(self) -> VoiceState:
        return self._detector.start()

    async def detect(self, blocks: Sequence[FloatArray], states: Sequence[VoiceState]) -> Detected:
        detected: Detected = await self._ears.submit(DETECT, (blocks, states))
        return detected

    async def appraise(self, utterance: Utterance, *, interim: bool = False) -> Appraisal:
        appraisal: Appraisal = await self._submit(APPRAISE, (utterance,), interim=interim)
        return appraisal

    async def sense(self, state: DialogueState, utterance: Utterance) -> Heard:
        heard: Heard = await self._submit(SENSE, (state, utterance), state.bundle)
        return heard

    async def read(self, state: DialogueState, utterance: Utterance) -> Heard:
        heard: Heard = await self._submit(READ, (state, utterance), state.bundle)
        return heard

    async def transcribe(self, utterance: Utterance, language: str | None) -> Transcript | None:
        if not self.transcribes(language):
            raise EngineError(f"there is no transcriber for the language {language!r}")
        transcript: Transcript | None = await self._crew.submit(TRANSCRIBE, (utterance, language))
        return transcript

    async def predict(
        self,
        state: DialogueState,
        utterance: Utterance,
        sensed: Sensed | None = None,
        *,
        interim: bool = False,
    ) -> Predicted:
        predicted: Predicted = await self._submit(
            PREDICT, (state, utterance, sensed), state.bundle, interim=interim
        )
        return predicted

    async def shadow(self, state: DialogueState, utterance: Utterance) -> Predicted:
        predicted: Predicted = await self._crew.submit(
            SHADOW, (state, utterance, None), state.bundle, within_s=SHADOW_WITHIN_S
        )
        return predicted

    async def prepare(self, state: DialogueState, speaker: str) -> DialogueState:
        if not self._predictors[state.bundle].prepares:
            return state
        prepared: DialogueState = await self._submit(PREPARE, (state, speaker), state.bundle)
        return prepared

    async def _submit(
        self, kind: str, arguments: tuple[Any, ...], bundle: str = "", *, interim: bool = False
    ) -> Any:
        if interim:
            kind, within_s = INTERIM + kind, INTERIM_WITHIN_S
            return await self._crew.submit(kind, arguments, bundle, within_s=within_s)
        return await self._crew.submit(kind, arguments, bundle)

    async def renew(
        self, predictors: Mapping[str, Predictor], models: Callable[[], Models] | None = None
    ) -> None:
        """Serve these from now on, by new models; dialogues of others cannot go on. Both as in
        __init__. Raises EngineError where they cannot be used: then all stays as it was."""
        await self._crew.renew(models or (lambda: OwnModels(predictors)))
        self._predictors = predictors

    async def close(self) -> None:
        """Finish the batches that run, refuse what waits, end the threads."""
        await asyncio.gather(self._ears.close(), self._crew.close())

    def watch(self, now: float) -> None:
        """Give up what has run for too long; call it every second or so."""
        self._ears.watch(now)
        self._crew.watch(now)

    def used_s(self) -> float:
        return self._crew.used_s() + PICTURES.used_s

    def pressure(self, now: float) -> float:
        return max(self._ears.pressure(now), self._crew.pressure(now))

    def _compute(self, models: Models, work: str, batch: Batch) -> list[Any]:
        if work == TRANSCRIBE:
            return self._transcribe(batch)
        if work == PREDICT:
            self._metrics.batches.observe(len(batch))
        arguments = [item.payload.arguments for item in batch]
        return models.compute(work, batch[0].group, arguments, [item.arrival for item in batch])

    def _detect(self, batch: Batch) -> list[Any]:
        sounds: list[FloatArray] = []
        states: list[VoiceState] = []
        for item in batch:
            blocks, own = item.payload.arguments
            sounds.extend(np.stack(blocks, axis=1))  # of each channel [frame, 512]
            states += own
        probabilities, following = self._detector.forward(sounds, states)
        results: list[Any] = []
        row = 0
        for item in batch:
            rows = slice(row, row + len(item.payload.arguments[1]))
            by_block = np.stack(probabilities[rows], axis=1)
            results.append(Detected(tuple(by_block), tuple(following[rows])))
            row = rows.stop
        return results

    def _transcribe(self, batch: Batch) -> list[Any]:
        assert self._transcriber is not None
        return list(self._transcriber.transcribe([item.payload.arguments for item in batch]))
