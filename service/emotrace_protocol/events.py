"""What the server sends: one frozen model an event.

`sequence` counts a session's events from 0 without gaps. Events about audio carry `utterance`
(its number in the session), `speaker`, and `start_ms`, `end_ms` on the session's own audio clock.
Clients skip events and fields that they do not know.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from emotrace_protocol.errors import DoubtCode, ErrorCode, WarningCode
from emotrace_protocol.estimates import (
    Affect,
    DecoderResult,
    Explanation,
    ModalityName,
    Part,
    Probability,
    Quality,
    Timings,
)
from emotrace_protocol.messages import AudioFormat

NOTICE = (
    "These are estimates of expressed emotion, made by a machine. "
    "They do not say what a person feels."
)

# A newer server may know more codes: a client then goes by `fatal` and `retryable`.
AnyErrorCode = Annotated[ErrorCode | str, Field(union_mode="left_to_right")]
AnyWarningCode = Annotated[WarningCode | str, Field(union_mode="left_to_right")]
AnyDoubt = Annotated[DoubtCode | str, Field(union_mode="left_to_right")]


class Event(Part):
    """One event. `type` names it."""

    type: str
    sequence: int = Field(ge=0)


class UnknownEvent(Event):
    """An event of a newer server. Skip it, but count it: its sequence belongs to the session's."""


class BundleInfo(Part):
    name: str
    version: str
    licence: str
    languages: tuple[str, ...]


class ModalityStatus(Part):
    """Whether a modality is live in this session, and why not."""

    modality: ModalityName
    live: bool
    reason: str | None = None


class Limits(Part):
    max_message_bytes: int
    max_text_characters: int
    max_utterance_ms: int
    audio_queue_ms: int
    idle_no_audio_ms: int
    idle_no_speech_ms: int


class DecoderInfo(Part):
    """Settings of the Dialogical Emotion Decoder (models.md section 3)."""

    shift_probability: float
    concentration: float
    beam: int
    lag: int | None
    commit: bool


class ResumeInfo(Part):
    """How a session is taken up again after its connection broke."""

    token: str
    window_ms: int = Field(description="for so long after the break")
    buffer_ms: int = Field(description="keep so much audio that is not acknowledged")


class RecordingInfo(Part):
    """The session is recorded."""

    token: str = Field(description="deletes it: DELETE /v1/recordings/{session}")


class SessionStarted(Event):
    """The answer to session.start: what is loaded, and what this session runs with."""

    type: Literal["session.started"] = "session.started"
    session: str
    protocol_version: int
    bundle: BundleInfo
    labels: tuple[str, ...]
    label_sets: dict[str, tuple[str, ...]] = Field(
        default={}, description="all that `labels` of session.start may ask for, by scheme"
    )
    modalities: tuple[ModalityStatus, ...]
    audio: AudioFormat
    speakers: tuple[str, ...]
    decoder: DecoderInfo
    limits: Limits
    notice: str = NOTICE
    resume: ResumeInfo | None = Field(
        default=None, description="null: not asked for, or not offered"
    )
    recording: RecordingInfo | None = Field(
        default=None, description="null: not asked for, or the server records nothing"
    )


class SessionResumed(Event):
    """The answer to session.resume, after the events that were missed. Say again what was said from
    message number `messages` on, and go on."""

    type: Literal["session.resumed"] = "session.resumed"
    messages: int = Field(ge=0)
    token: str = Field(
        description="for the next time; the former is void once anything more was said"
    )


class InputAck(Event):
    """Messages before number `messages` are safe, and need not be said again (docs/protocol.md)."""

    type: Literal["input.ack"] = "input.ack"
    messages: int = Field(ge=0)


class UtteranceEvent(Event):
    utterance: int = Field(ge=0)
    speaker: str
    start_ms: int = Field(ge=0)


class SpeechStarted(UtteranceEvent):
    """Somebody began to speak."""

    type: Literal["speech.started"] = "speech.started"


class SpeechEnded(UtteranceEvent):
    """An utterance is over; its estimate follows."""

    type: Literal["speech.ended"] = "speech.ended"
    end_ms: int
    reason: Literal["silence", "max_length", "end_of_audio"]


class SpeechRejected(UtteranceEvent):
    """What sounded like an utterance is not speech: it gets no estimate, and changes nothing."""

    type: Literal["speech.rejected"] = "speech.rejected"
    end_ms: int
    reason: Literal["not_speech", "music", "noise", "too_short"]


