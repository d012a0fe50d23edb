"""From an utterance that is over to its estimate: words, prediction, revisions of earlier turns.

Utterances are judged one after the other, in the order in which they end, because each changes the
dialogue that the next is heard in.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

from emotrace_models.predictor import DialogueState
from emotrace_models.types import Transcript, Utterance
from emotrace_protocol import events
from emotrace_protocol.errors import ErrorCode, WarningCode
from emotrace_service.errors import EngineClosed, EngineError, UtteranceIncomplete, place
from emotrace_service.inference import InferenceBackend, Predicted
from emotrace_service.logs import Logger
from emotrace_service.metrics import Metrics
from emotrace_service.notices import Notices, sentence
from emotrace_service.opening import Plan
from emotrace_service.reporting import Reporter, place_fields, to_ms
from emotrace_service.segmenting import UtteranceReady
from emotrace_service.texts import ClientTexts

KEPT_TURNS = 256  # more than any decoder's horizon


class Judge:
    """Of one session. `dialogue` is what has been understood of it so far."""

    def __init__(
        self,
        plan: Plan,
        backend: InferenceBackend,
        reporter: Reporter,
        texts: ClientTexts,
        notices: Notices,
        *,
        metrics: Metrics,
        log: Logger,
        clock: Callable[[], float],
    ) -> None:
        self._plan = plan
        self._backend = backend
        self._reporter = reporter
        self._texts = texts
        self._notices = notices
        self._metrics = metrics
        self._log = log
        self._clock = clock
        self._turns: OrderedDict[int, Utterance] = OrderedDict()
        self.dialogue: DialogueState = backend.start(plan.bundle.key)
        self.failed = 0

    async def judge_speech(self, item: UtteranceReady, arrival: float) -> None:
        """arrival: when the audio came that ended the utterance."""
        begun = self._clock()
        transcript = await self._words(item.utterance)
        transcription_s = self._clock() - begun
        if self._plan.words:
            self._metrics.stages.labels("transcription").observe(transcription_s)
        await self.judge(
            replace(item.utterance, transcript=transcript),
            arrival,
            endpointing_ms=to_ms(item.decided_sample - item.utterance.end_sample),
            transcription_s=transcription_s,
        )

    async def judge(
        self,
        utterance: Utterance,
        arrival: float,
        *,
        endpointing_ms: int = 0,
        transcription_s: float = 0.0,
    ) -> None:
        """Estimate an utterance that has its words, if it is to have any."""
        where = place_fields(utterance)
        words = utterance.transcript
        if words is not None:
            await self._notices.emit(
                events.TranscriptFinal,
                **where,
                text=words.text,
                language=words.language,
                source=words.source,
                confidence=words.confidence,
            )
        try:
            predicted = await self._backend.predict(self.dialogue, utterance)
        except EngineClosed:
            raise
        except EngineError as error:
            self.failed += 1
            self._metrics.utterances.labels("failed").inc()
            code = ErrorCode.INFERENCE_FAILED
            if isinstance(error, UtteranceIncomplete):
                code = ErrorCode.UTTERANCE_INCOMPLETE
            else:
                self._note("utterance failed", error)
            await self._notices.fail(code, sentence(error), utterance=utterance.index)
            return
        outcome = predicted.outcome
        self.dialogue = predicted.state
        self._remember(outcome.turn, utterance)
        await self._notices.emit(
            events.EmotionFinal,
            **where,
            **self._reporter.estimate_fields(outcome.prediction),
            decoder=self._reporter.decoder_result(outcome.decision),
            explanation=self._reporter.explanation(outcome.prediction),
            timings=self._timings(predicted, arrival, endpointing_ms, transcription_s),
        )
        self._metrics.utterances.labels("final").inc()
        for revision in outcome.revisions:
            await self._notices.emit(
                events.EmotionRevised,
                **place_fields(self._turns[revision.turn]),
                **self._reporter.revision_fields(revision),
                cause=utterance.index,
            )

    async def _words(self, utterance: Utterance) -> Transcript | None:
        """The utterance's words: the client's if they are there, else the server's."""
        index = utterance.index
        words = self._texts.take(index)
        if words is None and self._plan.waits_for_words:
            words = await self._texts.wait(index, self._plan.text_wait_s)
            if words is None:
                await self._notices.warn(
                    WarningCode.TEXT_TIMEOUT,
                    f"No words came for utterance {index} in time; it is judged without them.",
                    "utterance.text",
                )
        elif words is None and self._plan.server_words:
            heard = await self._transcribe(utterance)
            words = self._texts.take(index) or heard
        self._texts.close(index)
        if words is None or not self._plan.words or not words.text.strip():
            return None
        return words

    async def _transcribe(self, utterance: Utterance) -> Transcript | None:
        try:
            return await self._backend.transcribe(utterance, self._plan.language)
        except EngineClosed:
            raise
        except EngineError as error:
            self._note("transcription failed", error)
            await self._notices.warn(
                WarningCode.MODALITY_MISSING,
                f"Utterance {utterance.index} could not be transcribed.",
                "lexical",
            )
            return None

    def _timings(
        self, predicted: Predicted, arrival: float, endpointing_ms: int, transcription_s: float
    ) -> events.Timings:
        times = predicted.times
        lag = self._clock() - arrival
        for stage, seconds in (
            ("queue", times.queue),
            ("encoding", times.encoding),
            ("fusion", times.fusion),
            ("decoding", times.decoding),
            ("lag", lag),
        ):
            self._metrics.stages.labels(stage).observe(seconds)
        return events.Timings(
            endpointing_ms=endpointing_ms,
            queue_ms=times.queue * 1_000,
            transcription_ms=transcription_s * 1_000,
            encoding_ms=times.encoding * 1_000,
            fusion_ms=times.fusion * 1_000,
            decoding_ms=times.decoding * 1_000,
            lag_ms=lag * 1_000,
        )

    def _remember(self, turn: int, utterance: Utterance) -> None:
        """The place of a turn, which may be revised; its sound, words and pictures are let go."""
        self._turns[turn] = replace(utterance, samples=None, transcript=None, frames=())
        while len(self._turns) > KEPT_TURNS:
            self._turns.popitem(last=False)

    def _note(self, what: str, error: EngineError) -> None:
        cause = error.__cause__ or error
        self._log.warning(what, error=type(cause).__name__, place=place(cause))
