"""The Whisper path, on a tiny random Whisper that is converted here: real loading code, no mock."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from ctranslate2.converters import TransformersConverter
from faster_whisper.tokenizer import _LANGUAGE_CODES
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, WhisperConfig, WhisperForConditionalGeneration

from emotrace_models.transcript_gates import Gates
from emotrace_models.transcription import (
    MAX_TOKENS,
    LanguageUnsupported,
    Transcriber,
    TranscriberUnavailable,
    WhisperTranscriber,
    token_limit,
)
from emotrace_models.types import SAMPLE_RATE, Utterance

END_OF_TEXT = 50_257


def _tokenizer() -> tuple[Tokenizer, dict[str, int]]:
    """A tokenizer of the multilingual Whisper's layout, with words of no meaning."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    # The empty token is how CTranslate2 recognises a multilingual vocabulary.
    words = [*letters, *(f"w{number}" for number in range(50_256 - len(letters))), ""]
    languages = [f"<|{code}|>" for code in _LANGUAGE_CODES if code != "yue"]
    special = [
        "<|endoftext|>",
        "<|startoftranscript|>",
        *languages,
        "<|translate|>",
        "<|transcribe|>",
        "<|startoflm|>",
        "<|startofprev|>",
        "<|nospeech|>",
        "<|notimestamps|>",
    ]
    times = [f"<|{step * 0.02:.2f}|>" for step in range(1501)]
    vocabulary = {token: number for number, token in enumerate([*words, *special, *times])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    return tokenizer, {language: vocabulary[language] for language in languages}


def _write_whisper(folder: Path, *, end_after: int | None) -> Path:
    """A random Whisper of width 16, converted; its text ends at position `end_after`, if ever."""
    source, target = folder / "source", folder / "whisper"
    source.mkdir(parents=True)
    tokenizer, languages = _tokenizer()
    tokenizer.save(str(source / "tokenizer.json"))
    special = dict.fromkeys(("eos_token", "bos_token", "unk_token", "pad_token"), "<|endoftext|>")
    (source / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **special})
    )
    torch.manual_seed(0)
    ends = dict.fromkeys(("eos_token_id", "bos_token_id", "pad_token_id"), END_OF_TEXT)
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=tokenizer.get_vocab_size(),
            num_mel_bins=80,
            d_model=16,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=32,
            decoder_ffn_dim=32,
            decoder_start_token_id=END_OF_TEXT + 1,
            **ends,
        )
    )
    decoder = model.model.decoder
    with torch.no_grad():
        direction = torch.randn(16)
        decoder.embed_tokens.weight[END_OF_TEXT] = direction
        decoder.embed_positions.weight[:] -= direction
        if end_after is not None:
            decoder.embed_positions.weight[end_after:] += 20 * direction
    model.save_pretrained(source)
    GenerationConfig(lang_to_id=languages, is_multilingual=True).save_pretrained(source)
    TransformersConverter(str(source)).convert(str(target))
    tokenizer.save(str(target / "tokenizer.json"))
    return target


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write_whisper(tmp_path_factory.mktemp("ends"), end_after=8)


@pytest.fixture(scope="module")
def whisper(folder: Path) -> WhisperTranscriber:
    return WhisperTranscriber(folder)


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> WhisperTranscriber:
    folder = tmp_path_factory.mktemp("endless")
    return WhisperTranscriber(_write_whisper(folder, end_after=None))


def _utterance(seconds: float) -> Utterance:
    samples = np.random.default_rng(1).normal(0, 0.1, round(seconds * SAMPLE_RATE))
    return Utterance(0, "A", 0, len(samples), samples.astype(np.float32))


@pytest.mark.parametrize(("language", "expected"), [("en", "en"), ("de-AT", "de"), ("PL", "pl")])
def test_text_comes_with_its_language_and_confidence(
    whisper: WhisperTranscriber, language: str, expected: str
) -> None:
    transcript = whisper.transcribe(_utterance(1.0), language)
    assert transcript is not None
    assert transcript.text == transcript.text.strip() != ""
    assert (transcript.source, transcript.language) == ("server", expected)
    assert transcript.confidence is not None
    assert 0 < transcript.confidence < 0.01  # random weights are sure of nothing


def test_language_is_detected_when_none_is_named(whisper: WhisperTranscriber) -> None:
    transcript = whisper.transcribe(_utterance(1.0), None)
    assert transcript is not None
    assert whisper.supports(transcript.language)


def test_it_is_deterministic(whisper: WhisperTranscriber) -> None:
    utterance = _utterance(1.5)
    assert whisper.transcribe(utterance, "en") == whisper.transcribe(utterance, "en")


def test_an_unknown_language_is_an_error_not_a_guess(whisper: WhisperTranscriber) -> None:
    assert not whisper.supports("tlh")
    with pytest.raises(LanguageUnsupported, match="tlh"):
        whisper.transcribe(_utterance(1.0), "tlh")


@pytest.mark.parametrize("seconds", [0.0, 0.05])
def test_too_short_to_hold_a_word(whisper: WhisperTranscriber, seconds: float) -> None:
    assert whisper.transcribe(_utterance(seconds), "en") is None


def test_a_turn_without_audio_has_no_words(whisper: WhisperTranscriber) -> None:
    assert whisper.transcribe(Utterance(0, "A", 0, 0, None), "en") is None


def test_a_model_that_guesses_says_so_and_is_refused(whisper: WhisperTranscriber) -> None:
    words = whisper.transcribe(_utterance(1.0), "en")
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
    words = endless.transcribe(_utterance(seconds), "en")
    assert words is not None
    assert words.capped


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
    assert WhisperTranscriber(folder).transcribe(_utterance(1.0), "en")


def test_it_fits_the_protocol(whisper: WhisperTranscriber) -> None:
    transcriber: Transcriber = whisper
    assert transcriber.supports(None)
