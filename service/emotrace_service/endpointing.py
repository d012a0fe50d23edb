"""Endpointer: speech probabilities of one channel -> where utterances begin and end. Pure.

All places are samples at 16 kHz since the session began. The state is a small frozen value;
`advance` takes one frame of 512 samples and gives the next state with the boundaries it decided.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from emotrace_models.types import SAMPLE_RATE
from emotrace_protocol.messages import Endpointing
from emotrace_service.audio import FRAME_SAMPLES

HYSTERESIS = 0.15  # below the start threshold, as in Silero's own get_speech_timestamps
LOWEST_END_THRESHOLD = 0.01
PADDING_MS = 200
CUT_WINDOW_MS = 1_000

EndReason: TypeAlias = Literal["silence", "max_length", "end_of_audio"]


def _samples(milliseconds: int) -> int:
    return milliseconds * SAMPLE_RATE // 1_000


def _ms(samples: int) -> int:
    return samples * 1_000 // SAMPLE_RATE


@dataclass(frozen=True, slots=True)
class EndpointingConfig:
    """Thresholds as probabilities, lengths in samples.

    start_threshold, end_threshold: speech goes on at the first and off below the second.
    silence_samples: without speech for so long, the utterance is over.
    min_speech_samples: less speech than this is no utterance.
    max_utterance_samples: longer ones are cut, at the least speech-like frame of the last
        `cut_window_samples`.
    padding_samples: sound kept before the first and after the last speech.
    Raises ValueError if the shortest utterance does not fit into the longest.
    """

    start_threshold: float
    end_threshold: float
    silence_samples: int
    min_speech_samples: int
    max_utterance_samples: int
    padding_samples: int
    cut_window_samples: int

    def __post_init__(self) -> None:
        if not 0 <= self.end_threshold <= self.start_threshold <= 1:
            raise ValueError(
                f"thresholds {self.end_threshold} (end) and {self.start_threshold} (start) are not "
                "in order within 0 to 1"
            )
        for name in ("silence_samples", "min_speech_samples", "cut_window_samples"):
            if getattr(self, name) < FRAME_SAMPLES:
                raise ValueError(f"{name} is less than one frame of {FRAME_SAMPLES} samples")
        if self.padding_samples < 0:
            raise ValueError("padding_samples is negative")
        shortest = self.padding_samples + self.min_speech_samples
        room = self.max_utterance_samples - self.cut_window_samples
        if shortest + FRAME_SAMPLES > room:
            raise ValueError(
                f"the least speech of {_ms(self.min_speech_samples)} ms does not fit into the "
                f"longest utterance of {_ms(self.max_utterance_samples)} ms: "
                f"lower min_speech_ms to {max(0, _ms(room - self.padding_samples) - 32)} "
                "or raise max_utterance_ms"
            )

    @classmethod
    def from_wire(cls, wire: Endpointing) -> EndpointingConfig:
        """The settings of a session. Raises ValueError if they contradict each other."""
        end_threshold = max(LOWEST_END_THRESHOLD, wire.threshold - HYSTERESIS)
        longest = _samples(wire.max_utterance_ms)
        return cls(
            start_threshold=wire.threshold,
            end_threshold=min(wire.threshold, end_threshold),
            silence_samples=_samples(wire.silence_ms),
            min_speech_samples=_samples(wire.min_speech_ms),
            max_utterance_samples=longest,
            padding_samples=_samples(PADDING_MS),
            cut_window_samples=min(_samples(CUT_WINDOW_MS), longest // 2),
        )


@dataclass(frozen=True, slots=True)
class Started:
    """There is speech, enough to count as an utterance. Its samples begin at `start_sample`."""

    start_sample: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The started utterance is over.

    start_sample, end_sample: its samples, padding included.
    speech_end_sample: end of the last frame of speech in it; where speech goes on, of the cut.
    """

    start_sample: int
    end_sample: int
    speech_end_sample: int
    reason: EndReason


Boundary: TypeAlias = Started | Ended


@dataclass(frozen=True, slots=True)
class Candidate:
    """Speech that is going on: an utterance once `started`.

    start_sample: where its samples begin, padding included.
    speech_samples: speech in it so far.
    speech_end_sample: end of its last frame of speech.
    speaking: whether the last frame was speech.
    recent: (probability, was speech) of its last frames, at most the cut window.
    """

    start_sample: int
    speech_samples: int
    speech_end_sample: int
    speaking: bool
    started: bool
    recent: tuple[tuple[float, bool], ...]


