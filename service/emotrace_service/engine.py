"""The engine: models on worker threads and their processes, so that the event loop never computes.

Sessions await `detect`, `appraise`, `sense`, `transcribe`, `predict` and `prepare`. Each call
becomes an item with a future of its own; the pure Batcher says what runs together and when. A
thread takes a batch and detects, transcribes, or has its own process compute it (processes.py);
meanwhile it sleeps, so all compute together uses no more cores than it was given threads.

    a model that raises      reaches the items that raise when they run alone, and no other
    a model that hangs       likewise: its process is ended, and a new one goes on
    a caller that is gone    its item is left out before it costs anything
    an item that is late     (interim estimates only) is given up
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from emotrace_models.predictor import DialogueState, Predictor, Sensed
from emotrace_models.speech_gate import Appraisal
from emotrace_models.transcription import Transcriber
from emotrace_models.types import FloatArray, Transcript, Utterance
from emotrace_models.voice_activity import VoiceDetector, VoiceState
from emotrace_service import computing
from emotrace_service.batching import BatcherFull, BatchPolicy, Item, Priority
from emotrace_service.computing import Models, OwnModels
from emotrace_service.errors import EngineClosed, EngineError, EngineOverloaded
from emotrace_service.inference import Detected, Heard, Predicted
from emotrace_service.lanes import Call, Lane, Lanes, settle
from emotrace_service.metrics import Metrics

DETECT, APPRAISE, SENSE, PREDICT = "detect", "appraise", "sense", "predict"
PREPARE, TRANSCRIBE = "prepare", "transcribe"
INTERIM = "interim "  # before the name of a kind: for an estimate that may be left out
INTERIM_DEADLINE_S = 0.5
DETECTION = BatchPolicy(max_items=128, max_wait=0.004)
BESIDE = BatchPolicy(max_items=4, max_wait=0.0)  # what a final may have to wait for is kept short

Results = list[Any]


class LocalBackend:
    """An InferenceBackend of this machine. `close` ends its threads, and their processes.

    predictors: by the key of their bundle. models: gives each compute thread where its models are;
    in this process unless given. capacity: items that may wait. transcribed_together:
    utterances at most. hang_s: a batch that runs longer is given up.
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
        self._hang_s = hang_s
        self._used_before_s = 0.0  # of those that were given up
        self._models = models or (lambda: OwnModels(predictors))
        self._lanes = Lanes(
            (
                Lane(
                    {
                        DETECT: DETECTION,
                        APPRAISE: BatchPolicy(1, 0.0),
                        **{f"{SENSE} {key}": policy for key in predictors},
                        **{f"{PREDICT} {key}": policy for key in predictors},
                    },
                    capacity,
                ),
                Lane(
                    {
                        INTERIM + APPRAISE: BESIDE,
                        **{f"{INTERIM}{SENSE} {key}": BESIDE for key in predictors},
                        **{f"{INTERIM}{PREDICT} {key}": BESIDE for key in predictors},
                        **{f"{PREPARE} {key}": BESIDE for key in predictors},
                    },
                    capacity,
                    beside=True,
                ),
                Lane({TRANSCRIBE: BatchPolicy(transcribed_together, 0.0)}, capacity, beside=True),
            ),
            threads,
        )
        self._alone: deque[Item[Call]] = deque()  # of batches that failed
        self._wake = threading.Condition()
        self._closed = False
        self._workers = [_Worker(self, number) for number in range(threads)]
        self._started = threads

    def transcribes(self, language: str | None) -> bool:
        return self._transcriber is not None and self._transcriber.supports(language)

    def start(self, bundle: str) -> DialogueState:
        return self._predictors[bundle].start()

    def start_voice(self) -> VoiceState:
        return self._detector.start()

    async def detect(self, blocks: Sequence[FloatArray], states: Sequence[VoiceState]) -> Detected:
        detected: Detected = await self._submit(DETECT, (blocks, states))
        return detected

    async def appraise(self, utterance: Utterance, *, interim: bool = False) -> Appraisal:
        appraisal: Appraisal = await self._submit(APPRAISE, (utterance,), interim=interim)
        return appraisal

    async def sense(
        self, state: DialogueState, utterance: Utterance, *, interim: bool = False
    ) -> Heard:
        heard: Heard = await self._submit(
            f"{SENSE} {state.bundle}", (state, utterance), interim=interim
        )
        return heard

    async def transcribe(self, utterance: Utterance, language: str | None) -> Transcript | None:
        if not self.transcribes(language):
            raise EngineError(f"there is no transcriber for the language {language!r}")
        transcript: Transcript | None = await self._submit(TRANSCRIBE, (utterance, language))
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
            f"{PREDICT} {state.bundle}", (state, utterance, sensed), interim=interim
        )
        return predicted

    async def prepare(self, state: DialogueState, speaker: str) -> DialogueState:
        if not self._predictors[state.bundle].prepares:
            return state
        prepared: DialogueState = await self._submit(f"{PREPARE} {state.bundle}", (state, speaker))
        return prepared

    async def close(self) -> None:
        """Finish the batches that run, refuse what waits, end the threads."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()
        for worker in tuple(self._workers):
            await asyncio.to_thread(worker.join)
        settle(
            (item.payload, None, EngineClosed("the server stops"))
            for item in (*self._alone, *self._lanes.rest())
        )

    def watch(self, now: float) -> None:
        """Give up the threads whose batch has run for too long; call it every second or so."""
        with self._wake:
            hung = [one for one in self._workers if now - one.busy_since > self._hang_s]
            for worker in hung:
                worker.abandon()
                self._used_before_s += worker.models.used_s
                self._metrics.threads_given_up.inc()
                self._workers.remove(worker)
                self._workers.append(_Worker(self, self._started))
                self._started += 1
                self._lanes.done(worker.batch[0].kind)
                self._split(worker.batch, EngineError("the model hung"))
                self._wake.notify()

    def used_s(self) -> float:
        return self._used_before_s + sum(worker.models.used_s for worker in self._workers)

    def pressure(self, now: float) -> float:
        """Seconds that the oldest urgent item has waited."""
        with self._wake:
            return self._lanes.pressure(now)

    async def _submit(self, kind: str, arguments: tuple[Any, ...], *, interim: bool = False) -> Any:
        loop = asyncio.get_running_loop()
        call = Call(arguments, loop.create_future(), loop)
        now = time.monotonic()
        item = Item(
            INTERIM + kind if interim else kind,
            call,
            Priority.INTERIM if interim else Priority.FINAL,
            arrival=now,
            deadline=now + INTERIM_DEADLINE_S if interim else None,
        )
        with self._wake:
            if self._closed:
                raise EngineClosed("the server stops")
            try:
                if self._lanes.add(item):
                    self._wake.notify()
            except BatcherFull as error:
                raise EngineOverloaded("too much waits to be computed") from error
        try:
            return await call.future
        finally:
            item.cancelled = call.future.cancelled()

    def open_models(self) -> Models:
        """For a new compute thread. Called by workers."""
        return self._models()

    def next(self) -> list[Item[Call]] | None:
        """Waits for the next batch; None: the engine is closed. Called by workers."""
        with self._wake:
            while not self._closed:
                if item := self._next_alone():
                    return [item]
                now = time.monotonic()
                settle(
                    (late.payload, None, EngineError("it would come too late"))
                    for late in self._lanes.expired(now)
                )
                if batch := self._lanes.take(now):
                    return batch
                self._wake.wait(self._lanes.wait(now))
            return None

    def run(self, worker: _Worker, batch: list[Item[Call]]) -> None:
        """Compute a batch and hand over its results. Called by workers."""
        kind = batch[0].kind.removeprefix(INTERIM).partition(" ")[0]
        begun = time.monotonic()
        results: Results = []
        failed: Exception | None = None
        try:
            results = self._compute(worker, kind, batch)
        except Exception as error:
            failed = error
        with self._wake:
            if worker.abandoned:
                return
            self._lanes.done(batch[0].kind)
            if failed is not None:
                self._split(batch, computing.failure(failed))
            self._wake.notify()
        self._metrics.compute.labels(kind).inc(time.monotonic() - begun)
        if failed is None:
            calls = (item.payload for item in batch)
            settle((call, one, None) for call, one in zip(calls, results, strict=True))

    def _split(self, batch: list[Item[Call]], error: EngineError) -> None:
        """One item of a failed batch is poison: only alone does it hurt nobody else."""
        if len(batch) == 1:
            settle([(batch[0].payload, None, error)])
        else:
            self._alone.extend(batch)

    def _next_alone(self) -> Item[Call] | None:
        while self._alone:
            item = self._alone.popleft()
            if not item.cancelled:
                self._lanes.begin(item.kind)
                return item
        return None

    def _compute(self, worker: _Worker, work: str, batch: list[Item[Call]]) -> Results:
        if work == DETECT:
            return self._detect(batch)
        if work == TRANSCRIBE:
            return self._transcribe(batch)
        if work == PREDICT:
            self._metrics.batches.observe(len(batch))
        bundle = batch[0].kind.rpartition(" ")[2]  # a batch is of one kind, and so of one bundle
        arguments = [item.payload.arguments for item in batch]
        return worker.models.compute(work, bundle, arguments, [item.arrival for item in batch])

    def _detect(self, batch: list[Item[Call]]) -> Results:
        sounds: list[FloatArray] = []
        states: list[VoiceState] = []
        for item in batch:
            blocks, own = item.payload.arguments
            sounds.extend(np.stack(blocks, axis=1))  # of each channel [frame, 512]
            states += own
        probabilities, following = self._detector.forward(sounds, states)
        results: Results = []
        row = 0
        for item in batch:
            rows = slice(row, row + len(item.payload.arguments[1]))
            by_block = np.stack(probabilities[rows], axis=1)
            results.append(Detected(tuple(by_block), tuple(following[rows])))
            row = rows.stop
        return results

    def _transcribe(self, batch: list[Item[Call]]) -> Results:
        assert self._transcriber is not None
        return list(self._transcriber.transcribe([item.payload.arguments for item in batch]))


class _Worker:
    """A compute thread. busy_since: when its batch began; it has none at infinity."""

    def __init__(self, backend: LocalBackend, number: int) -> None:
        self.busy_since = float("inf")
        self.batch: list[Item[Call]] = []
        self.models = backend.open_models()
        self._abandoned = threading.Event()
        self._backend = backend
        self._thread = threading.Thread(target=self._serve, name=f"compute-{number}", daemon=True)
        self._thread.start()

    @property
    def abandoned(self) -> bool:
        return self._abandoned.is_set()

    def abandon(self) -> None:
        """Its batch runs for ever: whatever it may still give, nobody takes it."""
        self._abandoned.set()
        self.models.kill()

    def join(self) -> None:
        self._thread.join()
        self.models.close()

    def _serve(self) -> None:
        computing.begin_thread()
        while not self.abandoned and (batch := self._backend.next()):
            self.batch, self.busy_since = batch, time.monotonic()
            self._backend.run(self, batch)
            self.busy_since = float("inf")
