"""Segmenter: blocks and their speech probabilities -> utterances of a session. Pure.

One a session. Utterances are numbered across channels in the order in which they are announced;
within one frame, by channel. What comes out depends on the audio alone, never on time or on cuts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from emotrace_models.types import SAMPLE_RATE, FloatArray, Utterance
from emotrace_service.audio import FRAME_SAMPLES, Block
from emotrace_service.endpointing import (
    Boundary,
    Endpointer,
    EndpointingConfig,
    EndpointState,
    EndReason,
    Started,
)

# Of speech. Less says little, and more makes people wait.
FIRST_INTERIM_SAMPLES = SAMPLE_RATE // 2


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """Somebody speaks: utterance `index` is open. Every one of these gets one UtteranceReady."""

    index: int
    speaker: str
    start_sample: int


@dataclass(frozen=True, slots=True, eq=False)
class InterimDue:
    """More of an open utterance has been heard. `utterance` is what there is so far."""

    utterance: Utterance


@dataclass(frozen=True, slots=True, eq=False)
class PauseHeard:
    """An open utterance may be over: unless more is said, it will be this `utterance`."""

    utterance: Utterance


@dataclass(frozen=True, slots=True)
class PauseOver:
    """The utterance goes on after all."""

    index: int


@dataclass(frozen=True, slots=True, eq=False)
class UtteranceReady:
    """An utterance is over.

    speech_end_sample: where its speech ended; `utterance.end_sample` is that and some padding.
    decided_sample: how much audio had been heard when the end was decided, so that
        decided_sample - speech_end_sample is the endpointing's wait.
    """

    utterance: Utterance
    speech_end_sample: int
    decided_sample: int
    reason: EndReason


Item: TypeAlias = SpeechStarted | InterimDue | PauseHeard | PauseOver | UtteranceReady


@dataclass(frozen=True, slots=True, eq=False)
class ChannelState:
    """What is known of one channel. frames: its last samples, from `first` on, 512 each, and how
    likely each is speech. open: the announced utterance, if any. interim_sample: the next interim
    estimate is due when speech has reached this. paused: whether a pause of it was announced last.
    """

    endpoint: EndpointState
    frames: tuple[tuple[FloatArray, float], ...] = ()
    first: int = 0
    open: SpeechStarted | None = None
    interim_sample: int = 0
    paused: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class SegmenterState:
    """numbered: utterances so far. position: samples a channel heard so far."""

    channels: tuple[ChannelState, ...]
    numbered: int
    position: int


class _Sound:
    """The last samples of one channel, and how likely each frame of them is speech."""

    def __init__(self, state: ChannelState) -> None:
        self.frames = deque(state.frames)
        self.first = state.first

    def push(self, frame: FloatArray, probability: float) -> None:
        self.frames.append((frame, probability))

    def forget(self, before: int) -> None:
        """Drop the frames that lie wholly before this sample."""
        while self.frames and self.first + FRAME_SAMPLES <= before:
            self.frames.popleft()
            self.first += FRAME_SAMPLES

    def cut(self, start: int, end: int) -> tuple[FloatArray, FloatArray]:
        """A copy of the samples [start, end), and the probabilities of the frames they lie in."""
        first = (start - self.first) // FRAME_SAMPLES
        last = -((self.first - end) // FRAME_SAMPLES)
        frames, probabilities = zip(*(self.frames[i] for i in range(first, last)), strict=True)
        offset = start - self.first - first * FRAME_SAMPLES
        samples: FloatArray = np.concatenate(frames)[offset : offset + end - start].copy()
        samples.setflags(write=False)
        return samples, np.array(probabilities, dtype=np.float32)

    def __len__(self) -> int:
        return len(self.frames) * FRAME_SAMPLES


class _Channel:
    """One speaker's channel, between states."""

    def __init__(self, speaker: str, state: ChannelState) -> None:
        self.speaker = speaker
        self.endpoint = state.endpoint
        self.sound = _Sound(state)
        self.open = state.open
        self.interim_sample = state.interim_sample
        self.paused = state.paused

    @property
    def state(self) -> ChannelState:
        return ChannelState(
            self.endpoint,
            tuple(self.sound.frames),
            self.sound.first,
            self.open,
            self.interim_sample,
            self.paused,
        )


