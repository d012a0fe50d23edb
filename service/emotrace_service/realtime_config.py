"""What a Realtime client may configure, and the `session.start` that it comes to. Pure.

The names are those of OpenAI's Realtime protocol (transcription sessions). What this server cannot
do is refused by name; what would change no estimate's meaning (noise reduction, a prompt) is left
out, and the client is told. The differences are listed in docs/compatibility.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from emotrace_protocol.errors import ProtocolError
from emotrace_service.endpointing import PADDING_MS

PCM_RATE, G711_RATE = 24_000, 8_000
UNCOMMITTED_SILENCE_MS = (
    5_000  # the longest that a session takes; then an utterance ends uncommitted
)
INPUT = "session.audio.input"

P = TypeVar("P", bound="Part")


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Pcm(Part):
    """16 bits, little-endian, mono."""

    type: Literal["audio/pcm"] = "audio/pcm"
    rate: Literal[24_000] = 24_000


class Pcmu(Part):
    """G.711 mu-law at 8 kHz."""

    type: Literal["audio/pcmu"] = "audio/pcmu"


class Pcma(Part):
    """G.711 A-law at 8 kHz."""

    type: Literal["audio/pcma"] = "audio/pcma"


class NoiseReduction(Part):
    type: Literal["near_field", "far_field"] | None = None
    strength: float | None = None


class Transcription(Part):
    """Words come from the server's own transcriber, whatever model is named."""

    model: str | None = Field(default=None, max_length=64)
    language: str | None = None
    languages: list[str] | None = None
    prompt: str | None = None
    keywords: list[str] | None = None
    delay: str | None = None


class ServerVad(Part):
    type: Literal["server_vad"] = "server_vad"
    threshold: float = 0.5
    prefix_padding_ms: int = PADDING_MS
    silence_duration_ms: int = 500
    create_response: Literal[False] | None = None
    interrupt_response: Literal[False] | None = None
    idle_timeout_ms: None = None


def _nothing(include: list[str] | None) -> list[str] | None:
    if include:
        raise ValueError("this server gives no log probabilities")
    return include


Include = Annotated[list[str] | None, AfterValidator(_nothing)]


class AudioInput(Part):
    format: Annotated[Pcm | Pcmu | Pcma, Field(discriminator="type")] = Pcm()
    noise_reduction: NoiseReduction | None = None
    transcription: Transcription | None = Field(
        default=Transcription(), description="null: no words, the estimates rest on sound alone"
    )
    turn_detection: ServerVad | None = Field(
        default=ServerVad(), description="null: the client commits each utterance"
    )


class Audio(Part):
    input: AudioInput = AudioInput()


class Own(Part):
    """What OpenAI's protocol has no field for: those of this server's session.start."""

    bundle: str | None = None
    labels: list[str] | str | None = Field(
        default=None, description="names of a label set in any order, or its scheme: common4"
    )
    speaker: str | None = Field(default=None, description="who speaks; default A")
    purpose: str | None = Field(default=None, description="what the estimates are for")
    interim: bool = Field(default=True, description="send emotrace.emotion.interim")


class SessionConfig(Part):
    """A transcription session, as `session.update` and `client_secrets` configure it."""

    type: Literal["transcription"] = "transcription"
    audio: Audio = Audio()
    include: Include = None
    emotrace: Own = Own()


class BetaSessionConfig(Part):
    """The same in the flat form of the protocol's beta (`transcription_session.update`)."""

    input_audio_format: Literal["pcm16", "g711_ulaw", "g711_alaw"] = "pcm16"
    input_audio_noise_reduction: NoiseReduction | None = None
    input_audio_transcription: Transcription | None = None
    turn_detection: ServerVad | None = ServerVad()
    include: Include = None

    def general(self) -> SessionConfig:
        """With the fields that were given."""
        given = self.model_dump(exclude_unset=True)
        inputs = {name: given[beta] for beta, name in _BETA_NAMES.items() if beta in given}
        if "format" in inputs:
            inputs["format"] = {"type": _BETA_FORMATS[inputs["format"]]}
        fields: dict[str, Any] = {"audio": {"input": inputs}}
        if "include" in given:
            fields["include"] = given["include"]
        return SessionConfig.model_validate(fields)


_BETA_NAMES = {
    "input_audio_format": "format",
    "input_audio_noise_reduction": "noise_reduction",
    "input_audio_transcription": "transcription",
    "turn_detection": "turn_detection",
}
_BETA_FORMATS = {"pcm16": "audio/pcm", "g711_ulaw": "audio/pcmu", "g711_alaw": "audio/pcma"}
_ENCODINGS = {"audio/pcm": "s16le", "audio/pcmu": "mulaw", "audio/pcma": "alaw"}

