"""What is no speech: against sounds that nobody spoke, voices, and real clips."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import soundfile
from doubles import RATE, voice
from nonspeech import KINDS, non_speech

from emotrace_models.abstention import GRAVE, abstains
from emotrace_models.signal_quality import measure
from emotrace_models.speech_gate import (
    Appraisal,
    Rejection,
    SoundDoubt,
    appraise,
    doubts,
    rejection,
)
from emotrace_models.types import FloatArray, Utterance
from emotrace_protocol.errors import DoubtCode
from emotrace_protocol.events import SpeechRejected

SEED = 100  # thresholds were settled on seeds below
WINDOWS = 8
UNSURE = np.full(60, 0.6, np.float32)
SURE = np.full(60, 0.97, np.float32)


def _utterance(samples: FloatArray, probabilities: FloatArray | None = SURE) -> Utterance:
    return Utterance(0, "A", 0, len(samples), samples, voice=probabilities)


def _talk(level: float = 0.3) -> FloatArray:
    sound = voice(3.0) * level
    time = np.arange(len(sound)) / RATE
    noise = np.random.default_rng(SEED).standard_normal(len(sound)) * 1e-4
    return (np.where(time % 0.75 < 0.5, sound, 0.0) + noise).astype(np.float32)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_what_nobody_spoke_is_rejected_where_the_detector_was_not_sure(kind: str) -> None:
    sound = non_speech(kind, 5.0 * WINDOWS, SEED)
    windows = [sound[at : at + 3 * RATE] for at in range(0, len(sound) - 3 * RATE, 5 * RATE)]
    reasons = [rejection(measure(window), UNSURE) for window in windows]
    assert len(reasons) == WINDOWS
    # One detector in doubt and one gate: nine in ten of what the one lets in the other stops.
    assert reasons.count(None) <= WINDOWS * 0.25


def test_a_voice_is_speech_however_sure_the_detector_was() -> None:
    for probabilities in (SURE, UNSURE, None):
        assert appraise(_utterance(_talk(), probabilities)).rejection is None


@pytest.mark.parametrize("ratio", [15.0, 5.0])
@pytest.mark.parametrize("kind", ["chords", "hum", "melody", "band"])
def test_a_voice_over_music_is_a_voice(kind: str, ratio: float) -> None:
    talk, music = _talk(), non_speech(kind, 3.0, SEED)
    music *= np.float32(np.sqrt(np.mean(talk**2) / np.mean(music**2) / 10 ** (ratio / 10)))
    assert rejection(measure(talk + music), SURE) is None


def test_a_held_tone_and_plain_noise_are_rejected_even_from_a_sure_detector() -> None:
    time = np.arange(3 * RATE) / RATE
    tone = 0.1 * np.sin(2 * np.pi * 440 * time) + 0.05 * np.sin(2 * np.pi * 660 * time)
    assert rejection(measure(tone.astype(np.float32)), SURE) == "music"
    assert rejection(measure(non_speech("white noise", 3.0, SEED)), SURE) == "noise"


def test_a_blip_is_too_short() -> None:
    assert appraise(_utterance(_talk()[: RATE // 10])).rejection == "too_short"


def test_real_voices_are_speech(shared: Path) -> None:
    """Twenty train clips of each corpus, as they are and in noise as loud as they are. Where the
    voice detector was in doubt as well, one in thirty may be lost."""
    rng = np.random.default_rng(SEED)
    lost = []
    for corpus in ("emodb", "ravdess_speech", "nemo"):
        folder = shared / "data" / corpus
        with (folder / "labels.csv").open() as stream:
            rows = [row for row in csv.DictReader(stream) if row["split"] == "train"]
        for row in rows[:: len(rows) // 20]:
            clip, _ = soundfile.read(folder / row["file"], dtype="float32")
            loud = np.sqrt(np.mean(clip**2))
            noisy = (clip + loud * rng.standard_normal(len(clip))).astype(np.float32)
            for samples in (clip, noisy):
                assert rejection(measure(samples), SURE) is None, row["file"]
            lost.append(rejection(measure(clip), UNSURE) is not None)
    assert sum(lost) <= len(lost) / 30


def test_an_offset_is_doubted_and_taken_out_and_nothing_else_is_touched() -> None:
    talk = _talk()
    plain = appraise(_utterance(talk))
    assert plain.utterance.samples is talk
    assert "offset" not in plain.doubts
    shifted = appraise(_utterance(talk + np.float32(0.4)))
    assert "offset" in shifted.doubts
    assert shifted.utterance.samples is not None
    np.testing.assert_allclose(shifted.utterance.samples, talk - talk.mean(), atol=1e-6)


def test_each_doubt_has_its_sound() -> None:
    talk = _talk()
    assert _doubts(talk) == ("narrow_band",)  # the made-up voice has nothing up there
    assert "clipping" in _doubts(np.clip(talk * 4, -0.4, 0.4))
    assert "low_level" in _doubts(talk * np.float32(1e-3))
    noise = np.random.default_rng(SEED).standard_normal(len(talk)).astype(np.float32)
    noisy = _doubts(talk + noise * np.sqrt(np.mean(talk**2)))
    assert "noise" in noisy
    assert "narrow_band" not in noisy
    assert "short" in doubts(measure(talk), 0.3)
    assert "music" in _doubts(non_speech("chords", 3.0, SEED))


def _doubts(samples: FloatArray) -> tuple[SoundDoubt, ...]:
    return appraise(_utterance(samples)).doubts


def test_a_turn_without_sound_has_nothing_to_doubt() -> None:
    silent = replace(_utterance(_talk()), samples=None, voice=None)
    heard = appraise(silent)
    assert (heard.quality, heard.doubts, heard.rejection) == (None, (), None)
    assert isinstance(heard, Appraisal)


def test_its_words_are_the_protocols() -> None:
    codes = {code.value for code in DoubtCode}
    assert set(get_args(SoundDoubt)) <= codes
    assert codes >= GRAVE
    reasons = SpeechRejected.model_fields["reason"].annotation
    assert get_args(reasons) == get_args(Rejection)


def test_a_grave_doubt_asks_for_more_confidence() -> None:
    assert not abstains(0.61, 0.4, ())
    assert abstains(0.39, 0.4, ())
    assert not abstains(0.61, 0.4, ("noise",))
    assert abstains(0.59, 0.4, ("noise", "clipping"))
    assert not abstains(0.59, 0.4, ("face_unusable", "text_unreliable", "narrow_band", "offset"))
    assert not abstains(0.4, 0.4, ())
