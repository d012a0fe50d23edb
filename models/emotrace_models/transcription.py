"""Transcribers: utterances' sound -> their words, and how sure they are.

WhisperTranscriber runs faster-whisper from a local folder and never goes to the network. Whisper
invents text where there is little speech ("Thanks for watching") and repeats itself: transcripts
carry its measures of that, by which transcript_gates refuses such text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from emotrace_models.transcript_gates import compression
from emotrace_models.types import SAMPLE_RATE, FloatArray, Transcript, Utterance
from emotrace_models.whisper_windows import FULL_FRAMES, Window, window_frames

REQUIRED_FILES = ("config.json", "model.bin", "tokenizer.json")
VOCABULARY_FILES = ("vocabulary.txt", "vocabulary.json")

MAX_TOKENS = 220  # about half of Whisper's text window of 448
TOKENS_PER_SECOND = 16  # fast speech needs about 8 subwords a second, less in most languages
SPARE_TOKENS = 8
MIN_SAMPLES = SAMPLE_RATE // 10
CPU_PASS_FRAMES = FULL_FRAMES


class TranscriberUnavailable(RuntimeError):
    """The transcriber's files are missing or cannot be loaded. The message names the cure."""


class LanguageUnsupported(ValueError):
    """The transcriber does not know the language it was asked for."""


class Transcriber(Protocol):
    """Something that turns sound into words. Called from one worker thread at a time."""

    def supports(self, language: str | None) -> bool:
        """Whether `transcribe` takes this language (BCP 47); None: it is to be detected."""

    def transcribe(self, items: Sequence[tuple[Utterance, str | None]]) -> list[Transcript | None]:
        """For each utterance and its language: its words and how sure they are; None: no words.

        Items may come from different sessions. What one gets does not depend on the others.
        Raises LanguageUnsupported, before anything is computed, if `supports` refuses a language:
        ask it first, then no item can hurt the others.
        """


def token_limit(samples: int) -> int:
    """The most tokens that so much speech can hold. More is a loop of the decoder."""
    return min(MAX_TOKENS, SPARE_TOKENS + math.ceil(samples / SAMPLE_RATE * TOKENS_PER_SECOND))


@dataclass(frozen=True, slots=True, eq=False)
class _Sound:
    """One utterance that is worth hearing. place: its place among the items.

    samples: [sample]. language: Whisper's name of it, None to detect it. frames: to be encoded.
    """

    place: int
    samples: FloatArray
    language: str | None
    frames: int


