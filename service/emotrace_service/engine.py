"""The engine: models on worker threads, so that the event loop never computes.

Sessions await `detect`, `transcribe` and `predict`. Each call becomes an item with a future of its
own; the pure Batcher says what runs together and when. Threads compute with one torch thread each,
so that all compute together uses no more threads than it was given.

    a model that raises      reaches the items that raise when they run alone, and no other
    a caller that is gone    its item is left out before it costs anything
    an item that is late     (interim estimates only) is given up
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from emotrace_models.predictor import DialogueState, NothingToHear, Predictor
from emotrace_models.transcription import Transcriber
from emotrace_models.types import FloatArray, Transcript, Utterance
from emotrace_models.voice_activity import VoiceDetector, VoiceState
from emotrace_service.batching import BatcherFull, BatchPolicy, Item, Priority
from emotrace_service.errors import EngineClosed, EngineError, UtteranceIncomplete
from emotrace_service.inference import Detected, Predicted, StageTimes
from emotrace_service.lanes import Call, Lane, Lanes
from emotrace_service.metrics import Metrics

DETECT, PREDICT, INTERIM, TRANSCRIBE = "detect", "predict", "interim", "transcribe"
INTERIM_DEADLINE_S = 0.5
DETECTIONS_A_TURN = 8
INTERIMS_A_TURN = 4


class LocalBackend:
    """An InferenceBackend of threads in this process. `close` ends them.

    predictors: by the key of their bundle.
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
    ) -> None:
        self._predictors = predictors
        self._detector = detector
        self._transcriber = transcriber
        self._metrics = metrics
        self._lanes = Lanes(
            (
                Lane({DETECT: BatchPolicy(DETECTIONS_A_TURN, 0.0), PREDICT: policy}, capacity),
                Lane({INTERIM: BatchPolicy(INTERIMS_A_TURN, 0.0)}, capacity, beside=True),
                Lane({TRANSCRIBE: BatchPolicy(1, 0.0)}, capacity, beside=True),
            ),
            threads,
        )
        self._work: dict[str, Callable[[list[Item[Call]]], None]] = {
            DETECT: self._run_detections,
            TRANSCRIBE: self._run_transcriptions,
            PREDICT: self._run_predictions,
            INTERIM: self._run_predictions,
        }
        self._wake = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._serve, name=f"compute-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def transcribes(self, language: str | None) -> bool:
        return self._transcriber is not None and self._transcriber.supports(language)

    def start(self, bundle: str) -> DialogueState:
        return self._predictors[bundle].start()

    def start_voice(self) -> VoiceState:
        return self._detector.start()

    async def detect(self, blocks: Sequence[FloatArray], states: Sequence[VoiceState]) -> Detected:
        detected: Detected = await self._submit(DETECT, (blocks, states))
        return detected

    async def transcribe(self, utterance: Utterance, language: str | None) -> Transcript | None:
        transcript: Transcript | None = await self._submit(TRANSCRIBE, (utterance, language))
        return transcript

    async def predict(
        self, state: DialogueState, utterance: Utterance, *, interim: bool = False
    ) -> Predicted:
        kind = INTERIM if interim else PREDICT
        predicted: Predicted = await self._submit(kind, (state, utterance))
        return predicted

    async def close(self) -> None:
        """Finish the batches that run, refuse what waits, end the threads."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()
        for thread in self._threads:
            await asyncio.to_thread(thread.join)
        for item in self._lanes.rest():
            item.payload.settle(error=EngineClosed("the server stops"))

    async def _submit(self, kind: str, arguments: tuple[Any, ...]) -> Any:
        loop = asyncio.get_running_loop()
        call = Call(arguments, loop.create_future(), loop)
        now = time.monotonic()
        item = Item(
            kind,
            call,
            Priority.INTERIM if kind == INTERIM else Priority.FINAL,
            arrival=now,
            deadline=now + INTERIM_DEADLINE_S if kind == INTERIM else None,
        )
        with self._wake:
            if self._closed:
                raise EngineClosed("the server stops")
            try:
                self._lanes.add(item)
            except BatcherFull as error:
                raise EngineError("too much waits to be computed") from error
            self._wake.notify()
        try:
            return await call.future
        finally:
            item.cancelled = call.future.cancelled()

    def _serve(self) -> None:
        torch.set_num_threads(1)
        torch.set_flush_denormal(True)
        while batch := self._next():
            kind = batch[0].kind
            try:
                self._work[kind](batch)
            finally:
                with self._wake:
                    self._lanes.done(kind)
                    self._wake.notify()

    def _next(self) -> list[Item[Call]] | None:
        """Waits for the next batch; None: the engine is closed."""
        with self._wake:
            while not self._closed:
                now = time.monotonic()
                for late in self._lanes.expired(now):
                    late.payload.settle(error=EngineError("it would come too late"))
                if batch := self._lanes.take(now):
                    return batch
                self._wake.wait(self._lanes.wait(now))
            return None

    def _run_detections(self, batch: list[Item[Call]]) -> None:
        for item in batch:
            _settle_with(item.payload, self._detect)

    def _run_transcriptions(self, batch: list[Item[Call]]) -> None:
        assert self._transcriber is not None
        for item in batch:
            _settle_with(item.payload, self._transcriber.transcribe)

    def _run_predictions(self, batch: list[Item[Call]]) -> None:
        bundle = batch[0].payload.arguments[0].bundle
        if others := [item for item in batch if item.payload.arguments[0].bundle != bundle]:
            self._run_predictions([item for item in batch if item not in others])
            self._run_predictions(others)
            return
        self._metrics.batches.observe(len(batch))
        try:
            results = self._predict(self._predictors[bundle], batch)
        except Exception as error:
            if len(batch) == 1:
                batch[0].payload.settle(error=_failure(error))
                return
            for item in batch:  # one of them is poison: only alone does it hurt nobody else
                self._run_predictions([item])
            return
        for item, result in zip(batch, results, strict=True):
            item.payload.settle(result)

    def _predict(self, predictor: Predictor, batch: list[Item[Call]]) -> list[Predicted]:
        begun = time.monotonic()
        encoded = predictor.encode([item.payload.arguments for item in batch])
        after_encoding = time.monotonic()
        fused = predictor.fuse(encoded)
        after_fusion = time.monotonic()
        decoded = predictor.decode(fused)
        after_decoding = time.monotonic()
        return [
            Predicted(
                state,
                outcome,
                StageTimes(
                    queue=begun - item.arrival,
                    encoding=after_encoding - begun,
                    fusion=after_fusion - after_encoding,
                    decoding=after_decoding - after_fusion,
                ),
            )
            for item, (state, outcome) in zip(batch, decoded, strict=True)
        ]

    def _detect(self, blocks: Sequence[FloatArray], states: Sequence[VoiceState]) -> Detected:
        states = tuple(states)
        probabilities = []
        for block in blocks:
            row, states = self._detector.forward(block, states)
            probabilities.append(row)
        return Detected(tuple(probabilities), states)


def _settle_with(call: Call, compute: Callable[..., Any]) -> None:
    try:
        result = compute(*call.arguments)
    except Exception as error:
        call.settle(error=_failure(error))
    else:
        call.settle(result)


def _failure(cause: Exception) -> EngineError:
    """The model's error, told without its text, which may quote what somebody said."""
    if isinstance(cause, NothingToHear):
        return UtteranceIncomplete(str(cause))
    error = EngineError(f"the model failed with {type(cause).__name__}")
    error.__cause__ = cause
    return error
