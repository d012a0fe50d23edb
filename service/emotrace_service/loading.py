"""What has to be there before the server starts: bundle, voice detector, transcriber.

Everything that is missing or broken raises StartRefused, which names it and the cure.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from emotrace_models.bundle import Bundle, BundleError, BundleMissing, bundle_path
from emotrace_models.drift import drift_of
from emotrace_models.predictor import Predictor
from emotrace_models.profiles import FastUnavailable, describe, profiled
from emotrace_models.transcription import Transcriber, TranscriberUnavailable, WhisperTranscriber
from emotrace_models.types import Modality
from emotrace_models.voice_activity import VoiceDetector, VoiceDetectorUnavailable
from emotrace_models.weights import WeightsError, WeightSet, verify
from emotrace_service.batching import BatchPolicy
from emotrace_service.computing import Models
from emotrace_service.confined_pictures import confine_pictures
from emotrace_service.door import Door
from emotrace_service.engine import LocalBackend
from emotrace_service.errors import StartRefused
from emotrace_service.identity import Keys
from emotrace_service.inference import InferenceBackend
from emotrace_service.licence_policy import check_bundle, check_weights
from emotrace_service.logs import logger
from emotrace_service.memory_store import MemoryStore
from emotrace_service.metrics import Metrics
from emotrace_service.opening import comparable
from emotrace_service.session_store import SessionStore
from emotrace_service.settings import MEMORY, Settings
from emotrace_service.shelf import Shelf
from emotrace_service.tickets import NotedHere, Tickets
from emotrace_service.weights_choice import chosen_weights, meant_weights

ITEMS_A_SESSION = 4  # waiting in the engine at once: detection, final, interim, transcription


def load_bundle(name: str, settings: Settings) -> Bundle:
    """The one of this name or folder, if the policy allows its licence. Raises StartRefused."""
    try:
        exact = Bundle.load(bundle_path(name))
        check_bundle(exact, settings.license_policy)
        bundle = profiled(exact, settings.profile)
    except FastUnavailable as error:
        raise StartRefused(f"{error}. Or start with --profile exact.") from error
    except BundleMissing as error:
        raise StartRefused(
            f"{error}. Name one with --bundle, or make one with `emotrace-train`."
        ) from error
    except BundleError as error:
        raise StartRefused(f"{error}. The server does not start with a broken bundle.") from error
    if settings.profile == "fast":
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


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a bundle was read, and its digest."""

    folder: Path
    digest: str


def origins(bundles: Iterable[Bundle]) -> tuple[Origin, ...]:
    """Of bundles that were read from files."""
    return tuple(Origin(one.folder, one.digest) for one in bundles if one.folder is not None)


def load_again(origins: Iterable[Origin], settings: Settings) -> list[Bundle]:
    """The bundles that another process has read. Raises StartRefused where they changed since."""
    bundles = [load_bundle(str(origin.folder), settings) for origin in origins]
    for origin, bundle in zip(origins, bundles, strict=True):
        if bundle.digest != origin.digest:
            raise StartRefused(
                f"{origin.folder} has changed since the server read it. Put a new version beside "
                "the old one, and let a link name the one to serve."
            )
    _give_sight(bundles, settings)
    return bundles


def load_shelf(settings: Settings) -> Shelf:
    """What the settings name. Raises StartRefused."""
    bundles = load_bundles(settings)
    if settings.shadow is None:
        return Shelf(bundles)
    shadow = load_bundle(settings.shadow, settings)
    _give_sight([shadow], settings)
    default = next(iter(bundles.values()))
    if comparable(shadow, default) is None:
        raise StartRefused(
            f"The shadow {shadow.name!r} has no label set with the classes of {default.name!r} "
            f"({', '.join(default.labels.names)}), so nothing could be compared. Serve it under "
            "--also instead."
        )
    return Shelf(bundles, shadow)


def load_bundles(settings: Settings) -> dict[str, Bundle]:
    """All bundles by name, the default first. Raises StartRefused."""
    bundles: dict[str, Bundle] = {}
    for source in (settings.bundle, *settings.also):
        bundle = load_bundle(source, settings)
        if bundle.name in bundles:
            raise StartRefused(
                f"Two bundles are called {bundle.name!r}; {source} is the second. Leave one out, "
                "or export it under another name."
            )
        bundles[bundle.name] = bundle
    _give_sight(bundles.values(), settings)
    return bundles


def _give_sight(bundles: Collection[Bundle], settings: Settings) -> None:
    """Who decodes pictures for these, and who finds faces in them. Raises StartRefused."""
    confine_pictures(bundles)
    if any(Modality.FACIAL in bundle.fusion.modalities for bundle in bundles):
        from emotrace_service.face_detection import give_detector

        give_detector(bundles, settings)
        for one in meant_weights(settings.face_detector, "face detector", settings.weights):
            check_weights(one, settings.license_policy)


