"""The Whisper path, on tiny random Whispers (whispers.py): real loading code, no mock."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from faster_whisper import WhisperModel
from hypothesis import given
from hypothesis import strategies as st
from whispers import through_the_library, write_whisper

from emotrace_models.transcript_gates import Gates
from emotrace_models.transcription import (
    MAX_TOKENS,
    LanguageUnsupported,
    Transcriber,
    TranscriberUnavailable,
    WhisperTranscriber,
    token_limit,
)
from emotrace_models.types import SAMPLE_RATE, FloatArray, Transcript, Utterance
from emotrace_models.whisper_windows import Window

# Lengths in seconds and languages, as several sessions may send them at once.
COMPANY: list[tuple[float, str | None]] = [
    (0.3, "en"),
    (1.0, None),
    (3.0, "de"),
    (0.05, "en"),
    (3.1, None),
    (7.0, "pl"),
    (14.0, None),
    (29.99, None),
    (30.0, "en-GB"),
    (2.0, "en"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_whisper(tmp_path_factory.mktemp("ends"))


@pytest.fixture(scope="module")
def whisper(folder: Path) -> WhisperTranscriber:
    return WhisperTranscriber(folder)


@pytest.fixture(scope="module")
def endless_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_whisper(tmp_path_factory.mktemp("endless"), words=None)


@pytest.fixture(scope="module")
def endless(endless_folder: Path) -> WhisperTranscriber:
    return WhisperTranscriber(endless_folder)


def _sound(seconds: float, seed: int = 1) -> FloatArray:
    """Four gliding tones in noise, others for each seed."""
    draw = np.random.default_rng(seed)
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    sound = draw.normal(0, draw.uniform(0.001, 0.1), len(time))
    for frequency in draw.uniform(80, 4_000, 4):
        glide = 1 + 0.2 * np.sin(draw.uniform(1, 9) * time)
        sound += draw.uniform(0.02, 0.2) * np.sin(2 * np.pi * frequency * time * glide)
    return sound.astype(np.float32)


def _utterance(seconds: float, seed: int = 1) -> Utterance:
    samples = _sound(seconds, seed)
    return Utterance(0, "A", 0, len(samples), samples)


def _alone(
    whisper: WhisperTranscriber, utterance: Utterance, language: str | None
) -> Transcript | None:
    [transcript] = whisper.transcribe([(utterance, language)])
    return transcript


def _company() -> list[tuple[Utterance, str | None]]:
    return [
        (_utterance(seconds, seed), language) for seed, (seconds, language) in enumerate(COMPANY)
    ]


@pytest.mark.parametrize(("language", "expected"), [("en", "en"), ("de-AT", "de"), ("PL", "pl")])
def test_text_comes_with_its_language_and_confidence(
    whisper: WhisperTranscriber, language: str, expected: str
) -> None:
    transcript = _alone(whisper, _utterance(2.0), language)
    assert transcript is not None
    assert transcript.text == transcript.text.strip() != ""
    assert (transcript.source, transcript.language) == ("server", expected)
    assert transcript.confidence is not None
    assert 0 < transcript.confidence < 0.01  # random weights are sure of nothing


def test_language_is_detected_when_none_is_named(whisper: WhisperTranscriber) -> None:
    transcript = _alone(whisper, _utterance(1.0), None)
    assert transcript is not None
    assert whisper.supports(transcript.language)


def test_it_is_deterministic(whisper: WhisperTranscriber) -> None:
    utterance = _utterance(1.5)
    assert _alone(whisper, utterance, "en") == _alone(whisper, utterance, "en")


def test_an_unknown_language_is_an_error_not_a_guess(whisper: WhisperTranscriber) -> None:
    assert not whisper.supports("tlh")
    with pytest.raises(LanguageUnsupported, match="tlh"):
        whisper.transcribe([(_utterance(1.0), "en"), (_utterance(1.0), "tlh")])


def test_nothing_to_hear_is_no_work(whisper: WhisperTranscriber) -> None:
    assert whisper.transcribe([]) == []


@pytest.mark.parametrize("seconds", [0.0, 0.05])
def test_too_short_to_hold_a_word(whisper: WhisperTranscriber, seconds: float) -> None:
    assert _alone(whisper, _utterance(seconds), "en") is None


def test_a_turn_without_audio_has_no_words(whisper: WhisperTranscriber) -> None:
    assert _alone(whisper, Utterance(0, "A", 0, 0, None), "en") is None


def test_a_model_that_guesses_says_so_and_is_refused(whisper: WhisperTranscriber) -> None:
    words = _alone(whisper, _utterance(1.0), "en")
    assert words is not None
    assert words.log_probability is not None
    assert words.log_probability < -1.0
    assert words.no_speech is not None
    assert 0.0 <= words.no_speech <= 1.0
    assert words.compression is not None
    assert not words.capped
    assert Gates().refuse(words, seconds=1.0, speech_s=1.0, voiced_s=1.0)


@pytest.mark.parametrize("seconds", [0.5, 29.0])
def test_an_endless_text_says_that_it_was_cut(endless: WhisperTranscriber, seconds: float) -> None:
    words = _alone(endless, _utterance(seconds), "en")
    assert words is not None
    assert words.capped
    assert words.text.count("w") == token_limit(round(seconds * SAMPLE_RATE))
    assert words.log_probability is None
    assert Gates().refuse(words, seconds=seconds, speech_s=seconds, voiced_s=seconds)


@pytest.mark.parametrize("source", ["folder", "endless_folder"])
def test_it_hears_what_faster_whisper_hears(request: pytest.FixtureRequest, source: str) -> None:
    folder = request.getfixturevalue(source)
    library = WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=1)
    heard = WhisperTranscriber(folder).transcribe(_company())
    texts = set()
    for (utterance, language), words in zip(_company(), heard, strict=True):
        assert utterance.samples is not None
        limit = token_limit(len(utterance.samples))
        known = None if language is None else language[:2]
        segments, spoken = through_the_library(library, utterance.samples, known, limit)
        if words is None:
            assert len(utterance.samples) < SAMPLE_RATE / 10
            continue
        [segment] = segments
        texts.add(words.text)
        assert words.language == spoken
        assert words.no_speech == pytest.approx(segment.no_speech_prob, rel=1e-5)
        assert words.capped == (len(segment.tokens) >= limit)
        if words.capped:
            assert segment.text.startswith(words.text)
        else:
            assert words.text == segment.text
            assert words.compression == segment.compression_ratio
            assert words.log_probability == pytest.approx(segment.avg_logprob, rel=1e-5)
    assert len(texts) > 4  # the words depend on the sound, or this would compare nothing


@pytest.mark.parametrize("source", ["folder", "endless_folder"])
@pytest.mark.parametrize("window", ["full", "speech"])
@pytest.mark.parametrize("pass_frames", [None, 6_100, 100_000])
def test_in_company_as_alone(
    request: pytest.FixtureRequest, source: str, window: Window, pass_frames: int | None
) -> None:
    folder = request.getfixturevalue(source)
    whisper = WhisperTranscriber(folder, window=window, pass_frames=pass_frames)
    together = whisper.transcribe(_company())
    lonely = WhisperTranscriber(folder, window=window)
    alone = [_alone(lonely, *item) for item in _company()]
    assert _rounded(together) == _rounded(alone)
    assert len({words.text for words in together if words}) > 4


def test_a_loop_is_cut_at_its_own_limit_in_longer_company(endless_folder: Path) -> None:
    whisper = WhisperTranscriber(endless_folder, pass_frames=6_000)
    short, long = whisper.transcribe([(_utterance(0.5), "en"), (_utterance(20.0), "en")])
    assert short is not None
    assert long is not None
    assert short.text.count("w") == token_limit(SAMPLE_RATE // 2) < long.text.count("w")


def test_the_window_is_what_it_hears(folder: Path) -> None:
    full, speech = (
        WhisperTranscriber(folder, window=window).transcribe([(_utterance(3.0), "en")])
        for window in ("full", "speech")
    )
    assert full != speech


def test_an_english_whisper_hears_english_only(tmp_path: Path) -> None:
    folder = write_whisper(tmp_path, multilingual=False)
    whisper = WhisperTranscriber(folder)
    assert whisper.supports("en-US")
    assert not whisper.supports("de")
    named, detected = whisper.transcribe([(_utterance(2.0), "en"), (_utterance(2.0), None)])
    library = WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=1)
    [segment], _ = through_the_library(library, _sound(2.0), None, token_limit(2 * SAMPLE_RATE))
    assert named == detected
    assert named is not None
    assert (named.text, named.language) == (segment.text, "en")


def _rounded(heard: list[Transcript | None]) -> list[object]:
    """Without the last digits, which the order of a sum may change."""
    return [
        words
        and (
            words.text,
            words.language,
            words.capped,
            words.compression,
            words.log_probability and round(words.log_probability, 4),
            words.no_speech and float(f"{words.no_speech:.3e}"),
        )
        for words in heard
    ]


@given(st.integers(0, 30 * SAMPLE_RATE), st.integers(0, 30 * SAMPLE_RATE))
def test_more_speech_may_hold_more_tokens(one: int, other: int) -> None:
    assert 0 < token_limit(min(one, other)) <= token_limit(max(one, other)) <= MAX_TOKENS


@pytest.mark.parametrize("name", ["config.json", "model.bin", "tokenizer.json", "vocabulary.json"])
def test_a_missing_file_is_named(folder: Path, tmp_path: Path, name: str) -> None:
    for path in folder.iterdir():
        if path.name != name:
            (tmp_path / path.name).write_bytes(path.read_bytes())
    expected = "vocabulary.txt" if name == "vocabulary.json" else name
    with pytest.raises(TranscriberUnavailable, match=rf"{expected}.*emotrace-serve models pull"):
        WhisperTranscriber(tmp_path)


@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda data: b"no model" + data]
)
@pytest.mark.parametrize("name", ["model.bin", "tokenizer.json"])
def test_a_damaged_file_is_a_clear_error(
    folder: Path, tmp_path: Path, name: str, damage: Callable[[bytes], bytes]
) -> None:
    for path in folder.iterdir():
        data = path.read_bytes()
        (tmp_path / path.name).write_bytes(damage(data) if path.name == name else data)
    with pytest.raises(TranscriberUnavailable, match="cannot be loaded"):
        WhisperTranscriber(tmp_path)


def test_loading_and_running_never_touch_the_network(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert _alone(WhisperTranscriber(folder), _utterance(1.0), "en")


def test_it_fits_the_protocol(whisper: WhisperTranscriber) -> None:
    transcriber: Transcriber = whisper
    assert transcriber.supports(None)
