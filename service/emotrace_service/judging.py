"""From an utterance that is over to its estimate: is it speech, which words, which emotion, and
what does that change of earlier turns.

Utterances are judged one after the other, in the order in which they end, because each changes the
dialogue that the next is heard in.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace

from emotrace_models.predictor import DialogueState
from emotrace_models.signal_quality import SignalQuality
from emotrace_models.speech_gate import Appraisal, appraise
from emotrace_models.transcript_gates import Gates
from emotrace_models.types import Transcript, Utterance
from emotrace_protocol import events
from emotrace_protocol.errors import DoubtCode, ErrorCode, WarningCode
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
GATES = Gates()


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
        heard = await asyncio.to_thread(appraise, item.utterance)
        appraised = self._clock()
        self._metrics.stages.labels("appraisal").observe(appraised - begun)
        if heard.rejection is not None:
            await self._reject(heard)
            return
        words, unreliable = await self._words(heard)
        transcription_s = self._clock() - appraised
        if self._plan.words:
            self._metrics.stages.labels("transcription").observe(transcription_s)
        await self.judge(
            replace(heard.utterance, transcript=words),
            arrival,
            quality=heard.quality,
            doubts=(*heard.doubts, *((DoubtCode.TEXT_UNRELIABLE,) if unreliable else ())),
            endpointing_ms=to_ms(item.decided_sample - item.utterance.end_sample),
            transcription_s=transcription_s,
        )

    async def _reject(self, heard: Appraisal) -> None:
        """No words, no estimate, and nothing of it is remembered: the dialogue stays what it is."""
        self._texts.close(heard.utterance.index)
        self._metrics.utterances.labels("rejected").inc()
        self._metrics.rejections.labels(heard.rejection).inc()
        await self._notices.emit(
            events.SpeechRejected, **place_fields(heard.utterance), reason=heard.rejection
        )

    async def judge(
        self,
        utterance: Utterance,
        arrival: float,
        *,
        quality: SignalQuality | None = None,
        doubts: Sequence[str] = (),
        endpointing_ms: int = 0,
        transcription_s: float = 0.0,
    ) -> None:
        """Estimate an utterance that has its words, if it is to have any.

        quality, doubts: what is known of its sound and words already.
        """
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
        estimate = self._reporter.estimate_fields(outcome.prediction, utterance, quality, doubts)
        for doubt in estimate["doubts"]:
            self._metrics.doubts.labels(doubt).inc()
        await self._notices.emit(
            events.EmotionFinal,
            **where,
            **estimate,
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

    async def _words(self, heard: Appraisal) -> tuple[Transcript | None, bool]:
        """The utterance's words, and whether there were some that cannot be relied on.

        The client's if they are there, else the server's.
        """
        utterance = heard.utterance
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
            recognised = await self._transcribe(utterance)
            words = self._texts.take(index) or recognised
        self._texts.close(index)
        if words is None or not self._plan.words or not words.text.strip():
            return None, False
        quality = heard.quality
        if quality is not None and GATES.refuse(
            words, quality.seconds, heard.speech_s, quality.character.voiced_s
        ):
            return None, True
        return replace(words, language=words.language or self._plan.language), False

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
