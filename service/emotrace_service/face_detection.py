"""Which detector finds the faces of bundles that see. Only servers of such bundles import this,
since pictures cost memory."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from emotrace_models.bundle import Bundle
from emotrace_models.encoders.compact_face import CompactFace
from emotrace_models.encoders.faces import FaceDetector, FaceDetectorUnavailable, load_detector
from emotrace_models.weights import WeightsError, verify
from emotrace_service.errors import StartRefused
from emotrace_service.settings import Settings
from emotrace_service.weights_choice import chosen_weights


def give_detector(bundles: Iterable[Bundle], settings: Settings) -> None:
    """Bundles that choose their detector get the one of the settings. Raises StartRefused."""
    encoders = [encoder for bundle in bundles for encoder in bundle.encoders]
    if seeing := [encoder for encoder in encoders if isinstance(encoder, CompactFace)]:
        detector = load_face_detector(settings.face_detector, settings.weights)
        for encoder in seeing:
            if detector is not None:
                encoder.detect_with(detector)


def load_face_detector(name: str, weights: Path) -> FaceDetector | None:
    """name: as in Settings.face_detector. None: bundles keep the one that they come with."""
    try:
        chosen = chosen_weights(name, "face detector", weights, lambda here: here[0])
        if chosen is None:
            return None
        return load_detector(verify(chosen, weights) / chosen.files[0].name)
    except (WeightsError, FaceDetectorUnavailable) as error:
        raise StartRefused(f"{error} Or start without it: --face-detector none.") from error
