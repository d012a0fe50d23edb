"""The closed list of errors and warnings of protocol version 1.

Every error reaches the client as an `error` event before the close frame, so that nobody has to
rely on a close code arriving. The close codes are 4000 + the HTTP status where one fits.

    ProtocolError       a message that is refused; carries an ErrorCode and becomes an `error` event
    ConversationError   one's own side, or the server, broke the order of events: a fault in code
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """What a client may conclude from one error code.

    close: websocket close code, or None where the session goes on.
    retryable: the same request may succeed later.
    resume: a session that has a resume token can be taken up again on a new connection.
    cure: what to do about it, in one sentence.
    """

    close: int | None
    retryable: bool
    resume: bool
    cure: str

    @property
    def fatal(self) -> bool:
        return self.close is not None


class ErrorCode(StrEnum):
    """Errors. `kind` tells what each means."""

    MESSAGE_INVALID = "message_invalid"
    MESSAGE_TOO_LARGE = "message_too_large"
    TYPE_UNKNOWN = "type_unknown"
    TOO_MANY_ERRORS = "too_many_errors"
    NOT_STARTED = "not_started"
    ALREADY_STARTED = "already_started"
    ALREADY_ENDED = "already_ended"
    START_TIMEOUT = "start_timeout"
    CONFIG_INVALID = "config_invalid"
    PROTOCOL_UNSUPPORTED = "protocol_unsupported"
    BUNDLE_UNKNOWN = "bundle_unknown"
    LABELS_MISMATCH = "labels_mismatch"
    MODALITY_UNAVAILABLE = "modality_unavailable"
    PURPOSE_PROHIBITED = "purpose_prohibited"
    UNAUTHENTICATED = "unauthenticated"
    TICKET_USED = "ticket_used"
    TOKEN_IN_QUERY = "token_in_query"
    CONCURRENCY_LIMIT = "concurrency_limit"
    AUDIO_FORMAT_UNSUPPORTED = "audio_format_unsupported"
    AUDIO_FORMAT_SUSPECT = "audio_format_suspect"
    AUDIO_NONFINITE = "audio_nonfinite"
    AUDIO_CONTAINER_INVALID = "audio_container_invalid"
    IMAGE_INVALID = "image_invalid"
    TEXT_TOO_LONG = "text_too_long"
    UTTERANCE_INCOMPLETE = "utterance_incomplete"
    UTTERANCE_UNKNOWN = "utterance_unknown"
    SPEAKER_UNKNOWN = "speaker_unknown"
    ACK_INVALID = "ack_invalid"
    RATE_LIMITED = "rate_limited"
    SLOW_CONSUMER = "slow_consumer"
    IDLE_NO_AUDIO = "idle_no_audio"
    IDLE_NO_SPEECH = "idle_no_speech"
    SESSION_UNKNOWN = "session_unknown"
    RESUME_EXPIRED = "resume_expired"
    TAKEN_OVER = "taken_over"
    SESSION_EXPIRED = "session_expired"
    CAPACITY = "capacity"
    INFERENCE_FAILED = "inference_failed"
    GOING_AWAY = "going_away"
    INTERNAL = "internal"

    @property
    def kind(self) -> ErrorKind:
        return ERROR_KINDS[self]


def _kind(
    close: int | None, cure: str, *, retryable: bool = False, resume: bool = False
) -> ErrorKind:
    return ErrorKind(close=close, retryable=retryable, resume=resume, cure=cure)


ERROR_KINDS: dict[ErrorCode, ErrorKind] = {
    ErrorCode.MESSAGE_INVALID: _kind(
        None, "Send one JSON object a message, with a `type`; correct the field in `param`, if any."
    ),
    # Above the hard limit the websocket layer itself closes with 1009 and no error comes before.
    ErrorCode.MESSAGE_TOO_LARGE: _kind(
        None, "Send smaller messages; see limits in session.started."
    ),
    ErrorCode.TYPE_UNKNOWN: _kind(None, "Use a message type of this protocol version."),
    ErrorCode.TOO_MANY_ERRORS: _kind(4400, "Fix the client: it sent invalid messages repeatedly."),
    ErrorCode.NOT_STARTED: _kind(4400, "Send session.start before anything else."),
    ErrorCode.ALREADY_STARTED: _kind(None, "A session starts once; open another connection."),
    ErrorCode.ALREADY_ENDED: _kind(
        None, "After session.end send only acks and the texts of announced utterances."
    ),
    ErrorCode.START_TIMEOUT: _kind(
        4408, "Send session.start at once after connecting.", retryable=True
    ),
    ErrorCode.CONFIG_INVALID: _kind(4422, "Correct the field named in `param`."),
    ErrorCode.PROTOCOL_UNSUPPORTED: _kind(4422, "Use protocol_version 1."),
    ErrorCode.BUNDLE_UNKNOWN: _kind(4422, "Name a bundle that GET /v1/models lists, or none."),
    ErrorCode.LABELS_MISMATCH: _kind(
        4422, "Ask for a label set of the bundle (GET /v1/models), or none."
    ),
    ErrorCode.MODALITY_UNAVAILABLE: _kind(
        4422,
        "Give the session that modality, or choose a bundle that does without (GET /v1/models).",
    ),
    ErrorCode.PURPOSE_PROHIBITED: _kind(
        4403, "This use is prohibited; see docs/responsible-use.md."
    ),
    ErrorCode.UNAUTHENTICATED: _kind(
        4401, "Send a key or a ticket: `Authorization: Bearer ...`, or `token` of session.start."
    ),
    ErrorCode.TICKET_USED: _kind(4401, "Ask for another: POST /v1/tickets."),
    ErrorCode.TOKEN_IN_QUERY: _kind(
        4400, "Send it in the header `Authorization`: addresses end in logs. Then replace it."
    ),
    ErrorCode.CONCURRENCY_LIMIT: _kind(4429, "End a session of this key first.", retryable=True),
    ErrorCode.AUDIO_FORMAT_UNSUPPORTED: _kind(
        4415, "Send s16le, f32le, mulaw or alaw at 8, 16, 24, 44.1 or 48 kHz, 1 to 8 channels."
    ),
    ErrorCode.AUDIO_FORMAT_SUSPECT: _kind(4415, "Send raw samples, not an encoded file."),
    ErrorCode.AUDIO_NONFINITE: _kind(None, "Send finite samples; that message was left out."),
    ErrorCode.AUDIO_CONTAINER_INVALID: _kind(
        4415, "Send a WAV, FLAC or Ogg file that is complete."
    ),
    ErrorCode.IMAGE_INVALID: _kind(None, "Send a base64 JPEG."),
    ErrorCode.TEXT_TOO_LONG: _kind(None, "Shorten the text; see limits in session.started."),
    ErrorCode.UTTERANCE_INCOMPLETE: _kind(
        None, "Send what the bundle needs of each utterance, or choose another bundle."
    ),
    ErrorCode.UTTERANCE_UNKNOWN: _kind(None, "Name an utterance that speech.ended announced."),
    ErrorCode.SPEAKER_UNKNOWN: _kind(None, "Name one of the session's speakers."),
    ErrorCode.ACK_INVALID: _kind(None, "Acknowledge only events that were sent."),
    ErrorCode.RATE_LIMITED: _kind(
        4429, "Send audio at the pace of time, in messages of 20 ms or more.", retryable=True
    ),
    ErrorCode.SLOW_CONSUMER: _kind(4480, "Read events as they come.", retryable=True, resume=True),
    ErrorCode.IDLE_NO_AUDIO: _kind(4408, "Send audio, or end the session.", retryable=True),
    ErrorCode.IDLE_NO_SPEECH: _kind(4408, "Start a session when somebody speaks.", retryable=True),
    # The same for a wrong token: whoever guesses names learns nothing.
    ErrorCode.SESSION_UNKNOWN: _kind(4404, "Start a new session."),
    ErrorCode.RESUME_EXPIRED: _kind(4410, "Start a new session; what was lost is in the message."),
    ErrorCode.TAKEN_OVER: _kind(4409, "Another connection goes on with this session."),
    ErrorCode.SESSION_EXPIRED: _kind(4410, "Start a new session.", retryable=True),
    ErrorCode.CAPACITY: _kind(1013, "Try again after `retry_after_ms`.", retryable=True),
    ErrorCode.INFERENCE_FAILED: _kind(None, "That utterance has no estimate; the session goes on."),
    ErrorCode.GOING_AWAY: _kind(
        1012, "The server stops, or has no memory left; connect again.", retryable=True
    ),
    ErrorCode.INTERNAL: _kind(1011, "A fault of the server; report it.", retryable=True),
}


class WarningCode(StrEnum):
    """Warnings: the session goes on, and something is less than the client may expect."""

    FIELD_UNKNOWN = "field_unknown"
    AUDIO_MISALIGNED = "audio_misaligned"
    MODALITY_MISSING = "modality_missing"
    TEXT_LATE = "text_late"
    TEXT_TIMEOUT = "text_timeout"
    INTERIM_SKIPPED = "interim_skipped"
    BACKPRESSURE = "backpressure"
    RESUME_LOST = "resume_lost"
    SESSION_EXPIRING = "session_expiring"
    RECORDING_LOST = "recording_lost"
    MODEL_CHANGED = "model_changed"


WARNING_MEANINGS: dict[WarningCode, str] = {
    WarningCode.FIELD_UNKNOWN: "The field in `param` is not known to this version; it was ignored.",
    WarningCode.AUDIO_MISALIGNED: "The audio ended inside a sample; the odd bytes were dropped.",
    WarningCode.MODALITY_MISSING: "The session runs without a modality that the bundle can use.",
    WarningCode.TEXT_LATE: "The text came after the estimate or the rejection; it was not used.",
    WarningCode.TEXT_TIMEOUT: "The client's text did not come; the estimate rests on the rest.",
    WarningCode.INTERIM_SKIPPED: "The server is busy; an interim estimate was left out.",
    WarningCode.BACKPRESSURE: "Audio comes faster than the server takes it; send it more slowly.",
    WarningCode.RESUME_LOST: "The session goes on, and cannot be taken up again if it breaks off.",
    WarningCode.SESSION_EXPIRING: "The session ends soon, for its length: start a new one.",
    WarningCode.RECORDING_LOST: "The session goes on, and is not recorded any more.",
    WarningCode.MODEL_CHANGED: "The session goes on with another version of the bundle, which has "
    "not heard what was said before.",
}


class DoubtCode(StrEnum):
    """Why an estimate should be trusted less than its confidence says, or was withheld."""

    LOW_CONFIDENCE = "low_confidence"
    CLIPPING = "clipping"
    OFFSET = "offset"
    LOW_LEVEL = "low_level"
    NOISE = "noise"
    NARROW_BAND = "narrow_band"
    SHORT = "short"
    MUSIC = "music"
    TEXT_UNRELIABLE = "text_unreliable"
    LANGUAGE = "language"
    FACE_UNUSABLE = "face_unusable"


DOUBT_MEANINGS: dict[DoubtCode, str] = {
    DoubtCode.LOW_CONFIDENCE: "The confidence is under the bundle's stated threshold.",
    DoubtCode.CLIPPING: "Many samples lie at full scale: turn the microphone down.",
    DoubtCode.OFFSET: "The sound has a constant offset: check the sound card.",
    DoubtCode.LOW_LEVEL: "The voice is very quiet: move closer, or turn the microphone up.",
    DoubtCode.NOISE: "The noise is nearly as loud as the voice.",
    DoubtCode.NARROW_BAND: "There is nothing above a telephone's band, 3.4 kHz.",
    DoubtCode.SHORT: "There is less than half a second of speech.",
    DoubtCode.MUSIC: "It sounds like music or tones rather than speech.",
    DoubtCode.TEXT_UNRELIABLE: "The transcript looks invented or repeated; it was not used.",
    DoubtCode.LANGUAGE: "The words are of a language that the bundle cannot read; not used.",
    DoubtCode.FACE_UNUSABLE: "Pictures came, but no face in them was of use.",
}


class ProtocolError(Exception):
    """A message, or a session, that the server refuses.

    cause: what was wrong, a sentence without content that the client sent (it may be private).
    param: the field at fault, dotted (`audio.sample_rate`), or None.
    message_type: the type of the refused message, where it was known.
    """

    def __init__(
        self,
        code: ErrorCode,
        cause: str,
        param: str | None = None,
        *,
        message_type: str | None = None,
        utterance: int | None = None,
        retry_after_ms: int | None = None,
    ) -> None:
        super().__init__(f"{code}: {cause}")
        self.code = code
        self.cause = cause
        self.param = param
        self.message_type = message_type
        self.utterance = utterance
        self.retry_after_ms = retry_after_ms

    @property
    def message(self) -> str:
        """The cause and the cure, as the client reads them."""
        return f"{self.cause} {self.code.kind.cure}"

    def fields(self) -> dict[str, Any]:
        """The fields of the `error` event, all but its sequence."""
        kind = self.code.kind
        return {
            "code": self.code,
            "message": self.message,
            "param": self.param,
            "fatal": kind.fatal,
            "retryable": kind.retryable,
            "resume": kind.resume,
            "retry_after_ms": self.retry_after_ms,
            "utterance": self.utterance,
        }


class ConversationError(Exception):
    """Events or messages out of order. The message says which rule broke and what was expected."""
