"""From an utterance that is over to its estimate: is it speech, which words, which emotion, and
what does that change of earlier turns.

Utterances are judged one after the other, in the order in which they end, because each changes the
dialogue that the next is heard in. Where the end of one is likely, it is judged ahead (`foresee`):
when the end is sure the estimate is there, and is used if the dialogue and the words still are what
it was made of.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from emotrace_models.predictor import DialogueState, Sensed
from emotrace_models.speech_gate import Appraisal
from emotrace_models.types import Transcript, Utterance, frozen_mapping
from emotrace_protocol import estimates, events
from emotrace_protocol.errors import DoubtCode, ErrorCode
from emotrace_service.errors import EngineClosed, EngineError, UtteranceIncomplete
from emotrace_service.hearing import Hearing
from emotrace_service.inference import Heard, InferenceBackend, Predicted, StageTimes
from emotrace_service.interims import tell_interim
from emotrace_service.logs import Logger, warn_failed
from emotrace_service.metrics import Metrics
from emotrace_service.notices import Notices, sentence
from emotrace_service.opening import Plan
from emotrace_service.reporting import Reporter, place_fields, to_ms
from emotrace_service.segmenting import UtteranceReady
from emotrace_service.shadowing import Shadow, estimate_of
from emotrace_service.spoken import Guess, Spoken, reliable
from emotrace_service.texts import ClientTexts
from emotrace_service.words import Words

KEPT_TURNS = 256  # more than any decoder's horizon


@dataclass(frozen=True, slots=True, eq=False)
class JudgeState:
    """dialogue: what has been understood so far. turns: the places of those that may be revised, by
    the decoder's number. pending: what was announced as over, and has no estimate yet."""

    dialogue: DialogueState
    turns: tuple[tuple[int, Utterance], ...]
    pending: UtteranceReady | None
    failed: int


