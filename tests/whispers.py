"""Whispers with random weights in CTranslate2's format, and what faster-whisper makes of a sound.

Their words mean nothing but depend on the sound, on its length and on what they said before, as
those of a trained one do. Everything but the weights is real: vocabulary, conversion, decoding.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ctranslate2.converters import TransformersConverter
from faster_whisper import WhisperModel
from faster_whisper.tokenizer import _LANGUAGE_CODES
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, WhisperConfig, WhisperForConditionalGeneration

from emotrace_models.types import FloatArray

END = "<|endoftext|>"
TIMES = 1_501  # tokens, the last of the vocabulary
PROMPT = 4  # tokens: start, language, task, no timestamps


@dataclass(frozen=True)
class Size:
    width: int
    layers: int
    heads: int


TOY = Size(16, 1, 2)
TINY = Size(384, 4, 6)  # as OpenAI's Whisper tiny


def write_whisper(
    folder: Path,
    *,
    size: Size = TOY,
    spread: float = 0.3,
    pull: float = 0.3,
    words: int | None = 8,
    multilingual: bool = True,
) -> Path:
    """Where the weights are, below `folder`; `source` beside them holds transformers' form.

    spread: standard deviation of the weights; the larger, the more the words depend on the sound.
    words, pull: around so many tokens the end becomes likely, the sooner the stronger the pull;
    words=None: it never does.
    """
    source, target = folder / "source", folder / "whisper"
    source.mkdir(parents=True)
    tokenizer, languages = _tokenizer(multilingual)
    tokenizer.save(str(source / "tokenizer.json"))
    special = dict.fromkeys(("eos_token", "bos_token", "unk_token", "pad_token"), END)
    (source / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **special})
    )
    end = tokenizer.get_vocab()[END]
    model = _model(size, spread, tokenizer.get_vocab_size(), end)
    decoder = model.model.decoder
    with torch.no_grad():
        towards_end = torch.nn.functional.normalize(torch.randn(size.width), dim=0)
        decoder.embed_tokens.weight[end] = size.width**0.5 * towards_end
        decoder.embed_tokens.weight[-TIMES:] = 0.0  # a trained one says no times unasked
        # Whisper wants to say brackets, and is kept from it: here at every token, one or the other.
        loud = 20 * spread * torch.randn(size.width)
        decoder.embed_tokens.weight[tokenizer.token_to_id("(")] = loud
        decoder.embed_tokens.weight[tokenizer.token_to_id(")")] = -loud
        positions = decoder.embed_positions.weight
        near = torch.full((len(positions),), -PROMPT - 8)
        if words is not None:
            near = torch.arange(len(positions)) - PROMPT - words
        positions += pull * near[:, None] * towards_end
    model.save_pretrained(source)
    GenerationConfig(lang_to_id=languages, is_multilingual=multilingual).save_pretrained(source)
    TransformersConverter(str(source)).convert(str(target))
    tokenizer.save(str(target / "tokenizer.json"))
    return target


def _model(size: Size, spread: float, vocabulary: int, end: int) -> Any:
    torch.manual_seed(0)
    return WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=vocabulary,
            num_mel_bins=80,
            d_model=size.width,
            encoder_layers=size.layers,
            decoder_layers=size.layers,
            encoder_attention_heads=size.heads,
            decoder_attention_heads=size.heads,
            encoder_ffn_dim=4 * size.width,
            decoder_ffn_dim=4 * size.width,
            decoder_start_token_id=end + 1,
            init_std=spread,
            eos_token_id=end,
            bos_token_id=end,
            pad_token_id=end,
        )
    )


def _tokenizer(multilingual: bool) -> tuple[Tokenizer, dict[str, int]]:
    """A tokenizer of Whisper's layout, with words of no meaning."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*letters, *(f"w{number}" for number in range(50_256 - len(letters)))]
    if multilingual:
        words.append("")  # one more, by which CTranslate2 and others recognise it
    languages = [f"<|{code}|>" for code in _LANGUAGE_CODES if code != "yue"]
    special = [
        END,
        "<|startoftranscript|>",
        *languages,
        "<|translate|>",
        "<|transcribe|>",
        "<|startoflm|>",
        "<|startofprev|>",
        "<|nospeech|>",
        "<|notimestamps|>",
    ]
    times = [f"<|{step * 0.02:.2f}|>" for step in range(TIMES)]
    vocabulary = {token: number for number, token in enumerate([*words, *special, *times])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    return tokenizer, {language: vocabulary[language] for language in languages}


def through_the_library(
    model: WhisperModel, samples: FloatArray, language: str | None, limit: int
) -> tuple[list[Any], str]:
    """faster-whisper's own segments of one utterance, and its language.

    limit: tokens; decoding stops there or one or two later, since CTranslate2 halves the length.
    """
    segments, info = model.transcribe(
        samples,
        language=language,
        beam_size=1,
        temperature=0.0,
        condition_on_previous_text=False,
        without_timestamps=True,
        vad_filter=False,
        max_new_tokens=2 * limit,
        compression_ratio_threshold=None,
        log_prob_threshold=None,
        no_speech_threshold=None,
    )
    return list(segments), info.language
