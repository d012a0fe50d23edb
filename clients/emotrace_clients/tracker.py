"""EmotionTracker: a session's events -> where each speaker stands, in a few numbers.

Pure: it knows no clock and does no I/O. The state depends on the events and their order, not on how
they came in groups, and an estimate or revision that comes a second time changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from emotrace_clients.prompting import prompt_line
from emotrace_clients.tracker_state import Absent, Shift, SpeakerState, TrackerState, Trend
from emotrace_clients.trend import FEWEST, MOST, direction, smoothed
from emotrace_protocol import Event
from emotrace_protocol.estimates import Affect
from emotrace_protocol.events import (
    EmotionFinal,
    EmotionInterim,
    EmotionRevised,
    Estimate,
    Failed,
    Heartbeat,
    MarkerReached,
    ServiceDegraded,
    SessionEnded,
    SessionStarted,
    SpeechRejected,
    TranscriptFinal,
    UtteranceEvent,
)

DEFAULT_TURNS = 6
DEFAULT_SHIFT_PROBABILITY = 0.6


class EmotionTracker:
    """Keeps the state of one session.

    turns: how many of a speaker's last turns the trend rests on, 4 to 12; revisions of older ones
        are not followed.
    shift_probability: a new label counts as a shift from this probability on, so that a label that
        flickers raises no alert.
    words: keep the words of each speaker's newest utterance, and quote them in state and prompt.

    Raises ValueError for `turns` of which no trend can be told.
    """

    def __init__(
        self,
        *,
        turns: int = DEFAULT_TURNS,
        shift_probability: float = DEFAULT_SHIFT_PROBABILITY,
        words: bool = False,
    ) -> None:
        if not FEWEST <= turns <= MOST:
            raise ValueError(f"turns is {turns}: a trend is told from {FEWEST} to {MOST} turns")
        self._turns = turns
        self._shift_probability = shift_probability
        self._keeps_words = words
        self._tracks: dict[str, _Track] = {}
        self._absent: tuple[Absent, ...] = ()
        self._audio_ms = 0
        self._degraded = 0
        self._ended = False

    def push(self, *events: Event) -> list[Shift]:
        """Takes events in their order, any number at a time. Gives the shifts that they show.

        A shift is given once. It says what is known by then: a later revision may take it back, and
        `state()` has only those that hold. A revision may show one at an earlier utterance, too.
        """
        return [shift for event in events for shift in self._take(event)]

    def state(self) -> TrackerState:
        """Where the dialogue stands now."""
        standing = [track.standing(self._audio_ms) for track in self._tracks.values()]
        return TrackerState(
            audio_ms=self._audio_ms,
            speakers=tuple(one for one in standing if one is not None),
            absent=self._absent,
            degraded=self._degraded,
            ended=self._ended,
        )

    def prompt_line(self, speaker: str | None = None) -> str:
        """The state as one line for a language model (see `emotrace_clients.prompting`)."""
        return prompt_line(self.state(), speaker)

    def _take(self, event: Event) -> list[Shift]:
        self._audio_ms = max(self._audio_ms, _heard_ms(event))
        if isinstance(event, EmotionInterim):
            self._track(event.speaker).begin(_turn(event, event.label))
        elif isinstance(event, EmotionFinal):
            return self._track(event.speaker).judge(_turn(event, event.decoder.label))
        elif isinstance(event, EmotionRevised):
            return self._track(event.speaker).revise(event.utterance, event.label)
        elif isinstance(event, SpeechRejected):
            self._track(event.speaker).drop(event.utterance)
        elif isinstance(event, Failed) and event.utterance is not None:
            for track in self._tracks.values():
                track.drop(event.utterance)
        elif isinstance(event, TranscriptFinal) and self._keeps_words:
            self._track(event.speaker).words = (event.utterance, event.text)
        elif isinstance(event, SessionStarted):
            self._absent = tuple(
                Absent(modality=one.modality, reason=one.reason)
                for one in event.modalities
                if not one.live
            )
        elif isinstance(event, ServiceDegraded):
            self._degraded = event.level
        elif isinstance(event, SessionEnded):
            self._ended = True
        return []

    def _track(self, speaker: str) -> _Track:
        if speaker not in self._tracks:
            self._tracks[speaker] = _Track(speaker, self._turns, self._shift_probability)
        return self._tracks[speaker]


def _heard_ms(event: Event) -> int:
    """How far the session's audio clock is known to be."""
    if isinstance(event, UtteranceEvent):
        return int(getattr(event, "end_ms", event.start_ms))
    if isinstance(event, MarkerReached | Heartbeat):
        return event.audio_ms
    return event.totals.audio_ms if isinstance(event, SessionEnded) else 0


