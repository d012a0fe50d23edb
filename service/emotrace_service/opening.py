"""What a session will be: the client's `session.start` against what this server has. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from string import ascii_uppercase
from typing import Any

from emotrace_models.bundle import Bundle
from emotrace_models.types import SAMPLE_RATE, Modality
from emotrace_protocol.codec import MAX_MESSAGE_BYTES
from emotrace_protocol.errors import ErrorCode, ProtocolError
from emotrace_protocol.events import BundleInfo, DecoderInfo, Limits, ModalityStatus
from emotrace_protocol.messages import (
    MAX_TEXT_CHARACTERS,
    PROTOCOL_VERSION,
    AudioFormat,
    SessionStart,
    Transcription,
)
from emotrace_service.endpointing import EndpointingConfig
from emotrace_service.settings import Settings

NO_ENCODER = "The bundle has no encoder for it."
NO_TRANSCRIBER = (
    "There is no transcriber: send words with utterance.text, or install one "
    "(emotrace-serve models pull)."
)
WORDS_COME_LAST = (
    "The bundle needs words, which come when an utterance is over: there are no interim estimates."
)
WORDS_OFF = "The session was started with transcription off."


@dataclass(frozen=True, slots=True)
class Plan:
    """How one session's audio, words and pictures are understood, and by which bundle.

    bundle: under the label set that was asked for. label_sets: all that could have been, by scheme.
    pictures, words: whether they are used at all. server_words: whether the server transcribes.
    waits_for_words: whether each utterance waits for the client's, and how long in seconds.
    early_s: once words have taken so long, an interim estimate is made without them.
    idle_samples: without speech for so long, the session is over.
    interim_refused: why there are no interim estimates although the client wants them.
    """

    bundle: Bundle
    label_sets: Mapping[str, tuple[str, ...]]
    audio: AudioFormat
    speakers: tuple[str, ...]
    language: str | None
    endpointing: EndpointingConfig
    interim: bool
    pictures: bool
    words: bool
    server_words: bool
    waits_for_words: bool
    text_wait_s: float
    early_s: float
    idle_samples: int
    modalities: tuple[ModalityStatus, ...]
    interim_refused: str | None
    shadow: Bundle | None = None

    @property
    def live(self) -> tuple[str, ...]:
        """Names of the modalities that are."""
        return tuple(one.modality for one in self.modalities if one.live)


def plan_session(
    start: SessionStart,
    bundles: Mapping[str, Bundle],
    settings: Settings,
    *,
    transcribes: bool,
    shadow: Bundle | None = None,
) -> Plan:
    """bundles: by name, the default first. transcribes: whether the server has words for the
    session's language. shadow: compared with the default bundle, where that is the session's.

    Raises ProtocolError where the server cannot give what the client asks for.
    """
    chosen = _chosen(start.bundle, bundles, settings)
    bundle = _viewed(chosen, start.labels)
    try:
        endpointing = EndpointingConfig.from_wire(start.endpointing)
    except ValueError as error:
        raise _refused(ErrorCode.CONFIG_INVALID, f"endpointing: {error}.", "endpointing") from None
    lexical = Modality.LEXICAL in bundle.fusion.modalities
    words = lexical and start.transcription is not Transcription.OFF
    modalities = modality_status(bundle, start.transcription, transcribes=transcribes)
    for status in modalities:
        if status.modality in bundle.requires and not status.live:
            raise _refused(
                ErrorCode.MODALITY_UNAVAILABLE,
                f"The bundle {bundle.name!r} needs the {status.modality} modality. {status.reason}",
                "bundle",
            )
    # Nobody's words are known before an utterance is over.
    wordless = Modality.LEXICAL in bundle.requires
    return Plan(
        bundle=bundle,
        label_sets=label_sets(chosen),
        audio=start.audio,
        speakers=start.speakers or tuple(ascii_uppercase[: start.audio.channels]),
        language=start.language,
        endpointing=endpointing,
        interim=start.interim and not wordless,
        pictures=any(one.live for one in modalities if one.modality == Modality.FACIAL.value),
        words=words,
        server_words=words and transcribes and start.transcription is Transcription.AUTO,
        waits_for_words=words and start.transcription is Transcription.CLIENT,
        text_wait_s=settings.text_wait_ms / 1_000,
        early_s=settings.early_estimate_ms / 1_000,
        idle_samples=settings.idle_no_speech_ms * SAMPLE_RATE // 1_000,
        modalities=modalities,
        interim_refused=WORDS_COME_LAST if start.interim and wordless else None,
        shadow=comparable(shadow, bundle) if chosen is next(iter(bundles.values())) else None,
    )


def _chosen(name: str | None, bundles: Mapping[str, Bundle], settings: Settings) -> Bundle:
    """The bundle that a session asks for. Raises ProtocolError."""
    default = next(iter(bundles.values()))
    if name is None or name == settings.bundle:
        return default
    if name not in bundles:
        served = ", ".join(repr(one) for one in bundles)
        raise _refused(ErrorCode.BUNDLE_UNKNOWN, f"This server serves {served}.", "bundle")
    return bundles[name]


def label_sets(bundle: Bundle) -> dict[str, tuple[str, ...]]:
    """The names of all label sets that a session may ask for, by scheme, the bundle's own first."""
    return {scheme: view.labels.names for scheme, view in _views(bundle).items()}


