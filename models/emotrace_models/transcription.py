"""Transcribers: an utterance's sound -> its words, and how sure they are.

WhisperTranscriber runs faster-whisper from a local folder and never goes to the network. Whisper
invents text where there is little speech ("Thanks for watching") and repeats itself: transcripts
carry its measures of that, by which transcript_gates refuses such text.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from emotrace_models.types import SAMPLE_RATE, Transcript, Utterance

REQUIRED_FILES = ("config.json", "model.bin", "tokenizer.json")
VOCABULARY_FILES = ("vocabulary.txt", "vocabulary.json")

MAX_TOKENS = 220  # about half of Whisper's text window of 448
TOKENS_PER_SECOND = 16  # fast speech needs about 8 subwords a second, less in most languages
SPARE_TOKENS = 8
MIN_SAMPLES = SAMPLE_RATE // 10


class TranscriberUnavailable(RuntimeError):
    """The transcriber's files are missing or cannot be loaded. The message names the cure."""


class LanguageUnsupported(ValueError):
    """The transcriber does not know the language it was asked for."""


class Transcriber(Protocol):
    """Something that turns sound into words. Called from one worker thread at a time."""

    def supports(self, language: str | None) -> bool:
        """Whether `transcribe` takes this language (BCP 47); None: it is to be detected."""

    def transcribe(self, utterance: Utterance, language: str | None) -> Transcript | None:
        """The words of an utterance, with what is known of how sure they are; None: no words.

        Raises LanguageUnsupported.
        """


def token_limit(samples: int) -> int:
    """The most tokens that so much speech can hold. More is a loop of the decoder."""
    return min(MAX_TOKENS, SPARE_TOKENS + math.ceil(samples / SAMPLE_RATE * TOKENS_PER_SECOND))


class WhisperTranscriber:
    """faster-whisper on a local folder in CTranslate2's format.

    threads: compute threads of one call. compute_type: CTranslate2's name of the arithmetic;
    int8 is the fastest on a CPU. Raises TranscriberUnavailable.
    """

    def __init__(
        self,
        directory: Path,
        *,
        threads: int = 1,
        device: str = "cpu",
        compute_type: str = "int8",
    ) -> None:
        _check_files(directory)
        # Imported here: it takes a second, and only a server that has weights needs it.
        from faster_whisper import WhisperModel

        try:
            self._model: Any = WhisperModel(
                str(directory),
                device=device,
                compute_type=compute_type,
                cpu_threads=threads,
                local_files_only=True,
            )
        except Exception as error:  # CTranslate2 and tokenizers share no base class of errors
            raise TranscriberUnavailable(
                f"The Whisper weights in {directory.name} cannot be loaded: {error}. "
                "Fetch them again: emotrace-serve models pull"
            ) from error
        self._languages = frozenset(self._model.supported_languages)

    def supports(self, language: str | None) -> bool:
        """Whether Whisper knows the language; `en-GB` is `en`."""
        return language is None or _primary(language) in self._languages

    def transcribe(self, utterance: Utterance, language: str | None) -> Transcript | None:
        """The words of an utterance of at most 30 s, greedily decoded; None where there are none.

        Deterministic: no sampling, and no text of earlier utterances in the prompt, through which
        one invented sentence would breed the next. Raises LanguageUnsupported.
        """
        if not self.supports(language):
            raise LanguageUnsupported(f"Whisper does not know the language {language!r}.")
        samples = utterance.samples
        if samples is None or len(samples) < MIN_SAMPLES:
            return None
        limit = token_limit(len(samples))
        segments, info = self._model.transcribe(
            np.ascontiguousarray(samples, dtype=np.float32),
            language=None if language is None else _primary(language),
            beam_size=1,
            temperature=0.0,
            condition_on_previous_text=False,
            without_timestamps=True,
            vad_filter=False,
            # CTranslate2 halves the length, as the first Whisper did to leave room for a prompt:
            # decoding stops at `limit` or one or two tokens after.
            max_new_tokens=2 * limit,
            # The library would retry or skip by these; transcript_gates decides afterwards.
            compression_ratio_threshold=None,
            log_prob_threshold=None,
            no_speech_threshold=None,
        )
        return _transcript(list(segments), str(info.language), limit)


def _transcript(segments: list[Any], language: str, limit: int) -> Transcript | None:
    text = " ".join(" ".join(segment.text for segment in segments).split())
    tokens = sum(len(segment.tokens) for segment in segments)
    if not text:
        return None
    mean = sum(segment.avg_logprob * len(segment.tokens) for segment in segments) / tokens
    return Transcript(
        text,
        "server",
        language,
        confidence=min(1.0, math.exp(mean)),
        log_probability=mean,
        no_speech=max(segment.no_speech_prob for segment in segments),
        compression=max(segment.compression_ratio for segment in segments),
        capped=any(len(segment.tokens) >= limit for segment in segments),
    )


def _primary(language: str) -> str:
    """The primary subtag of a BCP 47 tag."""
    return language.partition("-")[0].lower()


def _check_files(directory: Path) -> None:
    missing = [name for name in REQUIRED_FILES if not (directory / name).is_file()]
    if not any((directory / name).is_file() for name in VOCABULARY_FILES):
        missing.append(VOCABULARY_FILES[0])
    if missing:
        # Without tokenizer.json the library would fetch one from the network.
        raise TranscriberUnavailable(
            f"The Whisper weights in {directory.name} lack {', '.join(missing)}. "
            "Fetch them: emotrace-serve models pull"
        )
