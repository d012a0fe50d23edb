"""What a client may send: JSON text messages. Audio itself is a binary message without a header.

Unknown fields are tolerated on the wire; the server answers them with a `warning` (code
`field_unknown`). The models themselves refuse them, so that a misspelt argument is seen at once.
"""

from __future__ import annotations

import unicodedata
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
)

PROTOCOL_VERSION = 1

SAMPLE_RATES = (8_000, 16_000, 24_000, 44_100, 48_000)
MAX_CHANNELS = 8
MAX_TEXT_CHARACTERS = 4_096
MAX_IMAGE_CHARACTERS = 700_000

SpeakerName = Annotated[
    str, StringConstraints(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")
]
MarkerName = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Language = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$", max_length=16)
]


LabelNames = Annotated[tuple[str, ...], Field(strict=False)]


def _supported_rate(rate: int) -> int:
    if rate not in SAMPLE_RATES:
        raise ValueError(f"a sample rate is one of {', '.join(map(str, SAMPLE_RATES))} Hz")
    return rate


def _normalised(text: str) -> str:
    text = unicodedata.normalize("NFC", text)
    if len(text) > MAX_TEXT_CHARACTERS:  # NFC lengthens some texts
        raise ValueError(f"a text has at most {MAX_TEXT_CHARACTERS} characters in form NFC")
    return text


SampleRate = Annotated[
    int, AfterValidator(_supported_rate), Field(json_schema_extra={"enum": list(SAMPLE_RATES)})
]
Text = Annotated[str, Field(max_length=MAX_TEXT_CHARACTERS), AfterValidator(_normalised)]


class Message(BaseModel):
    """One control message. `type` names it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    type: str


class AudioEncoding(StrEnum):
    S16LE = "s16le"
    F32LE = "f32le"
    MULAW = "mulaw"
    ALAW = "alaw"


class Transcription(StrEnum):
    """Where a session's words come from.

    auto: the server's transcriber if it has one, and the client's text where it is sent.
    client: only the client's; after each `speech.ended` the server waits for `utterance.text`.
    off: no words; the session runs on sound alone.
    """

    AUTO = "auto"
    CLIENT = "client"
    OFF = "off"


class ProhibitedPurpose(StrEnum):
    """Purposes that the server refuses (docs/responsible-use.md)."""

    EMPLOYEE_MONITORING = "employee_monitoring"
    EDUCATION_ASSESSMENT = "education_assessment"
    RECRUITMENT = "recruitment"
    LAW_ENFORCEMENT = "law_enforcement"
    INSURANCE = "insurance"


class Part(BaseModel):
    """A nested part of a message."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class AudioFormat(Part):
    """Interleaved raw samples. One channel is one speaker."""

    encoding: Annotated[AudioEncoding, Field(strict=False)] = AudioEncoding.S16LE
    sample_rate: SampleRate = Field(default=16_000, description="Hz")
    channels: int = Field(default=1, ge=1, le=MAX_CHANNELS)


class Endpointing(Part):
    """Where utterances begin and end. All times in milliseconds of audio."""

    threshold: float = Field(
        default=0.5, gt=0, lt=1, description="speech begins at this probability"
    )
    silence_ms: int = Field(
        default=500, ge=100, le=5_000, description="silence that ends an utterance"
    )
    min_speech_ms: int = Field(
        default=250, ge=32, le=2_000, description="shorter speech is ignored"
    )
    max_utterance_ms: int = Field(default=15_000, ge=2_000, le=30_000, description="cut after this")


class Record(Part):
    """The session shall be recorded, and whoever is heard in it agreed to that."""

    consent: str = Field(
        min_length=1,
        max_length=1_024,
        description="what was agreed to, or its name; the server keeps its SHA-256",
    )


