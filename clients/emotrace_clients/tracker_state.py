"""What an EmotionTracker says: frozen values that go to JSON (`state.model_dump_json()`)."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from emotrace_clients.trend import Direction
from emotrace_protocol import NOTICE


class Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Shift(Value):
    """A speaker's expressed emotion turned from one label to another, and the new one is sure."""

    speaker: str
    utterance: int
    previous: str
    label: str
    probability: float

    def __str__(self) -> str:
        return (
            f"{self.speaker} turned from {self.previous} to {self.label} "
            f"at utterance {self.utterance}"
        )


class Trend(Value):
    """Valence and arousal of a speaker's last turns, from -1 to 1; unsure turns are left out.

    valence, arousal: smoothed, the newest turn weighing most. The directions are None where there
    are too few turns to tell. turns: how many it rests on.
    """

    valence: float
    arousal: float
    valence_direction: Direction | None
    arousal_direction: Direction | None
    turns: int


class SpeakerState(Value):
    """Where one speaker stands, by the newest utterance that has an estimate."""

    speaker: str
    utterance: int
    start_ms: int
    end_ms: int
    label: str | None = Field(description="the decoder's, or its revision; None: unsure")
    leaning: str = Field(description="the same label, however unsure")
    probability: float = Field(description="of `leaning`, calibrated, by the utterance's estimate")
    interim: bool = Field(description="the utterance goes on, or its words are to come")
    revised: bool
    stale_ms: int = Field(description="audio heard since the utterance ended")
    modalities: tuple[str, ...] = Field(description="what the estimate rests on")
    missing: tuple[str, ...] = Field(description="what the bundle could use and had not")
    doubts: tuple[str, ...] = Field(description="why to trust the estimate less")
    shift: Shift | None = Field(description="the newest that holds")
    trend: Trend | None = Field(description="None: no turn yet that is sure and has a place")
    words: str | None = Field(description="of the utterance, where the tracker was asked for words")


class Absent(Value):
    """A modality that the whole session does without, and why."""

    modality: str
    reason: str | None


class TrackerState(Value):
    """Where a dialogue stands. Speakers stand in the order in which they first had an estimate.

    audio_ms: the session's audio clock, as far as the events tell. degraded: the server's level,
    0 where it leaves nothing out.
    """

    audio_ms: int
    speakers: tuple[SpeakerState, ...]
    absent: tuple[Absent, ...]
    degraded: int
    ended: bool
    notice: str = NOTICE

    def of(self, speaker: str) -> SpeakerState | None:
        """A speaker's state; None before the first estimate."""
        return next((one for one in self.speakers if one.speaker == speaker), None)
