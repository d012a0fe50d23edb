"""Compact lexical tower: the words of an utterance -> a unit vector in the shared emotion space.

An ensemble of small networks (lexical_tower.py) that were trained apart, against the same class
prototypes as the acoustic towers (in the manner of CLAP, arXiv 2211.06687, with emotions in the
place of captions), so that vectors of both can be compared; the vector is the normalised mean.

Only the first `tokens` subwords of the first `CHARACTERS` characters are read. Words of a language
that the tower was not trained on give no vector: see `reads`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emotrace_models.encoders.base import Encoder, SpeakerState
from emotrace_models.encoders.buckets import buckets
from emotrace_models.encoders.lexical_tower import LexicalTower, LexicalTowerConfig, padded
from emotrace_models.encoders.prototypes import in_frame
from emotrace_models.encoders.subwords import (
    TOKENIZER,
    byte_tokenizer,
    primary_language,
    readable,
    tokenizer_of,
)
from emotrace_models.registry import register
from emotrace_models.types import FloatArray, Modality, Transcript, Utterance

LETTERS = 12  # fewer say too little of the language that they are in
UNDETERMINED = "und"  # BCP 47's tag for a language that nobody determined
SPACE = "\u0120"  # how byte-level subwords write the space before a word


@dataclass(frozen=True, slots=True)
class CompactLexicalConfig:
    """vocabulary: subwords and padding. tokens: subwords read. dropout: in training only.

    members: networks, all of one size. convolutions: how many. transformer: whether a layer of it
    follows them.
    pairs: rows of the table that pairs of subwords are hashed into; 0: no linear part.
    languages: primary subtags of BCP 47 of the languages that the tower was trained on.
    cut: the largest share of a text's words that the tokenizer may cut into pieces where nobody
    says what language it is in; 1: any text is read.
    """

    vocabulary: int = 8_192
    width: int = 128
    members: int = 1
    heads: int = 4
    kernel: int = 3
    tokens: int = 64
    dropout: float = 0.3
    convolutions: int = 2
    transformer: bool = True
    pairs: int = 0
    languages: tuple[str, ...] = ("en",)
    cut: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "languages", tuple(self.languages))  # a list in JSON
        if self.width % 8:
            raise ValueError(f"width {self.width} is no multiple of 8, as the prototypes need")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, not {self.kernel}")
        if min(self.vocabulary, self.width, self.members, self.heads, self.kernel, self.tokens) < 1:
            raise ValueError(
                "vocabulary, width, members, heads, kernel and tokens must be positive"
            )
        if self.convolutions < 0 or self.pairs < 0 or self.pairs == 1:
            raise ValueError("convolutions must not be negative, pairs 0 or more than 1")
        if not 0 <= self.cut <= 1:
            raise ValueError(f"cut is a share, from 0 to 1, not {self.cut}")
        if not self.languages:
            raise ValueError("languages must name at least one")

    def tower(self) -> LexicalTowerConfig:
        return LexicalTowerConfig(
            self.vocabulary, self.width, self.heads, self.kernel, self.dropout,
            self.convolutions, self.transformer, self.pairs,
        )  # fmt: skip


@register("encoder", "compact_lexical")
class CompactLexical(Encoder):
    """Keeps nothing of a speaker: its state is None.

    Raises ValueError where the tokenizer is missing, unreadable or larger than the vocabulary.
    """

    modality: ClassVar[Modality] = Modality.LEXICAL
    config_type: ClassVar[type[CompactLexicalConfig]] = CompactLexicalConfig
    assets: ClassVar[tuple[str, ...]] = (TOKENIZER,)

    def __init__(
        self, config: CompactLexicalConfig, assets: Mapping[str, bytes] | None = None
    ) -> None:
        super().__init__(config, assets)
        self.config = config
        self.width = config.width
        self.tokenizer = tokenizer_of(assets or {}, "compact_lexical", config.vocabulary, besides=1)
        self.members = nn.ModuleList(LexicalTower(config.tower()) for _ in range(config.members))

    @classmethod
    def small(cls) -> tuple[CompactLexicalConfig, Mapping[str, bytes]]:
        config = CompactLexicalConfig(vocabulary=512, width=16, heads=2, tokens=16)
        return config, {TOKENIZER: byte_tokenizer().to_str().encode()}

    def start(self) -> SpeakerState:
        return None

    def tokenize(self, text: str) -> list[int]:
        """Subword ids, at most `tokens`; empty where there is nothing to read."""
        clean = readable(text)
        ids = self.tokenizer.encode(clean).ids[: self.config.tokens] if clean else []
        return [i + 1 for i in ids]  # 0 is padding, which no text can spell

    def reads(self, transcript: Transcript) -> bool:
        """Whether a vector of these words would mean anything.

        Where the transcript states a language, it must be one of the tower's (`en-GB` is `en`).
        Where it states none, the tokenizer tells: its subwords were learnt on the tower's
        languages, so it has to cut most words of another one into pieces. Texts of fewer than
        LETTERS letters and digits are too short to tell, and pass.
        """
        language = primary_language(transcript.language or UNDETERMINED)
        if language != UNDETERMINED:
            return language in self.config.languages
        text = readable(transcript.text)
        if self.config.cut == 1 or sum(c.isalnum() for c in text) < LETTERS:
            return True
        encoded = self.tokenizer.encode(text)
        pieces = Counter(
            word
            for word, piece in zip(encoded.word_ids, encoded.tokens, strict=True)
            if any(c.isalnum() for c in piece.strip(SPACE))
        )
        cut = sum(count > 1 for count in pieces.values())
        return bool(cut <= self.config.cut * len(pieces))

    def forward(self, ids: Tensor) -> Tensor:
        """The ensemble's unit vectors [batch, width]; ids as LexicalTower.forward."""
        vectors = [F.normalize(member(ids), dim=-1) for member in self.members]
        return F.normalize(torch.stack(vectors).mean(dim=0), dim=-1)

    @torch.inference_mode()
    def encode(
        self, items: Sequence[tuple[SpeakerState, Utterance]]
    ) -> list[tuple[FloatArray | None, SpeakerState]]:
        results: list[tuple[FloatArray | None, SpeakerState]] = [(None, s) for s, _ in items]
        tokens = {
            i: ids
            for i, (_, utterance) in enumerate(items)
            if utterance.transcript is not None
            and self.reads(utterance.transcript)
            and (ids := self.tokenize(utterance.transcript.text))
        }
        there = list(tokens)
        for bucket in buckets([len(tokens[i]) for i in there]):
            rows = [there[number] for number in bucket]
            vectors = in_frame(self(padded([tokens[i] for i in rows]))).numpy()
            for i, vector in zip(rows, vectors, strict=True):
                results[i] = (vector.copy(), items[i][0])
        return results