class TranscriptFinal(UtteranceEvent):
    """The words of an utterance."""

    type: Literal["transcript.final"] = "transcript.final"
    end_ms: int
    text: str
    language: str | None
    source: Literal["client", "server"]
    confidence: Probability | None = None


class Estimate(UtteranceEvent):
    """An emotion estimate: `posterior` over the label set, calibrated, in the label set's order."""

    end_ms: int
    label: str
    posterior: dict[str, Probability]
    confidence: Probability
    abstained: bool = Field(description="confidence is under the bundle's stated threshold")
    doubts: tuple[AnyDoubt, ...] = Field(default=(), description="why to trust it less")
    affect: Affect | None = None
    quality: Quality | None = Field(default=None, description="None: there was no sound")
    modalities: tuple[ModalityName, ...] = Field(description="what this estimate rests on")
    missing: tuple[ModalityName, ...] = Field(description="what the bundle could use and had not")


class EmotionInterim(Estimate):
    """An estimate that is not the last word, from the audio up to `end_ms`: somebody still speaks,
    or may go on, or the words are not there yet. Nothing is kept of it."""

    type: Literal["emotion.interim"] = "emotion.interim"


class EmotionFinal(Estimate):
    """The estimate of a whole utterance, with its reasons."""

    type: Literal["emotion.final"] = "emotion.final"
    decoder: DecoderResult
    explanation: Explanation
    timings: Timings


class EmotionRevised(UtteranceEvent):
    """An earlier utterance's decoder label changed when the utterance `cause` was heard."""

    type: Literal["emotion.revised"] = "emotion.revised"
    end_ms: int
    previous: str
    label: str
    posterior: dict[str, Probability]
    cause: int


class ServiceDegraded(Event):
    """The server has too much to do, and leaves something out; or does so no more (level 0)."""

    type: Literal["service.degraded"] = "service.degraded"
    level: int = Field(ge=0, le=3, description="0 nothing is left out; each level keeps the former")
    message: str


class MarkerReached(Event):
    """Everything that the client sent before this marker has been processed."""

    type: Literal["marker.reached"] = "marker.reached"
    id: str
    audio_ms: int


class Heartbeat(Event):
    """Sent while nothing else is: the session lives and has heard audio up to `audio_ms`."""

    type: Literal["heartbeat"] = "heartbeat"
    audio_ms: int


class Warned(Event):
    """The session goes on, with less than the client may expect."""

    type: Literal["warning"] = "warning"
    code: AnyWarningCode
    message: str
    param: str | None = None


class Failed(Event):
    """Something was refused or failed; where `fatal`, the close follows."""

    type: Literal["error"] = "error"
    code: AnyErrorCode
    message: str
    param: str | None = None
    fatal: bool
    retryable: bool
    resume: bool
    retry_after_ms: int | None = None
    utterance: int | None = None


class Totals(Part):
    """What the session took in and gave out, so that a client can verify that nothing was lost."""

    audio_ms: int
    audio_bytes: int
    messages: int = Field(description="text messages that were accepted")
    utterances: int
    finals: int
    revisions: int
    rejected: int = Field(default=0, description="utterances that were no speech")
    failed: int = Field(description="utterances without an estimate, for a fault")
    events: int = Field(description="with this one")


class SessionEnded(Event):
    """The last event."""

    type: Literal["session.ended"] = "session.ended"
    reason: Literal["client", "idle", "error", "going_away", "deleted"]
    totals: Totals


ServerEvent = Annotated[
    SessionStarted
    | SessionResumed
    | InputAck
    | SpeechStarted
    | SpeechEnded
    | SpeechRejected
    | TranscriptFinal
    | EmotionInterim
    | EmotionFinal
    | EmotionRevised
    | ServiceDegraded
    | MarkerReached
    | Heartbeat
    | Warned
    | Failed
    | SessionEnded,
    Field(discriminator="type"),
]

EVENTS: dict[str, type[Event]] = {
    "session.started": SessionStarted,
    "session.resumed": SessionResumed,
    "input.ack": InputAck,
    "speech.started": SpeechStarted,
    "speech.ended": SpeechEnded,
    "speech.rejected": SpeechRejected,
    "transcript.final": TranscriptFinal,
    "emotion.interim": EmotionInterim,
    "emotion.final": EmotionFinal,
    "emotion.revised": EmotionRevised,
    "service.degraded": ServiceDegraded,
    "marker.reached": MarkerReached,
    "heartbeat": Heartbeat,
    "warning": Warned,
    "error": Failed,
    "session.ended": SessionEnded,
}