class SessionStart(Message):
    """The first message of a session."""

    type: Literal["session.start"] = "session.start"
    protocol_version: int = PROTOCOL_VERSION
    audio: AudioFormat = AudioFormat()
    speakers: tuple[SpeakerName, ...] | None = Field(
        default=None, strict=False, description="one name a channel; default A, B, C, ..."
    )
    language: Language | None = Field(default=None, description="BCP 47, for the transcriber")
    transcription: Annotated[Transcription, Field(strict=False)] = Transcription.AUTO
    endpointing: Endpointing = Endpointing()
    interim: bool = Field(default=True, description="send emotion.interim while somebody speaks")
    bundle: str | None = Field(default=None, max_length=64, description="default: the server's")
    labels: LabelNames | str | None = Field(
        default=None, description="names of a label set in any order, or its scheme: common4"
    )
    purpose: str | None = Field(
        default=None, max_length=64, description="what the estimates are for"
    )
    token: str | None = Field(
        default=None, max_length=512, description="a key or ticket, where no header can be sent"
    )
    resume: bool = Field(
        default=False, description="keep the session where the connection breaks; sends input.ack"
    )
    record: Record | None = Field(
        default=None, description="record the session, encrypted (docs/privacy.md)"
    )

    @field_validator("labels", mode="before")
    @classmethod
    def _are_names(cls, labels: object) -> object:
        # Before the union is tried, whose faults would name each of its members.
        names = labels if isinstance(labels, list | tuple) else [labels]
        if labels is not None and not all(isinstance(name, str) for name in names):
            raise ValueError("a label set is a list of names, or the name of its scheme")
        return labels

    @field_validator("speakers")
    @classmethod
    def _fit_channels(
        cls, speakers: tuple[str, ...] | None, info: ValidationInfo
    ) -> tuple[str, ...] | None:
        if speakers is None or "audio" not in info.data:
            return speakers
        channels = info.data["audio"].channels
        if len(speakers) != channels:
            raise ValueError(
                f"{len(speakers)} speakers for {channels} channels: name one a channel"
            )
        if len(set(speakers)) != len(speakers):
            raise ValueError("two channels have the same speaker name")
        return speakers


class SessionResume(Message):
    """The first message of a further connection: a session goes on where its connection broke."""

    type: Literal["session.resume"] = "session.resume"
    session: str = Field(
        max_length=64, pattern=r"^[A-Za-z0-9_-]+$", description="as session.started named it"
    )
    token: str = Field(max_length=128, description="the newest that the server gave")
    sequence: int = Field(ge=0, description="how many events have arrived: the number of the next")
    attempt: int = Field(
        default=0,
        ge=0,
        le=2**31,
        description="counts the client's attempts to go on, from 1: a later one is not undone by "
        "an earlier one that arrives after it",
    )


class UtteranceText(Message):
    """Words that the client already has.

    With `utterance` they are the transcript of an announced utterance. Without it they are a turn
    of their own, without audio (a chatbot's reply, say), placed at the audio position reached.
    """

    type: Literal["utterance.text"] = "utterance.text"
    text: Text
    utterance: int | None = Field(default=None, ge=0)
    speaker: SpeakerName | None = Field(
        default=None, validate_default=True, description="needed without `utterance`"
    )
    language: Language | None = None

    @field_validator("speaker")
    @classmethod
    def _names_its_turn(cls, speaker: str | None, info: ValidationInfo) -> str | None:
        if speaker is None and info.data.get("utterance", 0) is None:
            raise ValueError("name an utterance, or the speaker of a turn without audio")
        return speaker


class Image(Message):
    """One webcam frame of a speaker, a base64 JPEG."""

    type: Literal["image"] = "image"
    speaker: SpeakerName
    jpeg: str = Field(max_length=MAX_IMAGE_CHARACTERS)


class Marker(Message):
    """Echoed as `marker.reached` after everything that was sent before it has been processed."""

    type: Literal["marker"] = "marker"
    id: MarkerName


class UtteranceEnd(Message):
    """Whatever is being said ends here, with or without silence (push-to-talk).

    The last 32 ms may count to what follows.
    """

    type: Literal["utterance.end"] = "utterance.end"


class Ack(Message):
    """Events up to and including `sequence` have reached the client."""

    type: Literal["ack"] = "ack"
    sequence: int = Field(ge=0)


class SessionEnd(Message):
    """No more audio. The server finishes what it has and answers `session.ended`."""

    type: Literal["session.end"] = "session.end"


class SessionDelete(Message):
    """Ends the session at once: what is being computed is broken off, and nothing is kept of it."""

    type: Literal["session.delete"] = "session.delete"


ClientMessage = Annotated[
    SessionStart
    | SessionResume
    | UtteranceText
    | UtteranceEnd
    | Image
    | Marker
    | Ack
    | SessionEnd
    | SessionDelete,
    Field(discriminator="type"),
]

MESSAGES: dict[str, type[Message]] = {
    "session.start": SessionStart,
    "session.resume": SessionResume,
    "utterance.text": UtteranceText,
    "utterance.end": UtteranceEnd,
    "image": Image,
    "marker": Marker,
    "ack": Ack,
    "session.end": SessionEnd,
    "session.delete": SessionDelete,
}