def comparable(shadow: Bundle | None, bundle: Bundle) -> Bundle | None:
    """The shadow's view with the bundle's classes; None: it has none."""
    if shadow is None:
        return None
    alike = (
        view
        for view in _views(shadow).values()
        if set(view.labels.names) == set(bundle.labels.names)
    )
    return next(alike, None)


@lru_cache(maxsize=16)  # more than are served: what was replaced is let go in time
def _views(bundle: Bundle) -> Mapping[str, Bundle]:
    """The bundle under each of its label sets: made once, not for every session."""
    return {scheme: bundle.projected(scheme) for scheme in bundle.schemes}


def _viewed(bundle: Bundle, wanted: Sequence[str] | str | None) -> Bundle:
    """The bundle under a label set, by its scheme or its names. Raises ProtocolError."""
    if wanted is None:
        return bundle
    sets = label_sets(bundle)
    for scheme, names in sets.items():
        if wanted == scheme if isinstance(wanted, str) else sorted(wanted) == sorted(names):
            return _views(bundle)[scheme]
    told = "; ".join(f"{scheme} ({', '.join(names)})" for scheme, names in sets.items())
    raise _refused(
        ErrorCode.LABELS_MISMATCH,
        f"The bundle {bundle.name!r} has these label sets: {told}.",
        "labels",
    )


def modality_status(
    bundle: Bundle, transcription: Transcription, *, transcribes: bool
) -> tuple[ModalityStatus, ...]:
    """Each modality: live, or why it is not."""
    faults = {one.modality: one.unavailable for one in bundle.encoders if one.unavailable}

    def reason(modality: Modality) -> str | None:
        if modality not in bundle.fusion.modalities:
            return NO_ENCODER
        if modality in faults:
            return faults[modality]
        if modality is not Modality.LEXICAL or transcription is Transcription.CLIENT:
            return None
        if transcription is Transcription.OFF:
            return WORDS_OFF
        return None if transcribes else NO_TRANSCRIBER

    return tuple(
        ModalityStatus(modality=modality.value, live=reason(modality) is None, reason=why)
        for modality in Modality
        for why in (reason(modality),)
    )


def bundle_info(bundle: Bundle) -> BundleInfo:
    return BundleInfo(
        name=bundle.name,
        version=bundle.version,
        licence=bundle.licence,
        languages=bundle.languages,
    )


def started_fields(session: str, plan: Plan, settings: Settings) -> dict[str, Any]:
    """The fields of `session.started`, all but its sequence."""
    bundle, decoder = plan.bundle, plan.bundle.decoder
    return {
        "session": session,
        "protocol_version": PROTOCOL_VERSION,
        "bundle": bundle_info(bundle),
        "labels": bundle.labels.names,
        "label_sets": plan.label_sets,
        "modalities": plan.modalities,
        "audio": plan.audio,
        "speakers": plan.speakers,
        "decoder": DecoderInfo(
            shift_probability=decoder.p0,
            concentration=decoder.alpha,
            beam=decoder.beam,
            lag=decoder.lag,
            commit=decoder.commit,
        ),
        "limits": Limits(
            max_message_bytes=MAX_MESSAGE_BYTES,
            max_text_characters=MAX_TEXT_CHARACTERS,
            max_utterance_ms=plan.endpointing.max_utterance_samples * 1_000 // SAMPLE_RATE,
            audio_queue_ms=settings.audio_queue_ms,
            idle_no_audio_ms=settings.idle_no_audio_ms,
            idle_no_speech_ms=settings.idle_no_speech_ms,
        ),
    }


def _refused(code: ErrorCode, cause: str, param: str) -> ProtocolError:
    return ProtocolError(code, cause, param, message_type="session.start")