def load_predictors(bundles: Iterable[Bundle], device: str) -> dict[str, Predictor]:
    """Of every bundle and each of its views, by `Bundle.key`. device: as in Settings."""
    return {
        view.key: Predictor(view, device)
        for bundle in bundles
        for view in map(bundle.projected, bundle.schemes)
    }


def choose_transcriber(settings: Settings) -> WeightSet | None:
    """None: there is none, which `/readyz` tells. Raises StartRefused."""
    try:
        chosen = chosen_weights(
            settings.whisper,
            "transcriber",
            settings.weights,
            lambda here: max(here, key=lambda one: one.size),
        )
    except WeightsError as error:
        raise _no_words(error) from error
    if chosen is not None:
        check_weights(chosen, settings.license_policy)
    return chosen


def open_transcriber(weights: WeightSet, settings: Settings) -> WhisperTranscriber:
    """Raises StartRefused."""
    try:
        return WhisperTranscriber(verify(weights, settings.weights), window=settings.whisper_window)
    except (WeightsError, TranscriberUnavailable) as error:
        raise _no_words(error) from error


def _no_words(error: Exception) -> StartRefused:
    return StartRefused(f"{error} Or start without words: --whisper none.")


def transcribed_together(settings: Settings) -> int:
    """Utterances at most. Full windows gain nothing by company on a processor, and one would wait
    for the last."""
    return 1 if settings.whisper_window == "full" else settings.max_batch


def load_backend(settings: Settings, shelf: Shelf, metrics: Metrics) -> InferenceBackend:
    """Starts compute threads, or the models on a cluster. Raises StartRefused."""
    weights = choose_transcriber(settings)
    if settings.backend == "local":
        transcriber = None if weights is None else open_transcriber(weights, settings)
        return local_backend(settings, shelf.held, transcriber, metrics)
    if shelf.shadow is not None:
        raise StartRefused("A shadow runs with --backend local only.")
    try:
        from emotrace_service.ray_cluster import load_ray_backend
    except ImportError as error:
        raise StartRefused(
            "--backend ray needs Ray, which is not installed: pip install 'emotrace[ray]'"
        ) from error
    voices = local_backend(settings, (), None, metrics)
    starting = load_predictors(shelf.held, "cpu")  # what computes is on the cluster
    return load_ray_backend(settings, starting, origins(shelf.held), weights, voices)


def load_door(settings: Settings, store: SessionStore | None) -> Door:
    """Who may come in. Raises StartRefused."""
    if settings.keys is None:
        if not (settings.on_loopback or settings.open):
            raise StartRefused(
                f"--host {settings.host} lets others than this machine reach the server, and no "
                "keys say who may use it. Make one (emotrace-serve keys new NAME >> keys.toml) and "
                "start with --keys keys.toml, or say --open to let everybody in."
            )
        return Door(None, None)
    keys = Keys.load(settings.keys)
    noted = NotedHere(time.monotonic) if store is None else store
    return Door(keys, Tickets(keys, noted, time.time))


def load_store(settings: Settings) -> SessionStore | None:
    """Where sessions are kept; None: nowhere. Raises StartRefused."""
    window_ms = settings.resume_window_ms
    if not window_ms:
        return None
    if settings.session_store == MEMORY:
        return MemoryStore(window_ms, settings.max_sessions)
    try:
        from emotrace_service.redis_store import RedisStore
    except ImportError as error:
        raise StartRefused(
            "--session-store needs the client of Redis, which is not installed: "
            "pip install 'emotrace[redis]'"
        ) from error
    return RedisStore(settings.session_store, window_ms)


def local_backend(
    settings: Settings,
    bundles: Collection[Bundle],
    transcriber: Transcriber | None,
    metrics: Metrics,
) -> LocalBackend:
    """Starts the engine's threads, and their processes."""
    predictors, models = load_models(settings, bundles)
    try:
        detector = VoiceDetector()
    except VoiceDetectorUnavailable as error:
        raise StartRefused(str(error)) from error
    return LocalBackend(
        predictors,
        detector,
        transcriber,
        threads=settings.threads,
        policy=BatchPolicy(settings.max_batch, settings.batch_wait_ms / 1_000),
        capacity=ITEMS_A_SESSION * settings.max_sessions,
        metrics=metrics,
        models=models,
        transcribed_together=transcribed_together(settings),
        hang_s=settings.compute_timeout_ms / 1_000,
    )


def load_models(
    settings: Settings, bundles: Collection[Bundle]
) -> tuple[dict[str, Predictor], Callable[[], Models] | None]:
    """What LocalBackend wants to serve these bundles."""
    from emotrace_service.processes import ProcessModels  # which loads by what is in this file

    predictors = load_predictors(bundles, settings.device)
    apart = bundles and settings.workers == "processes"
    return predictors, partial(ProcessModels, origins(bundles), settings) if apart else None