class WhisperTranscriber:
    """faster-whisper on a local folder in CTranslate2's format.

    threads: compute threads of one call. compute_type: CTranslate2's name of the arithmetic;
    int8 is the fastest on a CPU.
    window: `full` encodes 30 s for every utterance, as the published models were trained; most of
    the time goes into silence. `speech` encodes the speech and little more: many times faster on
    short utterances, but words may suffer, and loops become more frequent, since the published
    models never saw a short window. Whether yours bear it, tests/benchmarks/bench_transcription.py
    says: word error rates of both, from weights and a table of transcripts.
    pass_frames: the most feature frames (100 a second) that are encoded together, though never
    fewer than one utterance's. None: 30 s on a CPU, where more together take longer than one after
    the other; no bound on a GPU.
    Raises TranscriberUnavailable.
    """

    def __init__(
        self,
        directory: Path,
        *,
        threads: int = 1,
        device: str = "cpu",
        compute_type: str = "int8",
        window: Window = "full",
        pass_frames: int | None = None,
    ) -> None:
        _check_files(directory)
        # Imported here: it takes a second, and only a server that has weights needs it.
        from faster_whisper import WhisperModel
        from faster_whisper.transcribe import get_suppressed_tokens

        try:
            self._model: Any = WhisperModel(
                str(directory),
                device=device,
                compute_type=compute_type,
                cpu_threads=threads,
                local_files_only=True,
            )
            self._suppressed = list(get_suppressed_tokens(self._tokenizer("en"), [-1]))
        except Exception as error:  # CTranslate2 and tokenizers share no base class of errors
            raise TranscriberUnavailable(
                f"The Whisper weights in {directory.name} cannot be loaded: {error}. "
                "Fetch them again: emotrace-serve models pull"
            ) from error
        if pass_frames is None and self._model.model.device == "cpu":
            pass_frames = CPU_PASS_FRAMES
        self._window = window
        self._pass_frames = pass_frames
        self.languages = frozenset[str](self._model.supported_languages)

    def supports(self, language: str | None) -> bool:
        """Whether Whisper knows the language; `en-GB` is `en`."""
        return knows(self.languages, language)

    def transcribe(self, items: Sequence[tuple[Utterance, str | None]]) -> list[Transcript | None]:
        """The words of each utterance's first 30 s, greedily decoded; None where there are none.

        Deterministic: no sampling, and no text of earlier utterances in the prompt, through which
        one invented sentence would breed the next. Utterances with equal windows are computed
        together, as many as `pass_frames` allows. Raises LanguageUnsupported, before anything is
        computed.
        """
        for _, language in items:
            if not self.supports(language):
                raise LanguageUnsupported(f"Whisper does not know the language {language!r}.")
        results: list[Transcript | None] = [None] * len(items)
        for group in self._groups(items):
            for sound, words in zip(group, self._transcribe(group), strict=True):
                results[sound.place] = words
        return results

    def _groups(self, items: Sequence[tuple[Utterance, str | None]]) -> list[list[_Sound]]:
        """What is computed together. To detect languages costs a pass of its own."""
        groups: dict[tuple[int, bool], list[_Sound]] = {}
        for place, (utterance, language) in enumerate(items):
            samples = utterance.samples
            if samples is None or len(samples) < MIN_SAMPLES:
                continue
            known = None if language is None else _primary(language)
            frames = window_frames(len(samples), self._window)
            sound = _Sound(place, samples, known, frames)
            groups.setdefault((frames, known is None), []).append(sound)
        return [part for group in groups.values() for part in self._parts(group)]

    def _parts(self, group: list[_Sound]) -> list[list[_Sound]]:
        if self._pass_frames is None:
            return [group]
        most = max(1, self._pass_frames // group[0].frames)
        return [group[begin : begin + most] for begin in range(0, len(group), most)]

    def _transcribe(self, sounds: list[_Sound]) -> list[Transcript | None]:
        """The words of sounds that have one window, and either all or none a language."""
        from ctranslate2 import StorageView

        features = np.stack([self._log_mel(sound) for sound in sounds])
        encoded = self._model.model.encode(StorageView.from_array(features))
        tokenizers = [self._tokenizer(one) for one in self._spoken(encoded, sounds)]
        limits = [token_limit(len(sound.samples)) for sound in sounds]
        results = self._model.model.generate(
            encoded,
            [[*tokenizer.sot_sequence, tokenizer.no_timestamps] for tokenizer in tokenizers],
            beam_size=1,
            # CTranslate2 halves it, as the first Whisper did to leave room for a prompt.
            max_length=2 * max(limits),
            suppress_tokens=self._suppressed,
            return_scores=True,
            return_no_speech_prob=True,
        )
        return [
            _transcript(result, tokenizer, limit)
            for result, tokenizer, limit in zip(results, tokenizers, limits, strict=True)
        ]

    def _log_mel(self, sound: _Sound) -> FloatArray:
        """[band, frame] float32, padded with zeros as faster-whisper pads it."""
        samples = np.ascontiguousarray(sound.samples, dtype=np.float32)
        # The last frame is the extractor's own padding.
        features: FloatArray = self._model.feature_extractor(samples)[:, :-1][:, : sound.frames]
        return np.pad(features, ((0, 0), (0, sound.frames - features.shape[1])))

    def _spoken(self, encoded: Any, sounds: list[_Sound]) -> list[str]:
        """The language of each sound: all of them have one, or all are to be detected."""
        if named := [sound.language for sound in sounds if sound.language is not None]:
            return named
        if not self._model.model.is_multilingual:
            return ["en"] * len(sounds)
        return [ranked[0][0].strip("<|>") for ranked in self._model.model.detect_language(encoded)]

    def _tokenizer(self, language: str) -> Any:
        from faster_whisper.tokenizer import Tokenizer

        multilingual = self._model.model.is_multilingual
        return Tokenizer(self._model.hf_tokenizer, multilingual, "transcribe", language)


def _transcript(result: Any, tokenizer: Any, limit: int) -> Transcript | None:
    """result: CTranslate2's. limit: of this utterance; that of the batch may have been higher."""
    tokens = result.sequences_ids[0]
    capped = len(tokens) >= limit
    text = tokenizer.decode(tokens[:limit]).strip()
    if not text:
        return None
    # The score is a mean that leaves the end of the text out of the count, though it is scored.
    # Of a text that was cut it also covers what came after, which depends on the batch.
    mean = None if capped else result.scores[0] * len(tokens) / (len(tokens) + 1)
    return Transcript(
        " ".join(text.split()),
        "server",
        tokenizer.language_code,
        confidence=None if mean is None else min(1.0, math.exp(mean)),
        log_probability=mean,
        no_speech=result.no_speech_prob,
        compression=compression(text),
        capped=capped,
    )


def knows(languages: frozenset[str], language: str | None) -> bool:
    """Whether a transcriber of these languages takes this one (BCP 47); `en-GB` is `en`."""
    return language is None or _primary(language) in languages


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