@dataclass(frozen=True, slots=True)
class _Turn:
    """One utterance's estimate, as it now stands."""

    utterance: int
    start_ms: int
    end_ms: int
    label: str
    posterior: dict[str, float]
    abstained: bool
    affect: Affect | None
    modalities: tuple[str, ...]
    missing: tuple[str, ...]
    doubts: tuple[str, ...]
    interim: bool
    revised: bool = False

    @property
    def probability(self) -> float:
        """Of the label, calibrated. The decoder's own posterior is that of a path, and sharper."""
        return self.posterior[self.label]


def _turn(event: Estimate, label: str) -> _Turn:
    return _Turn(
        utterance=event.utterance,
        start_ms=event.start_ms,
        end_ms=event.end_ms,
        label=label,
        posterior=event.posterior,
        abstained=event.abstained,
        affect=event.affect,
        modalities=tuple(event.modalities),
        missing=tuple(event.missing),
        doubts=tuple(str(one) for one in event.doubts),
        interim=isinstance(event, EmotionInterim),
    )


class _Track:
    """One speaker's last turns, and what the turns before them left behind."""

    def __init__(self, speaker: str, keep: int, sure: float) -> None:
        self.words: tuple[int, str] | None = None
        self._speaker = speaker
        self._keep = keep
        self._sure = sure
        self._turns: list[_Turn] = []  # by utterance
        self._open: _Turn | None = None
        self._forgotten = -1  # the newest utterance that is
        self._settled: str | None = None  # the label that was sure last, of forgotten turns
        self._shift: Shift | None = None  # the newest, of forgotten turns
        self._announced: set[tuple[int, str]] = set()

    def begin(self, turn: _Turn) -> None:
        """An interim estimate of the utterance that goes on."""
        if turn.utterance > (self._turns[-1].utterance if self._turns else self._forgotten):
            self._open = turn

    def drop(self, utterance: int) -> None:
        """The utterance goes on no more."""
        if self._open is not None and self._open.utterance == utterance:
            self._open = None

    def judge(self, turn: _Turn) -> list[Shift]:
        self.drop(turn.utterance)
        known = {one.utterance for one in self._turns}
        if turn.utterance in known or turn.utterance <= self._forgotten:
            return []
        self._turns = sorted([*self._turns, turn], key=lambda one: one.utterance)
        news = self._announce()
        while len(self._turns) > self._keep:
            self._forget()
        return news

    def revise(self, utterance: int, label: str) -> list[Shift]:
        self._turns = [
            replace(one, label=label, revised=True) if one.utterance == utterance else one
            for one in self._turns
        ]
        return self._announce()

    def standing(self, audio_ms: int) -> SpeakerState | None:
        """None: there is no estimate yet."""
        turn = self._current()
        if turn is None:
            return None
        shifts = self._shifts(self._turns)[1]
        said = self.words is not None and self.words[0] == turn.utterance
        return SpeakerState(
            speaker=self._speaker,
            utterance=turn.utterance,
            start_ms=turn.start_ms,
            end_ms=turn.end_ms,
            label=None if turn.abstained else turn.label,
            leaning=turn.label,
            probability=turn.probability,
            interim=turn.interim,
            revised=turn.revised,
            stale_ms=max(0, audio_ms - turn.end_ms),
            modalities=turn.modalities,
            missing=turn.missing,
            doubts=turn.doubts,
            shift=shifts[-1] if shifts else self._shift,
            trend=self._trend(),
            words=self.words[1] if self.words is not None and said else None,
        )

    def _current(self) -> _Turn | None:
        """The newest turn. One that goes on counts only where its estimate is sure."""
        if self._open is not None and not self._open.abstained:
            return self._open
        return self._turns[-1] if self._turns else None

    def _trend(self) -> Trend | None:
        found = [one.affect for one in self._turns if one.affect and not one.abstained]
        if not found:
            return None
        valences = [one.valence for one in found]
        arousals = [one.arousal for one in found]
        return Trend(
            valence=smoothed(valences),
            arousal=smoothed(arousals),
            valence_direction=direction(valences),
            arousal_direction=direction(arousals),
            turns=len(found),
        )

    def _shifts(self, turns: Iterable[_Turn]) -> tuple[str | None, list[Shift]]:
        """The label that is sure last, and every turn from one sure label to another."""
        settled, found = self._settled, []
        for turn in turns:
            if turn.abstained or turn.probability < self._sure or turn.label == settled:
                continue
            if settled is not None:
                found.append(
                    Shift(
                        speaker=self._speaker,
                        utterance=turn.utterance,
                        previous=settled,
                        label=turn.label,
                        probability=turn.probability,
                    )
                )
            settled = turn.label
        return settled, found

    def _announce(self) -> list[Shift]:
        shifts = self._shifts(self._turns)[1]
        news = [one for one in shifts if (one.utterance, one.label) not in self._announced]
        self._announced |= {(one.utterance, one.label) for one in news}
        return news

    def _forget(self) -> None:
        oldest, *self._turns = self._turns
        self._settled, shifts = self._shifts([oldest])
        self._shift = shifts[-1] if shifts else self._shift
        self._forgotten = oldest.utterance
        self._announced = {one for one in self._announced if one[0] != oldest.utterance}
