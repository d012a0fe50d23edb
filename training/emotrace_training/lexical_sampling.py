"""What the lexical tower is fitted to: samples, altered a little each time they are seen.

A line is seen as it was written, without its marks, or as a recogniser with errors would have
written it (asr_noise); words are left out; words are cut into more subwords than they need (in the
manner of BPE-dropout, Provilkov et al., arXiv 1910.13267), so that rare words share their pieces.
All of it draws from one seeded generator.
"""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from tokenizers import Tokenizer
from torch import Tensor

from emotrace_models.encoders.lexical_tower import padded
from emotrace_models.encoders.prototypes import EMOTIONS
from emotrace_training.asr_noise import AsrNoise


@dataclass(frozen=True, slots=True)
class LexicalSample:
    """emotions: rows of its prototypes, each as true as the others. fine: its labels in
    goemotions.LABELS, where its corpus has such."""

    text: str
    emotions: tuple[int, ...]
    corpus: str
    fine: tuple[int, ...] = ()

    @property
    def target(self) -> list[float]:
        """[emotion], sums to 1."""
        share = 1 / len(self.emotions)
        return [share if row in self.emotions else 0.0 for row in range(len(EMOTIONS))]


@dataclass(frozen=True, slots=True)
class Alterations:
    """Shares of lines or words. weights: how often a corpus is seen an epoch; 0.5 means a random
    half of it, 2 each line twice.

    plain: lines without marks. recognised: lines with recognition errors, at a rate drawn from 0 to
    `errors`. words: words left out. cut: words of four letters or more that are cut.
    """

    plain: float = 0.15
    recognised: float = 0.25
    errors: float = 0.3
    words: float = 0.1
    cut: float = 0.1
    weights: dict[str, float] = field(default_factory=dict)

    def times(self, corpus: str) -> float:
        return self.weights.get(corpus, 1.0)


class Subwords:
    """Lines -> subword ids, as CompactLexical.tokenize gives them, or with words cut at random."""

    def __init__(self, tokenizer: Tokenizer, tokens: int) -> None:
        self._tokenizer = tokenizer
        self._tokens = tokens
        self._known: dict[str, list[int]] = {}

    def __call__(self, text: str, cut: float, generator: random.Random) -> list[int]:
        normal = self._tokenizer.normalizer.normalize_str(text)
        ids: list[int] = []
        for word, _ in self._tokenizer.pre_tokenizer.pre_tokenize_str(normal):
            if len(word) > 3 and generator.random() < cut:
                at = generator.randrange(2, len(word))
                ids += self._of(word[:at]) + self._of(word[at:])
            else:
                ids += self._of(word)
        return ids[: self._tokens]

    def _of(self, word: str) -> list[int]:
        if word not in self._known:
            found = self._tokenizer.model.tokenize(word)
            self._known[word] = [token.id + 1 for token in found]  # 0 is padding
        return self._known[word]


@dataclass(frozen=True, slots=True)
class Batch:
    """ids [item, token]; targets [item, emotion]; corpora [item], rows of the sampler's corpora."""

    ids: Tensor
    targets: Tensor
    corpora: Tensor
    samples: tuple[LexicalSample, ...]


class Sampler:
    """Batches of samples of like length, in random order; every epoch has the same number."""

    def __init__(
        self,
        samples: Sequence[LexicalSample],
        subwords: Subwords,
        alterations: Alterations,
        size: int,
        seed: int,
    ) -> None:
        self.corpora = sorted({sample.corpus for sample in samples})
        self._of = {name: [s for s in samples if s.corpus == name] for name in self.corpora}
        self._subwords = subwords
        self._alterations = alterations
        self._size = size
        self._generator = random.Random(seed)
        self._noise = AsrNoise.of(sample.text for sample in samples)
        seen = sum(self._count(name) for name in self.corpora)
        self.batches = -(-seen // size)

    def epoch(self) -> Iterator[Batch]:
        generator, chosen = self._generator, list[LexicalSample]()
        for name, found in self._of.items():
            whole, rest = divmod(self._count(name), len(found))
            chosen += found * whole + generator.sample(found, rest)
        chosen.sort(key=lambda sample: len(sample.text) * generator.uniform(0.85, 1.18))
        starts = list(range(0, len(chosen), self._size))
        generator.shuffle(starts)
        for start in starts:
            yield self._batch(tuple(chosen[start : start + self._size]))

    def _count(self, corpus: str) -> int:
        return max(1, round(self._alterations.times(corpus) * len(self._of[corpus])))

    def _batch(self, samples: tuple[LexicalSample, ...]) -> Batch:
        return Batch(
            padded([self._ids(sample.text) for sample in samples]),
            torch.tensor([sample.target for sample in samples]),
            torch.tensor([self.corpora.index(sample.corpus) for sample in samples]),
            samples,
        )

    def _ids(self, text: str) -> list[int]:
        generator, shares = self._generator, self._alterations
        kind = generator.random()
        if kind < shares.recognised:
            rate = generator.uniform(0, shares.errors)
            seen = self._noise.heard(text, rate, generator) or text
        elif kind < shares.recognised + shares.plain:
            seen = without_marks(text)
        else:
            seen = text
        words = seen.split()
        kept = [word for word in words if generator.random() >= shares.words]
        ids = self._subwords(" ".join(kept or words), shares.cut, generator)
        return ids or self._subwords(text, 0, generator)


def without_marks(text: str) -> str:
    """The text without its punctuation, apostrophes kept; the text where nothing else is in it."""
    kept = "".join(
        c if c in "'\u2019" or not unicodedata.category(c).startswith("P") else " " for c in text
    )
    return kept if kept.strip() else text
