"""Whether an utterance is speech at all, and why to trust its sound less. Pure.

A voice detector cuts; this gate looks at the whole cut and may refuse it. Where the detector was
sure of some of it, only the plainest evidence counts: a voice over music is a voice. Thresholds
were settled on the train and valid clips of three corpora (clean, with noise and babble, through a
telephone, a room and a codec) against made-up noise, music, keys and breath; figures are in
docs/experiments.md, reasons in docs/decisions/0013.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from emotrace_models.signal_quality import SignalQuality, measure
from emotrace_models.types import SAMPLE_RATE, FloatArray, Utterance

Rejection: TypeAlias = Literal["not_speech", "music", "noise", "too_short"]
SoundDoubt: TypeAlias = Literal[
    "clipping", "offset", "low_level", "noise", "narrow_band", "short", "music"
]

VOICE_FRAME_S = 512 / SAMPLE_RATE  # of the voice detector
SPEECH = 0.35  # its probability from which a frame counts as speech
SURE = 0.9  # its probability that a tenth of the frames must reach

SHORTEST_S = 0.2  # what the encoders pad to
STEADY, STEADY_SURE = 0.5, 0.8
STILL = 0.33
STEADY_OR_STILL = 0.65  # both together
ENDLESS = 0.93  # share of the time with a pitch: voices pause
UNVARIED, UNVARIED_SURE = 2.6, 1.9  # dB
HOARSE, HOARSE_UNVARIED = 0.7, 4.0
SCATTERED = 1.05  # octaves

CLIPPED = 0.001
OFFSET, OFFSET_SHARE = 0.01, 0.3  # of full scale, and of what is left without it
QUIET_DB = -55.0
NOISY_DB = 5.0
NARROW_HZ = 3_600
SHORT_S = 0.5
MUSICAL = 0.45  # steadiness


@dataclass(frozen=True, slots=True, eq=False)
class Appraisal:
    """utterance: to go on with, without the offset if there was one. quality: None where there is
    no sound. rejection: why it is no speech, or None.
    """

    utterance: Utterance
    quality: SignalQuality | None
    speech_s: float
    doubts: tuple[SoundDoubt, ...] = ()
    rejection: Rejection | None = None


def appraise(utterance: Utterance) -> Appraisal:
    """What there is to say of an utterance before any model hears it."""
    samples = utterance.samples
    if samples is None or not len(samples):
        return Appraisal(utterance, None, 0.0)
    quality = measure(samples)
    speech_s = quality.seconds
    if utterance.voice is not None:
        speech_s = min(speech_s, float((utterance.voice >= SPEECH).sum()) * VOICE_FRAME_S)
    found = doubts(quality, speech_s)
    if "offset" in found:
        utterance = replace(utterance, samples=samples - np.float32(quality.offset))
    return Appraisal(utterance, quality, speech_s, found, rejection(quality, utterance.voice))


def rejection(quality: SignalQuality, voice: FloatArray | None) -> Rejection | None:
    """Why a sound is no speech. voice: as of Utterance; None is taken for a detector's surety."""
    sound = quality.character
    if quality.seconds < SHORTEST_S:
        return "too_short"
    if voice is None or float(np.percentile(voice, 90)) >= SURE:
        if sound.steadiness > STEADY_SURE:
            return "music"
        return "noise" if sound.variety < UNVARIED_SURE else None
    if sound.variety < UNVARIED and sound.steadiness < MUSICAL:
        return "noise"
    if (
        sound.steadiness > STEADY
        or sound.stillness > STILL
        or sound.steadiness + sound.stillness > STEADY_OR_STILL
        or sound.voiced_s > ENDLESS * quality.seconds
    ):
        return "music"
    if sound.harmonicity < HOARSE and sound.variety < HOARSE_UNVARIED:
        return "noise"
    return "not_speech" if sound.pitch_spread > SCATTERED else None


def doubts(quality: SignalQuality, speech_s: float) -> tuple[SoundDoubt, ...]:
    """Why the estimate of such a sound is to be trusted less. speech_s: seconds of speech."""
    loudness = 10 ** (quality.level_db / 20)
    reasons: tuple[tuple[SoundDoubt, bool], ...] = (
        ("clipping", quality.clipped > CLIPPED),
        ("offset", abs(quality.offset) > max(OFFSET, OFFSET_SHARE * loudness)),
        ("low_level", quality.level_db < QUIET_DB),
        ("noise", quality.snr_db is not None and quality.snr_db < NOISY_DB),
        ("narrow_band", quality.bandwidth_hz < NARROW_HZ),
        ("short", speech_s < SHORT_S),
        ("music", quality.character.steadiness > MUSICAL),
    )
    return tuple(code for code, holds in reasons if holds)
