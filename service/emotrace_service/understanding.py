"""From bytes and words to events: the one path that live sessions and files both take.

bytes -> Framer -> VoiceDetector -> Segmenter -> Judge (speech?, words, Predictor) -> events
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from emotrace_models.types import SAMPLE_RATE, Frame, Transcript, Utterance
from emotrace_protocol import events
from emotrace_protocol.errors import ErrorCode, ProtocolError, WarningCode
from emotrace_protocol.messages import Image, UtteranceText
from emotrace_protocol.order import ServerConversation
from emotrace_service.audio import AudioNonfinite, AudioRejected, Block, Framer
from emotrace_service.centring import Centring
from emotrace_service.inference import InferenceBackend
from emotrace_service.interims import Interims
from emotrace_service.judging import Judge
from emotrace_service.logs import Logger
from emotrace_service.metrics import Metrics
from emotrace_service.notices import Notices, sentence, warn_wordless
from emotrace_service.opening import Plan
from emotrace_service.pictures import PictureInvalid, Pictures, decoded_jpeg
from emotrace_service.reporting import Reporter, place_fields, to_ms
from emotrace_service.segmenting import (
    InterimDue,
    PauseHeard,
    PauseOver,
    Segmenter,
    SpeechStarted,
)
from emotrace_service.shadowing import Shadow
from emotrace_service.texts import ClientTexts
from emotrace_service.understood import NOTHING_YET, Understood

BLOCKS_A_RUN = 32  # a second of audio, so that one large message does not hold up other sessions
INLINE_BYTES = 64 * 1024  # framing more takes milliseconds, and leaves the event loop
MAX_NONFINITE = 20  # messages in a row
MAX_SPEAKERS = 16


def _ignore(number: int) -> None:
    """Nobody counts."""


class Understanding:
    """One dialogue. Calls must follow one another; `close` ends what runs beside.

    state: to go on from; texts and notices must have been made of it too.

    busy: whether there is no time for what may be left out (interim estimates, and estimates before
    the end of an utterance is sure). crowded: whether there is none for interim estimates of who
    still speaks. blind: whether there is none for pictures.
    utterances: announced so far, turns without audio included. taken_bytes: of audio.
    """

    def __init__(
        self,
        plan: Plan,
        backend: InferenceBackend,
        texts: ClientTexts,
        notices: Notices,
        *,
        metrics: Metrics,
        log: Logger,
        clock: Callable[[], float],
        busy: Callable[[], bool],
        crowded: Callable[[], bool],
        blind: Callable[[], bool],
        state: Understood = NOTHING_YET,
    ) -> None:
        self.notices = notices
        reporter = Reporter(plan.bundle.labels.names, plan.bundle.calibration.abstain_below)
        self.judge = Judge(
            plan,
            backend,
            reporter,
            texts,
            notices,
            metrics=metrics,
            log=log,
            clock=clock,
            shadow=None
            if plan.shadow is None or state.judge is not None
            else Shadow(plan.shadow, backend, metrics, busy),
            state=state.judge,
        )
        self.utterances = state.utterances
        self.taken_bytes = state.taken_bytes
        self._plan = plan
        self._backend = backend
        self._texts = texts
        self._metrics = metrics
        self._clock = clock
        self._detection = metrics.stages.labels("detection")
        self._framer = Framer(plan.audio, state.framer)
        self._centring = Centring(plan.audio.channels, state.centring)
        self._segmenter = Segmenter(
            plan.speakers,
            plan.endpointing,
            interim_samples=SAMPLE_RATE if plan.interim else None,
            state=state.segmenter,
        )
        self._pictures = Pictures(state.pictures)
        self._interims = Interims(backend, reporter, notices, metrics, lambda: busy() or crowded())
        self._busy = busy
        self._blind = blind
        self._voices = state.voices or tuple(backend.start_voice() for _ in plan.speakers)
        # Lists, since few wait, and an empty deque takes more memory than all else here.
        self._due = list(state.due)
        self._heard = list(state.heard)
        self._items = list(state.items)
        self._speakers = {*plan.speakers, *state.speakers}
        self._nonfinite = state.nonfinite
        self._last_speech = state.last_speech
        self._deserted = False

    @property
    def state(self) -> Understood:
        """A value that a new one can go on from. It shares what is large."""
        return Understood(
            framer=self._framer.state,
            centring=self._centring.state,
            voices=self._voices,
            segmenter=self._segmenter.state,
            pictures=self._pictures.kept,
            texts=self._texts.state,
            judge=self.judge.state,
            due=tuple(self._due),
            heard=tuple(self._heard),
            items=tuple(self._items),
            warned=self.notices.warned,
            speakers=frozenset(self._speakers),
            utterances=self.utterances,
            taken_bytes=self.taken_bytes,
            nonfinite=self._nonfinite,
            last_speech=self._last_speech,
        )

    @property
    def failed(self) -> int:
        """Utterances that have no estimate."""
        return self.judge.failed

    @property
    def audio_ms(self) -> int:
        """Audio understood so far."""
        return to_ms(self._segmenter.position)

    @property
    def taken_ms(self) -> int:
        """Audio taken in so far, also what does not fill a frame yet."""
        return self._framer.samples_in * 1_000 // self._plan.audio.sample_rate

    def totals(self, conversation: ServerConversation, messages: int) -> events.Totals:
        """Of a session whose session.ended comes next. messages: of its client."""
        counts = conversation.counts
        return events.Totals(
            audio_ms=self.taken_ms,
            audio_bytes=self.taken_bytes,
            messages=messages,
            utterances=self.utterances,
            finals=counts["emotion.final"],
            revisions=counts["emotion.revised"],
            rejected=counts["speech.rejected"],
            failed=self.failed,
            events=conversation.sent + 1,
        )

    async def hear(
        self, messages: Sequence[bytes], arrival: float, taken: Callable[[int], None] = _ignore
    ) -> None:
        """Audio as it came, in order. Raises ProtocolError where the session cannot go on.

        taken: is called with the place in `messages` of each whose sound is part of `state` now.
        """
        for place, data in enumerate(messages):
            try:
                await self._frame(data)
            except AudioNonfinite as error:
                await self.go_on(arrival)
                async with self.notices.step():
                    self.taken_bytes += len(data)
                    taken(place)
                    await self._leave_out(error)
                continue
            except AudioRejected as error:
                raise ProtocolError(error.code, sentence(error)) from error
            self._nonfinite = 0
            self.taken_bytes += len(data)
            taken(place)
        await self.go_on(arrival)

    async def _frame(self, data: bytes) -> None:
        """Raises AudioRejected."""
        if len(data) <= INLINE_BYTES:
            self._push(self._framer.push(data))
            return
        async with self.notices.step():  # there is no `state` while another thread changes it
            self._push(await asyncio.to_thread(self._framer.push, data))

    def _push(self, blocks: Sequence[Block]) -> None:
        self._due += ((block, self._centring.push(block.samples)) for block in blocks)

    async def _leave_out(self, error: AudioNonfinite) -> None:
        """One message had samples that are no numbers. Many in a row are no accident."""
        self._nonfinite += 1
        if self._nonfinite >= MAX_NONFINITE:
            raise ProtocolError(
                ErrorCode.AUDIO_FORMAT_SUSPECT,
                f"{MAX_NONFINITE} messages in a row held samples that are not finite.",
            )
        await self.notices.fail(ErrorCode.AUDIO_NONFINITE, sentence(error))

    async def say(self, message: UtteranceText, arrival: float) -> None:
        """A turn without audio, placed where the audio is."""
        if not self._plan.words:
            await warn_wordless(self.notices)
            return
        speaker = message.speaker or self._plan.speakers[0]
        if len(self._speakers | {speaker}) > MAX_SPEAKERS:
            cause = f"A session has at most {MAX_SPEAKERS} speakers."
            await self.notices.fail(ErrorCode.SPEAKER_UNKNOWN, cause, param="speaker")
            return
        self._speakers.add(speaker)
        position = self._last_speech = self._segmenter.position
        utterance = Utterance(
            index=self._segmenter.claim_number(),
            speaker=speaker,
            start_sample=position,
            end_sample=position,
            samples=None,
            transcript=Transcript(message.text, "client", message.language),
        )
        self.utterances += 1
        self._texts.announce(utterance.index)
        self._texts.close(utterance.index)
        await self.judge.judge(utterance, arrival)

    async def see(self, message: Image) -> None:
        """A picture of a speaker, taken at the audio position reached."""
        if message.speaker not in self._speakers:
            cause = "The image is of none of the session's speakers."
            await self.notices.fail(ErrorCode.SPEAKER_UNKNOWN, cause, param="speaker")
            return
        if not self._plan.pictures:
            await self.notices.warn_once(
                WarningCode.MODALITY_MISSING,
                "The bundle uses no images; they are ignored.",
                "image",
            )
            return
        try:
            frame = Frame(self._segmenter.position, decoded_jpeg(message.jpeg))
        except PictureInvalid as error:
            await self.notices.fail(ErrorCode.IMAGE_INVALID, sentence(error), param="jpeg")
            return
        self._pictures.push(message.speaker, frame)

    async def reach_marker(self, name: str) -> None:
        """Everything before has been processed, interim estimates too."""
        await self._interims.settle()
        await self.notices.emit(events.MarkerReached, id=name, audio_ms=self.audio_ms)

    def cut(self) -> None:
        """Whatever is being said ends here; `go_on` tells of it."""
        self._items += self._segmenter.cut()

    async def flush(self, arrival: float) -> None:
        """The audio is over: what is open ends here. Raises ProtocolError."""
        if self._deserted:
            return
        async with self.notices.step():
            try:
                tail = self._framer.finish()
            except AudioRejected as error:
                raise ProtocolError(error.code, sentence(error)) from error
            self._push(tail.blocks)
            if tail.leftover_bytes:
                await self.notices.warn(
                    WarningCode.AUDIO_MISALIGNED,
                    f"The last {tail.leftover_bytes} bytes were no whole sample a channel.",
                )
        await self.go_on(arrival)
        self._items += self._segmenter.flush()
        await self.go_on(arrival)
        await self._interims.settle()

    async def close(self) -> None:
        """Give up what runs beside."""
        await self.judge.close()
        await self._interims.give_up()

    async def go_on(self, arrival: float) -> None:
        """Understand what was framed; also what was left when an earlier connection broke.

        Raises ProtocolError.
        """
        await self.judge.judge_pending(arrival)
        while self._items or self._heard or self._due:
            if self._items:
                await self._act(arrival)
            elif self._heard:
                block, row = self._heard.pop(0)
                self._items += self._segmenter.push(block, row.tolist())
                self._check_speech()
            else:
                await self._detect()

    async def _detect(self) -> None:
        """The next second of what is due."""
        begun = self._clock()
        run = tuple(self._due[:BLOCKS_A_RUN])
        detected = await self._backend.detect([heard for _, heard in run], self._voices)
        self._detection.observe(self._clock() - begun)
        self._metrics.heard_s += sum(block.length for block, _ in run) / SAMPLE_RATE
        self._voices = detected.states
        for (block, _), row in zip(run, detected.probabilities, strict=True):
            self._due.pop(0)
            self._heard.append((block, row))

    async def _act(self, arrival: float) -> None:
        """On the first of the items."""
        item = self._items[0]
        if isinstance(item, SpeechStarted):
            async with self.notices.step():
                self._items.pop(0)
                self.utterances += 1
                self._texts.announce(item.index)
                await self.notices.emit(
                    events.SpeechStarted,
                    utterance=item.index,
                    speaker=item.speaker,
                    start_ms=to_ms(item.start_sample),
                )
            self.judge.prepare(item.speaker)
        elif isinstance(item, InterimDue):
            self._items.pop(0)
            await self._interims.start(self.judge.dialogue, self._seen(item.utterance))
        elif isinstance(item, PauseHeard):
            self._items.pop(0)
            if not self._busy():
                self.judge.foresee(self._seen(item.utterance))
        elif isinstance(item, PauseOver):
            self._items.pop(0)
            self.judge.forget(item.index)
        else:
            await self._interims.give_up(item.utterance.index)
            async with self.notices.step():
                self._items.pop(0)
                await self.notices.emit(
                    events.SpeechEnded, **place_fields(item.utterance), reason=item.reason
                )
                self.judge.pending = replace(item, utterance=self._seen(item.utterance))
                self._pictures.forget(item.utterance)
            await self.judge.judge_pending(arrival)

    def _seen(self, utterance: Utterance) -> Utterance:
        """The utterance with what was seen of its speaker meanwhile."""
        if self._blind():
            return utterance
        return replace(utterance, frames=self._pictures.of(utterance))

    def _check_speech(self) -> None:
        """Raises ProtocolError where nobody has spoken for too long, by the audio's own clock."""
        position = self._segmenter.position
        if self._segmenter.open_utterances():
            self._last_speech = position
        elif position - self._last_speech >= self._plan.idle_samples:
            self._deserted = True
            raise ProtocolError(
                ErrorCode.IDLE_NO_SPEECH,
                f"Nobody has spoken for {to_ms(position - self._last_speech) // 1_000} s.",
            )
