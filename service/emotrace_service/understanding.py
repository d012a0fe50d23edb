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
    Item,
    PauseHeard,
    PauseOver,
    Segmenter,
    SpeechStarted,
)
from emotrace_service.texts import ClientTexts

BLOCKS_A_RUN = 32  # a second of audio, so that one large message does not hold up other sessions
INLINE_BYTES = 64 * 1024  # framing more takes milliseconds, and leaves the event loop
MAX_NONFINITE = 20  # messages in a row
MAX_SPEAKERS = 16


class Understanding:
    """One dialogue. Calls must follow one another; `close` ends what runs beside.

    busy: whether there is no time for what may be left out (interim estimates, and estimates before
    the end of an utterance is sure). crowded: whether there is none for interim estimates of who
    still speaks. blind: whether there is none for pictures.
    utterances: announced so far, turns without audio included.
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
    ) -> None:
        self.notices = notices
        reporter = Reporter(plan.bundle.labels.names, plan.bundle.calibration.abstain_below)
        self.judge = Judge(
            plan, backend, reporter, texts, notices, metrics=metrics, log=log, clock=clock
        )
        self.utterances = 0
        self._plan = plan
        self._backend = backend
        self._texts = texts
        self._metrics = metrics
        self._clock = clock
        self._detection = metrics.stages.labels("detection")
        self._framer = Framer(plan.audio)
        self._centring = Centring(plan.audio.channels)
        self._segmenter = Segmenter(
            plan.speakers, plan.endpointing, interim_samples=SAMPLE_RATE if plan.interim else None
        )
        self._pictures = Pictures()
        self._interims = Interims(backend, reporter, notices, metrics, lambda: busy() or crowded())
        self._busy = busy
        self._blind = blind
        self._voices = tuple(backend.start_voice() for _ in plan.speakers)
        self._speakers = set(plan.speakers)
        self._nonfinite = 0
        self._last_speech = 0
        self._deserted = False

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

    async def hear(self, messages: Sequence[bytes], arrival: float) -> None:
        """Audio as it came, in order. Raises ProtocolError where the session cannot go on."""
        blocks: list[Block] = []
        for data in messages:
            try:
                blocks += await self._frame(data)
                self._nonfinite = 0
            except AudioNonfinite as error:
                await self._take(blocks, arrival)
                blocks = []
                await self._leave_out(error)
        await self._take(blocks, arrival)

    async def _frame(self, data: bytes) -> list[Block]:
        """Raises AudioNonfinite, or ProtocolError where the stream is of no use."""
        try:
            if len(data) > INLINE_BYTES:
                return await asyncio.to_thread(self._framer.push, data)
            return self._framer.push(data)
        except AudioNonfinite:
            raise
        except AudioRejected as error:
            raise ProtocolError(error.code, sentence(error)) from error

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

    async def flush(self, arrival: float) -> None:
        """The audio is over: what is open ends here. Raises ProtocolError."""
        if self._deserted:
            return
        try:
            tail = self._framer.finish()
        except AudioRejected as error:
            raise ProtocolError(error.code, sentence(error)) from error
        await self._take(tail.blocks, arrival)
        if tail.leftover_bytes:
            await self.notices.warn(
                WarningCode.AUDIO_MISALIGNED,
                f"The last {tail.leftover_bytes} bytes were no whole sample a channel.",
            )
        for item in self._segmenter.flush():
            await self._act(item, arrival)
        await self._interims.settle()

    async def close(self) -> None:
        """Give up what runs beside."""
        await self.judge.close()
        await self._interims.give_up()

    async def _take(self, blocks: list[Block], arrival: float) -> None:
        for first in range(0, len(blocks), BLOCKS_A_RUN):
            run = blocks[first : first + BLOCKS_A_RUN]
            begun = self._clock()
            heard = [self._centring.push(block.samples) for block in run]
            detected = await self._backend.detect(heard, self._voices)
            self._detection.observe(self._clock() - begun)
            self._metrics.heard_s += sum(block.length for block in run) / SAMPLE_RATE
            self._voices = detected.states
            for block, row in zip(run, detected.probabilities, strict=True):
                for item in self._segmenter.push(block, row.tolist()):
                    await self._act(item, arrival)
                self._check_speech()

    async def _act(self, item: Item, arrival: float) -> None:
        if isinstance(item, SpeechStarted):
            self.utterances += 1
            self._texts.announce(item.index)
            self.judge.prepare(item.speaker)
            await self.notices.emit(
                events.SpeechStarted,
                utterance=item.index,
                speaker=item.speaker,
                start_ms=to_ms(item.start_sample),
            )
        elif isinstance(item, InterimDue):
            await self._interims.start(self.judge.dialogue, self._seen(item.utterance))
        elif isinstance(item, PauseHeard):
            if not self._busy():
                self.judge.foresee(self._seen(item.utterance))
        elif isinstance(item, PauseOver):
            self.judge.forget(item.index)
        else:
            await self._interims.give_up(item.utterance.index)
            await self.notices.emit(
                events.SpeechEnded, **place_fields(item.utterance), reason=item.reason
            )
            seen = replace(item, utterance=self._seen(item.utterance))
            self._pictures.forget(item.utterance)
            await self.judge.judge_speech(seen, arrival)

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
