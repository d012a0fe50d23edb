"""Warming: every model is run before the first session, and what a session will cost is estimated.

The first run of a model is slow. The second one is timed: it says how many sessions the machine
carries until real ones have been measured.
"""

from __future__ import annotations

import time

import numpy as np

from emotrace_models.bundle import Bundle
from emotrace_models.types import SAMPLE_RATE, Frame, Modality, Transcript, Utterance
from emotrace_service.audio import FRAME_SAMPLES
from emotrace_service.errors import EngineError, place
from emotrace_service.serving import Serving
from emotrace_service.settings import cores

UTTERANCE_S = 3
UTTERANCES_A_SECOND = 0.4 / UTTERANCE_S  # where somebody speaks for 40 % of the time
INTERIMS_A_SECOND = 0.4
LISTENING_S = 0.005  # a second of audio, before anybody speaks: reading, framing, voice detection


async def warm(serving: Serving) -> None:
    """Makes the server ready, or says in `serving.fault` why it cannot be."""
    bundles = tuple(serving.bundles.values())
    try:
        sessions = [await _session_s(serving, one) for one in bundles * 2]
    except EngineError as error:
        cause = error.__cause__ or error
        serving.fault = f"The models cannot be run: {type(cause).__name__}."
        serving.log.error("warming failed", error=type(cause).__name__, place=place(cause))
        return
    serving.expect(max(sessions[len(bundles) :]) / cores())
    serving.warmed()


async def _session_s(serving: Serving, bundle: Bundle) -> float:
    """Runs all models once; gives the seconds of compute that a second of a session takes."""
    backend = serving.backend
    noise = np.random.default_rng(0).normal(0.0, 0.01, UTTERANCE_S * SAMPLE_RATE)
    grey = Frame(0, np.full((224, 224, 3), 128, np.uint8))
    modalities = bundle.fusion.modalities
    utterance = Utterance(
        0,
        "A",
        0,
        len(noise),
        noise.astype(np.float32),
        Transcript("warm up", "server") if Modality.LEXICAL in modalities else None,
        (grey,) if Modality.FACIAL in modalities else (),
    )
    state = backend.start(bundle.key)
    assert utterance.samples is not None
    frame = utterance.samples[np.newaxis, :FRAME_SAMPLES]
    await backend.detect([frame], (backend.start_voice(),))
    before = _used(serving)
    appraisal = await backend.appraise(utterance)
    heard = await backend.sense(state, appraisal.utterance)
    state = await backend.prepare(state, utterance.speaker)
    await backend.predict(state, appraisal.utterance, heard.sensed)
    estimate_s = _used(serving) - before
    words_s = 0.0
    if backend.transcribes(None):
        before = _used(serving)
        await backend.transcribe(utterance, None)
        words_s = _used(serving) - before
    return (
        LISTENING_S + UTTERANCES_A_SECOND * (estimate_s + words_s) + INTERIMS_A_SECOND * estimate_s
    )


def _used(serving: Serving) -> float:
    """Processor seconds of the server and its processes."""
    return time.process_time() + serving.backend.used_s()