@dataclass(frozen=True, slots=True)
class EndpointState:
    """What is known of one channel after `position` samples.

    floor: no utterance may begin before, since an earlier one holds those samples.
    """

    position: int = 0
    floor: int = 0
    candidate: Candidate | None = None


class Endpointer:
    """The rules. It holds no state of its own, so one serves every channel of a session."""

    def __init__(self, config: EndpointingConfig) -> None:
        self._config = config
        self._window_frames = config.cut_window_samples // FRAME_SAMPLES

    def start(self) -> EndpointState:
        """The state before any sound."""
        return EndpointState()

    def advance(
        self, state: EndpointState, probability: float
    ) -> tuple[EndpointState, tuple[Boundary, ...]]:
        """The next frame's speech probability -> the state after it, and what it decided."""
        config = self._config
        position = state.position + FRAME_SAMPLES
        candidate = state.candidate
        if candidate is None:
            if not probability >= config.start_threshold:
                return EndpointState(position, state.floor), ()
            start = max(state.floor, state.position - config.padding_samples)
            candidate = Candidate(start, 0, state.position, False, False, ())
        candidate = self._heard(candidate, probability, position)
        state = EndpointState(position, state.floor, candidate)
        if position - candidate.speech_end_sample >= config.silence_samples:
            return self._close(state, candidate, "silence", limit=position)
        state, started = self._announce(state, candidate)
        if position - candidate.start_sample >= config.max_utterance_samples:
            state, cut = self._cut(state)
            return state, started + cut
        return state, started

    def finish(
        self, state: EndpointState, end_sample: int
    ) -> tuple[EndpointState, tuple[Boundary, ...]]:
        """Speech is over after `end_sample` samples, which may lie within the last frame."""
        if state.candidate is None:
            return state, ()
        return self._close(state, state.candidate, "end_of_audio", limit=end_sample)

    def needed_from(self, state: EndpointState) -> int:
        """The first sample that an utterance may still ask for."""
        if state.candidate is not None:
            return state.candidate.start_sample
        return max(state.floor, state.position - self._config.padding_samples)

    def _heard(self, candidate: Candidate, probability: float, position: int) -> Candidate:
        threshold = (
            self._config.end_threshold if candidate.speaking else self._config.start_threshold
        )
        speaking = probability >= threshold
        return Candidate(
            start_sample=candidate.start_sample,
            speech_samples=candidate.speech_samples + FRAME_SAMPLES * speaking,
            speech_end_sample=position if speaking else candidate.speech_end_sample,
            speaking=speaking,
            started=candidate.started,
            recent=(*candidate.recent, (probability, speaking))[-self._window_frames :],
        )

    def _announce(
        self, state: EndpointState, candidate: Candidate
    ) -> tuple[EndpointState, tuple[Boundary, ...]]:
        if candidate.started or candidate.speech_samples < self._config.min_speech_samples:
            return state, ()
        started = replace(candidate, started=True)
        return replace(state, candidate=started), (Started(candidate.start_sample),)

    def _close(
        self, state: EndpointState, candidate: Candidate, reason: EndReason, *, limit: int
    ) -> tuple[EndpointState, tuple[Boundary, ...]]:
        if not candidate.started:  # a blip: as if it had not been, its sound may pad a later one
            return replace(state, candidate=None), ()
        speech_end = min(candidate.speech_end_sample, limit)
        end = min(speech_end + self._config.padding_samples, limit)
        ended = Ended(candidate.start_sample, end, speech_end, reason)
        return EndpointState(state.position, floor=end), (ended,)

    def _cut(self, state: EndpointState) -> tuple[EndpointState, tuple[Boundary, ...]]:
        """Cut an utterance that is too long before the least speech-like of its last frames."""
        candidate = state.candidate
        if candidate is None or not candidate.started:
            return replace(state, candidate=None), ()
        count = len(candidate.recent)
        lowest = min(range(count), key=lambda frame: (candidate.recent[frame][0], -frame))
        cut = state.position - (count - lowest) * FRAME_SAMPLES
        rest = candidate.recent[lowest:]
        speech_frames = sum(speaking for _, speaking in rest)
        if not speech_frames:  # the speech was over before the cut
            return self._close(state, candidate, "max_length", limit=cut)
        ended = Ended(candidate.start_sample, cut, cut, "max_length")
        following = Candidate(
            start_sample=cut,
            speech_samples=speech_frames * FRAME_SAMPLES,
            speech_end_sample=candidate.speech_end_sample,
            speaking=candidate.speaking,
            started=False,
            recent=rest,
        )
        state, started = self._announce(
            EndpointState(state.position, floor=cut, candidate=following), following
        )
        return state, (ended, *started)