# Fields of session.start, and what a Realtime client calls them.
_NAMES = {
    "endpointing.threshold": f"{INPUT}.turn_detection.threshold",
    "endpointing.silence_ms": f"{INPUT}.turn_detection.silence_duration_ms",
    "language": f"{INPUT}.transcription.language",
    "speakers": "session.emotrace.speaker",
    "bundle": "session.emotrace.bundle",
    "labels": "session.emotrace.labels",
    "purpose": "session.emotrace.purpose",
}


def merged(had: P, given: P) -> P:
    """`had` with the fields that `given` was given, as session.update means it."""
    values: dict[str, Any] = {}
    for name in given.model_fields_set:
        before, value = getattr(had, name), getattr(given, name)
        same = isinstance(value, Part) and type(value) is type(before)
        values[name] = merged(before, value) if same else value
    return had.model_copy(update=values)


def start_text(config: SessionConfig) -> str:
    """The session.start that this configuration comes to."""
    audio, own = config.audio.input, config.emotrace
    vad = audio.turn_detection or ServerVad(silence_duration_ms=UNCOMMITTED_SILENCE_MS)
    fields: dict[str, Any] = {
        "audio": {
            "encoding": _ENCODINGS[audio.format.type],
            "sample_rate": PCM_RATE if isinstance(audio.format, Pcm) else G711_RATE,
        },
        "endpointing": {
            "threshold": vad.threshold,
            "silence_ms": vad.silence_duration_ms,
        },
        "transcription": "off" if audio.transcription is None else "auto",
        "language": None if audio.transcription is None else audio.transcription.language,
        "speakers": None if own.speaker is None else [own.speaker],
        "bundle": own.bundle,
        "labels": own.labels,
        "purpose": own.purpose,
        "interim": own.interim,
    }
    given = {name: value for name, value in fields.items() if value is not None}
    return json.dumps({"type": "session.start", **given})


def renamed(error: ProtocolError) -> ProtocolError:
    """A refusal of session.start in the words of the Realtime client who never sent one."""
    name = next((one for one in _NAMES if (error.param or "").startswith(one)), None)
    if name is None:
        return error
    cause = error.cause.replace(f"{error.param}: ", f"{_NAMES[name]}: ")
    return ProtocolError(error.code, cause, _NAMES[name])


def left_out(given: SessionConfig) -> Iterator[tuple[str, str]]:
    """Fields that were given and have no effect here: each one's dotted name, and why."""
    audio = given.audio.input
    if audio.noise_reduction is not None:
        yield (
            f"{INPUT}.noise_reduction",
            "The sound is taken as it is; there is no noise reduction.",
        )
    vad = audio.turn_detection
    if vad is not None and vad.prefix_padding_ms != PADDING_MS:
        yield (
            f"{INPUT}.turn_detection.prefix_padding_ms",
            f"Utterances begin {PADDING_MS} ms before their speech, always.",
        )
    words = audio.transcription
    if words is not None:
        if words.model is not None:
            yield (
                f"{INPUT}.transcription.model",
                "Words come from this server's own transcriber, where it has one.",
            )
        for name in ("prompt", "keywords", "languages", "delay"):
            if getattr(words, name):
                yield f"{INPUT}.transcription.{name}", "The transcriber takes no such hint."


def without_hints(config: SessionConfig) -> SessionConfig:
    """Without the texts that have no effect, which may be long."""
    audio = config.audio.input
    words = audio.transcription
    if words is not None:
        words = Transcription(model=words.model, language=words.language)
    lean = audio.model_copy(update={"transcription": words})
    return config.model_copy(update={"audio": Audio(input=lean)})


def told(config: SessionConfig) -> dict[str, Any]:
    """The configuration that holds, as `session.created` and `session.updated` tell it."""
    audio = config.audio.input
    words, vad = audio.transcription, audio.turn_detection
    return {
        "type": "transcription",
        "audio": {
            "input": {
                "format": audio.format.model_dump(),
                "noise_reduction": None,
                "transcription": None if words is None else {"language": words.language},
                "turn_detection": None
                if vad is None
                else {
                    "type": "server_vad",
                    "threshold": vad.threshold,
                    "prefix_padding_ms": PADDING_MS,
                    "silence_duration_ms": vad.silence_duration_ms,
                },
            }
        },
        "include": None,
    }


def told_beta(config: SessionConfig) -> dict[str, Any]:
    """The same in the flat form of the protocol's beta."""
    audio = told(config)["audio"]["input"]
    formats = {name: beta for beta, name in _BETA_FORMATS.items()}
    audio["format"] = formats[audio["format"]["type"]]
    return {beta: audio[name] for beta, name in _BETA_NAMES.items()}
