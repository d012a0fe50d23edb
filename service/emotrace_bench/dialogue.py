"""A dialogue of two that nobody spoke: sound with the rhythm of speech, and words."""

from __future__ import annotations

import numpy as np

from emotrace_models.encoders.subwords import MARKS
from emotrace_models.types import SAMPLE_RATE, FloatArray, Transcript, Utterance

SPEAKERS = ("A", "B")
SYLLABLES_HZ = 4.0
PITCH_HZ = {"A": 110.0, "B": 210.0}


def dialogue(turns: int, seconds: float, tokens: int, seed: int) -> list[Utterance]:
    """Two speakers by turns. tokens: of a tokenizer with a token a letter, its marks counted."""
    rng = np.random.default_rng(seed)
    return [utterance(n, SPEAKERS[n % 2], seconds, tokens, rng) for n in range(turns)]


def utterance(
    index: int, speaker: str, seconds: float, tokens: int, rng: np.random.Generator
) -> Utterance:
    letters = rng.integers(ord("a"), ord("z") + 1, tokens - MARKS)
    samples = speech_like(seconds, PITCH_HZ[speaker], rng)
    first = index * len(samples)
    return Utterance(
        index,
        speaker,
        first,
        first + len(samples),
        samples,
        Transcript("".join(map(chr, letters)), "client", "en"),
    )


def speech_like(seconds: float, pitch_hz: float, rng: np.random.Generator) -> FloatArray:
    """Samples at 16 kHz: harmonics and breath under an envelope of syllables."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    glide = pitch_hz * (1.0 + 0.1 * np.sin(2 * np.pi * 0.7 * time + rng.uniform(0, 6)))
    phase = 2 * np.pi * np.cumsum(glide) / SAMPLE_RATE
    voice = sum(np.sin(k * phase + rng.uniform(0, 6)) / k for k in range(1, 16))
    breath = rng.normal(size=len(time))
    syllables = np.abs(np.sin(np.pi * SYLLABLES_HZ * time + rng.uniform(0, 6)))
    sound = (voice + 0.3 * breath) * syllables
    result: FloatArray = (0.3 * sound / np.abs(sound).max()).astype(np.float32)
    return result
