"""What has to be there before the server starts: bundle, voice detector, transcriber.

Everything that is missing or broken raises StartRefused, which names it and the cure.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from emotrace_models.bundle import Bundle, BundleError, BundleMissing, bundle_path
from emotrace_models.drift import drift_of
from emotrace_models.predictor import Predictor
from emotrace_models.profiles import FastUnavailable, Profile, describe, profiled
from emotrace_models.transcription import Transcriber, TranscriberUnavailable, WhisperTranscriber
from emotrace_models.types import Modality
from emotrace_models.voice_activity import VoiceDetector, VoiceDetectorUnavailable
from emotrace_models.weights import WeightsError, verify
from emotrace_models.whisper_windows import Window
from emotrace_service.batching import BatchPolicy
from emotrace_service.engine import LocalBackend
from emotrace_service.errors import StartRefused
from emotrace_service.logs import logger
from emotrace_service.metrics import Metrics
from emotrace_service.settings import Settings
from emotrace_service.weights_choice import chosen_weights

ITEMS_A_SESSION = 4  # waiting in the engine at once: detection, final, interim, transcription


def load_bundle(name: str, profile: Profile) -> Bundle:
    try:
        exact = Bundle.load(bundle_path(name))
        bundle = profiled(exact, profile)
    except FastUnavailable as error:
        raise StartRefused(f"{error}. Or start with --profile exact.") from error
    except BundleMissing as error:
        raise StartRefused(
            f"{error}. Name one with --bundle, or make one with `emotrace-train`."
        ) from error
    except BundleError as error:
        raise StartRefused(f"{error}. The server does not start with a broken bundle.") from error
    if profile == "fast":
        _tell_drift(exact, bundle)
    return bundle


def _tell_drift(exact: Bundle, bundle: Bundle) -> None:
    """What is known of what the profile changes; nothing is refused for it."""
    report, numerics = drift_of(exact), describe(bundle)
    if report is None:
        logger().warning(
            "no drift report",
            bundle=bundle.name,
            cure=f"make one with `emotrace-train fast {bundle.name}`",
        )
    elif dict(report.numerics) != dict(numerics):
        logger().warning(
            "the drift report is of other arithmetic than this machine's",
            bundle=bundle.name,
            reported=dict(report.numerics),
            here=dict(numerics),
        )
    else:
        logger().info(
            "profile fast", bundle=bundle.name, agreement=report.agreement, numerics=dict(numerics)
        )


def load_bundles(settings: Settings) -> dict[str, Bundle]:
    """All bundles by name, the default first. Raises StartRefused."""
    bundles: dict[str, Bundle] = {}
    for source in (settings.bundle, *settings.also):
        bundle = load_bundle(source, settings.profile)
        if bundle.name in bundles:
            raise StartRefused(
                f"Two bundles are called {bundle.name!r}; {source} is the second. Leave one out, "
                "or export it under another name."
            )
        bundles[bundle.name] = bundle
    if any(Modality.FACIAL in bundle.fusion.modalities for bundle in bundles.values()):
        from emotrace_service.face_detection import give_detector

        give_detector(bundles.values(), settings)
    return bundles


def load_transcriber(name: str, weights: Path, window: Window = "full") -> Transcriber | None:
    """name, window: as in Settings.whisper and whisper_window. None: there is none, which
    `/readyz` tells."""
    try:
        chosen = chosen_weights(
            name, "transcriber", weights, lambda here: max(here, key=lambda one: one.size)
        )
        if chosen is None:
            return None
        return WhisperTranscriber(verify(chosen, weights), window=window)
    except (WeightsError, TranscriberUnavailable) as error:
        raise StartRefused(f"{error} Or start without words: --whisper none.") from error


def load_backend(
    settings: Settings, bundles: Mapping[str, Bundle], metrics: Metrics
) -> LocalBackend:
    """Starts the engine's threads."""
    try:
        detector = VoiceDetector()
    except VoiceDetectorUnavailable as error:
        raise StartRefused(str(error)) from error
    return LocalBackend(
        {
            view.key: Predictor(view)
            for bundle in bundles.values()
            for view in map(bundle.projected, bundle.schemes)
        },
        detector,
        load_transcriber(settings.whisper, settings.weights, settings.whisper_window),
        threads=settings.threads,
        policy=BatchPolicy(settings.max_batch, settings.batch_wait_ms / 1_000),
        capacity=ITEMS_A_SESSION * settings.max_sessions,
        metrics=metrics,
        # Full windows gain nothing by company on a processor, and one would wait for the last.
        transcribed_together=1 if settings.whisper_window == "full" else settings.max_batch,
        hang_s=settings.compute_timeout_ms / 1_000,
    )