class Segmenter:
    """Cuts the channels of one session into utterances.

    speakers: the name of each channel's speaker.
    interim_samples: how much more speech an open utterance gives an InterimDue for; the first one
        comes after FIRST_INTERIM_SAMPLES. None: never.
    state: to go on from.
    Memory: a channel keeps at most the longest utterance, or between utterances the padding.
    """

    def __init__(
        self,
        speakers: Sequence[str],
        config: EndpointingConfig,
        *,
        interim_samples: int | None = SAMPLE_RATE,
        state: SegmenterState | None = None,
    ) -> None:
        self._endpointer = Endpointer(config)
        self._padding_samples = config.padding_samples
        self._pause_samples = max(config.padding_samples, config.silence_samples // 2)
        if state is None:
            fresh = ChannelState(self._endpointer.start())
            state = SegmenterState((fresh,) * len(speakers), 0, 0)
        self._channels = list(map(_Channel, speakers, state.channels))
        self._interim_samples = interim_samples
        self._numbered = state.numbered
        self._position = state.position

    @property
    def state(self) -> SegmenterState:
        """A value that a new segmenter can go on from. It shares the samples."""
        channels = tuple(channel.state for channel in self._channels)
        return SegmenterState(channels, self._numbered, self._position)

    @property
    def position(self) -> int:
        """Samples a channel heard so far."""
        return self._position

    @property
    def buffered_samples(self) -> int:
        """Samples kept now, all channels together."""
        return sum(len(channel.sound) for channel in self._channels)

    def claim_number(self) -> int:
        """The next utterance number, for a turn without audio."""
        number = self._numbered
        self._numbered += 1
        return number

    def open_utterances(self) -> tuple[SpeechStarted, ...]:
        """The utterances that were announced and are not over yet, by number."""
        opened = (channel.open for channel in self._channels)
        return tuple(sorted((one for one in opened if one), key=lambda one: one.index))

    def push(self, block: Block, probabilities: Sequence[float]) -> list[Item]:
        """The next block, and for each channel the probability that it holds speech.

        Raises ValueError if block, probabilities and speakers differ in number, or if the block
        does not follow the last one.
        """
        if not len(block.samples) == len(probabilities) == len(self._channels):
            raise ValueError(
                f"{len(block.samples)} channels and {len(probabilities)} probabilities "
                f"for {len(self._channels)} speakers"
            )
        if block.start_sample != self._position:
            raise ValueError(
                f"the block begins at sample {block.start_sample}, not at {self._position}"
            )
        self._position += block.length
        items: list[Item] = []
        for channel, samples, probability in zip(
            self._channels, block.samples, probabilities, strict=True
        ):
            channel.sound.push(samples, float(probability))
            channel.endpoint, boundaries = self._endpointer.advance(
                channel.endpoint, float(probability)
            )
            if boundaries:
                items += self._apply(channel, boundaries)
            if channel.open is not None:
                items += self._interims(channel)
                items += self._pauses(channel)
            channel.sound.forget(self._endpointer.needed_from(channel.endpoint))
        return items

    def cut(self) -> list[Item]:
        """What is open ends here; more audio may follow."""
        items: list[Item] = []
        for channel in self._channels:
            channel.endpoint, boundaries = self._endpointer.finish(channel.endpoint, self._position)
            items += self._apply(channel, boundaries)
            channel.sound.forget(self._endpointer.needed_from(channel.endpoint))
        return items

    def flush(self) -> list[Item]:
        """The audio is over: what is still open ends here."""
        items = self.cut()
        for channel in self._channels:
            channel.sound.forget(self._position + FRAME_SAMPLES)
        return items

    def _apply(self, channel: _Channel, boundaries: Sequence[Boundary]) -> list[Item]:
        items: list[Item] = []
        for boundary in boundaries:
            if isinstance(boundary, Started):
                channel.open = SpeechStarted(
                    self.claim_number(), channel.speaker, boundary.start_sample
                )
                channel.paused = False
                channel.interim_sample = (
                    boundary.start_sample + self._padding_samples + FIRST_INTERIM_SAMPLES
                )
                items.append(channel.open)
            elif channel.open is not None:
                items.append(
                    UtteranceReady(
                        self._utterance(channel, channel.open, boundary.end_sample),
                        boundary.speech_end_sample,
                        self._position,
                        boundary.reason,
                    )
                )
                channel.open = None
        return items

    def _interims(self, channel: _Channel) -> list[Item]:
        candidate = channel.endpoint.candidate
        if self._interim_samples is None or channel.open is None or candidate is None:
            return []
        # The last frame of the audio may be part padding, which nobody spoke.
        reached = min(candidate.speech_end_sample, self._position)
        if reached < channel.interim_sample:
            return []
        late = reached - channel.interim_sample
        channel.interim_sample += (late // self._interim_samples + 1) * self._interim_samples
        return [InterimDue(self._utterance(channel, channel.open, reached))]

    def _pauses(self, channel: _Channel) -> list[Item]:
        """Once the padding after speech is heard, an utterance that ends here is complete; after
        half of the silence that ends one, more is over than goes on."""
        candidate = channel.endpoint.candidate
        if channel.open is None or candidate is None:
            return []
        end_sample = candidate.speech_end_sample + self._padding_samples
        pauses = candidate.speech_end_sample + self._pause_samples <= self._position
        if pauses == channel.paused:
            return []
        channel.paused = pauses
        if not pauses:
            return [PauseOver(channel.open.index)]
        # An estimate at a pause serves as an interim one.
        channel.interim_sample = max(
            channel.interim_sample, candidate.speech_end_sample + (self._interim_samples or 0)
        )
        return [PauseHeard(self._utterance(channel, channel.open, end_sample))]

    def _utterance(self, channel: _Channel, opened: SpeechStarted, end_sample: int) -> Utterance:
        samples, voice = channel.sound.cut(opened.start_sample, end_sample)
        return Utterance(
            index=opened.index,
            speaker=opened.speaker,
            start_sample=opened.start_sample,
            end_sample=end_sample,
            samples=samples,
            voice=voice,
        )