class Judge:
    """Of one session. `dialogue` is what has been understood of it so far. state: to go on from; if
    another bundle made it, the dialogue begins anew. shadow: is shown what clients are told."""

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
        shadow: Shadow | None = None,
        state: JudgeState | None = None,
    ) -> None:
        if state is None:
            state = JudgeState(backend.start(plan.bundle.key), (), None, 0)
        elif state.dialogue.bundle != plan.bundle.key:  # whose turns only it could revise
            state = replace(state, dialogue=backend.start(plan.bundle.key), turns=())
        self._plan = plan
        self._backend = backend
        self._reporter = reporter
        self._texts = texts
        self._notices = notices
        self._metrics = metrics
        self._log = log
        self._clock = clock
        self._shadow = shadow
        self._words = Words(plan, texts, notices, log, self._estimate_early)
        self._turns = OrderedDict(state.turns)
        self._ahead: dict[int, tuple[Hearing, asyncio.Task[Guess | None]]] = {}
        self._preparing: asyncio.Task[None] | None = None
        self.dialogue = state.dialogue
        self.pending = state.pending
        self.failed = state.failed

    @property
    def state(self) -> JudgeState:
        """A value that a new one can go on from."""
        turns = tuple(self._turns.items())
        return JudgeState(self.dialogue, turns, self.pending, self.failed)

    def prepare(self, speaker: str) -> None:
        """Somebody begins to speak: what their turn will need of earlier ones can be computed."""
        if self._preparing is None or self._preparing.done():
            self._preparing = asyncio.create_task(self._prepare(speaker))

    async def _prepare(self, speaker: str) -> None:
        before = self.dialogue
        try:
            prepared = await self._backend.prepare(before, speaker)
        except EngineError:
            return  # it is computed when it is needed
        if self.dialogue is before:
            self.dialogue = prepared

    def foresee(self, utterance: Utterance) -> None:
        """The utterance may be over: judge it as if it were."""
        self.forget(utterance.index)
        hearing = self._hear(utterance)
        self._ahead[utterance.index] = hearing, asyncio.create_task(self._guess(hearing))

    def forget(self, index: int) -> None:
        """The utterance goes on: what was made of it ahead is of no use."""
        if ahead := self._ahead.pop(index, None):
            self._drop(*ahead)

    async def close(self) -> None:
        """Give up what runs beside."""
        for index in tuple(self._ahead):
            self.forget(index)
        if self._preparing is not None:
            self._preparing.cancel()

    async def judge_pending(self, arrival: float) -> None:
        """Judge the utterance that is `pending`, if any, after which none is.

        arrival: when the audio came that ended it.
        """
        item = self.pending
        if item is None:
            return
        utterance = item.utterance
        hearing, guessing = self._ahead.pop(utterance.index, (None, None))
        if hearing is not None and guessing is not None and not hearing.same_as(utterance):
            self._drop(hearing, guessing)
            hearing = guessing = None
        foreseen = hearing is not None
        hearing = hearing or self._hear(utterance)
        try:
            appraisal = await hearing.appraised()
            if appraisal.rejection is not None:
                await self._reject(appraisal)
                return
            words, unreliable = reliable(self._plan, appraisal, await self._words.of(hearing))
            guess = None if guessing is None else await self._guessed(guessing, words)
            heard = await self._heard(hearing, appraisal, words)
        except EngineClosed:
            raise
        except EngineError as error:
            async with self._notices.step():
                await self._fail(utterance, error)
                self._done(utterance)
            return
        finally:
            hearing.give_up()
        assert heard is not None  # it is speech
        self._metrics.foresights.labels("used" if guess else "late" if foreseen else "none").inc()
        await self.judge(
            replace(appraisal.utterance, transcript=words),
            arrival,
            Spoken(
                quality=appraisal.quality,
                doubts=(
                    *appraisal.doubts,
                    *((DoubtCode.TEXT_UNRELIABLE,) if unreliable else ()),
                ),
                heard=heard,
                guess=guess,
                endpointing_ms=to_ms(item.decided_sample - utterance.end_sample),
                transcription_s=hearing.transcription_s,
            ),
        )

    def _hear(self, utterance: Utterance) -> Hearing:
        return Hearing(
            self._backend,
            self.dialogue,
            utterance,
            language=self._plan.language,
            transcribes=self._plan.server_words,
            metrics=self._metrics,
            clock=self._clock,
        )

    async def _heard(
        self, hearing: Hearing, appraisal: Appraisal, words: Transcript | None
    ) -> Heard | None:
        """What was heard, seen and read: beside one another where the words are there first."""
        if words is None or hearing.is_heard:
            return await hearing.heard()  # reading what is left is part of predicting
        utterance = replace(appraisal.utterance, transcript=words)
        heard, read = await asyncio.gather(
            hearing.heard(), self._backend.read(self.dialogue, utterance)
        )
        if heard is None:
            return None
        times = StageTimes(
            queue=max(heard.times.queue, read.times.queue),
            encoding=max(heard.times.encoding, read.times.encoding),
        )
        return Heard(frozen_mapping({**heard.sensed, **read.sensed}), times)

    def _drop(self, hearing: Hearing, guessing: asyncio.Task[Guess | None]) -> None:
        hearing.give_up()
        guessing.cancel()
        self._metrics.foresights.labels("dropped").inc()

    async def _guess(self, hearing: Hearing) -> Guess | None:
        """None: it is no speech, or its words cannot be known yet, or the models failed."""
        try:
            appraisal = await hearing.appraised()
            said = self._texts.take(hearing.utterance.index)
            if appraisal.rejection or (said is None and self._plan.waits_for_words):
                return None
            words, _ = reliable(self._plan, appraisal, said or await hearing.recognised())
            heard = await self._heard(hearing, appraisal, words)
            assert heard is not None  # it is speech
            dialogue = self.dialogue
            utterance = replace(appraisal.utterance, transcript=words)
            predicted = await self._backend.predict(dialogue, utterance, heard.sensed)
        except EngineError:
            return None  # whatever is wrong is met again, and told, when the utterance is over
        ahead = self._ahead.get(hearing.utterance.index)
        if self._plan.interim and ahead is not None and ahead[0] is hearing:
            # Nobody need wait for the endpointer to see it.
            await self._tell_early(predicted, appraisal, utterance)
        return Guess(dialogue, words, predicted)

    async def _guessed(
        self, guessing: asyncio.Task[Guess | None], words: Transcript | None
    ) -> Guess | None:
        """The estimate that was made ahead, if it is the one that would be made now."""
        guess = await guessing
        if guess is None or guess.words != words:
            return None
        # `prepare` makes another state of the same dialogue.
        unchanged = (
            guess.dialogue.window is self.dialogue.window
            and guess.dialogue.beam is self.dialogue.beam
        )
        return guess if unchanged else None

    async def _reject(self, heard: Appraisal) -> None:
        """No words, no estimate, and nothing of it is remembered: the dialogue stays what it is."""
        self._metrics.utterances.labels("rejected").inc()
        self._metrics.rejections.labels(heard.rejection).inc()
        async with self._notices.step():
            self._done(heard.utterance)
            await self._notices.emit(
                events.SpeechRejected, **place_fields(heard.utterance), reason=heard.rejection
            )

    async def judge(
        self, utterance: Utterance, arrival: float, spoken: Spoken | None = None
    ) -> None:
        """Estimate an utterance that has its words, if it is to have any.

        spoken: what is known of its sound; None for a turn without.
        """
        async with self._notices.step():
            await self._judge(utterance, arrival, spoken)
            self._done(utterance)

    def _done(self, utterance: Utterance) -> None:
        """It has its estimate, or will have none."""
        self.pending = None
        self._texts.forget(utterance.index)

    async def _judge(self, utterance: Utterance, arrival: float, spoken: Spoken | None) -> None:
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
            predicted = await self._predict(utterance, spoken)
        except EngineClosed:
            raise
        except EngineError as error:
            await self._fail(utterance, error)
            return
        outcome = predicted.outcome
        self.dialogue = predicted.state
        self._remember(outcome.turn, utterance)
        estimate = self._reporter.estimate_fields(
            outcome.prediction,
            utterance,
            None if spoken is None else spoken.quality,
            () if spoken is None else spoken.doubts,
        )
        for doubt in estimate["doubts"]:
            self._metrics.doubts.labels(doubt).inc()
        await self._notices.emit(
            events.EmotionFinal,
            **where,
            **estimate,
            decoder=self._reporter.decoder_result(outcome.decision),
            explanation=self._reporter.explanation(outcome.prediction),
            timings=self._timings(predicted.times, arrival, spoken),
        )
        self._metrics.utterances.labels("final").inc()
        if self._shadow is not None:
            self._shadow.follow(utterance, estimate_of(outcome, self._plan.bundle))
        for revision in outcome.revisions:
            await self._notices.emit(
                events.EmotionRevised,
                **place_fields(self._turns[revision.turn]),
                **self._reporter.revision_fields(revision),
                cause=utterance.index,
            )

    async def _predict(self, utterance: Utterance, spoken: Spoken | None) -> Predicted:
        if spoken is not None and spoken.guess is not None:
            return spoken.guess.predicted
        sensed: Sensed | None = None if spoken is None else spoken.heard.sensed
        return await self._backend.predict(self.dialogue, utterance, sensed)

    async def _fail(self, utterance: Utterance, error: EngineError) -> None:
        self.failed += 1
        self._metrics.utterances.labels("failed").inc()
        code = ErrorCode.INFERENCE_FAILED
        if isinstance(error, UtteranceIncomplete):
            code = ErrorCode.UTTERANCE_INCOMPLETE
        else:
            warn_failed(self._log, "utterance failed", error)
        await self._notices.fail(code, sentence(error), utterance=utterance.index)

    async def _estimate_early(self, hearing: Hearing) -> None:
        """An interim estimate of what was heard and seen, while the words are not there yet."""
        appraisal = await hearing.appraised()
        heard = await hearing.heard()
        if heard is None or not self._plan.interim:
            return
        try:
            predicted = await self._backend.predict(
                self.dialogue, appraisal.utterance, heard.sensed, interim=True
            )
        except EngineError:
            return  # the final one comes
        await self._tell_early(predicted, appraisal, appraisal.utterance)

    async def _tell_early(
        self, predicted: Predicted, appraisal: Appraisal, utterance: Utterance
    ) -> None:
        """An estimate that is not the last word, because the end or the words are not sure."""
        await tell_interim(
            self._notices, self._reporter, predicted.outcome.prediction, appraisal, utterance
        )
        self._metrics.interims.labels("early").inc()

    def _timings(
        self, times: StageTimes, arrival: float, spoken: Spoken | None
    ) -> estimates.Timings:
        lag = self._clock() - arrival
        sensing = StageTimes() if spoken is None else spoken.heard.times
        stages = {
            "queue": sensing.queue + times.queue,
            "encoding": sensing.encoding + times.encoding,
            "fusion": times.fusion,
            "decoding": times.decoding,
            "lag": lag,
        }
        for stage, seconds in stages.items():
            self._metrics.stages.labels(stage).observe(seconds)
        return estimates.Timings(
            endpointing_ms=0 if spoken is None else spoken.endpointing_ms,
            transcription_ms=0.0 if spoken is None else spoken.transcription_s * 1_000,
            foreseen=spoken is not None and spoken.guess is not None,
            **{f"{stage}_ms": seconds * 1_000 for stage, seconds in stages.items()},
        )

    def _remember(self, turn: int, utterance: Utterance) -> None:
        """The place of a turn, which may be revised; its sound, words and pictures are let go."""
        self._turns[turn] = replace(utterance, samples=None, transcript=None, frames=())
        while len(self._turns) > KEPT_TURNS:
            self._turns.popitem(last=False)
