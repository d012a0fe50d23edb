"""Words as GBAN reads them: letters only, a table of vectors, GloVe's where there is a file.

Liu et al., Interspeech 2020, section 2.2; models.md section 5.1. The table is trained with the
model. Departures from the released code, which models.md names: padding is on the right, and a word
without a vector gets one random number a dimension.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from emotrace_models.encoders.base import NetworkEncoder
from emotrace_models.registry import register
from emotrace_models.types import FloatArray, Modality, Utterance

VOCABULARY = "vocabulary.json"  # a list of words
PAD, UNKNOWN, FIRST = 0, 1, 2  # ids; FIRST is the vocabulary's first word
SPREAD = 0.25  # of the random vectors, each way
SHORTEST = 2  # tokens that one step of GBAN's text needs
CHARACTERS = 10_000  # bounds the work for any input
_LETTERS = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True, slots=True)
class WordsConfig:
    """vocabulary: rows of the table: the vocabulary's words, padding and the unknown word.
    width: of a word's vector. longest: words that are read of a text.
    """

    vocabulary: int
    width: int = 300
    longest: int = 128

    def __post_init__(self) -> None:
        if self.vocabulary < FIRST:
            raise ValueError(f"vocabulary must be at least {FIRST}, not {self.vocabulary}")
        if self.width < 1:
            raise ValueError(f"width must be at least 1, not {self.width}")
        if self.longest < SHORTEST:
            raise ValueError(f"longest must be at least {SHORTEST}, not {self.longest}")


@register("encoder", "words")
class Words(NetworkEncoder):
    """A text as the vectors of its words, the table random until trained or loaded.

    Raises ValueError where the vocabulary is missing, unreadable or not of the table's size.
    """

    modality: ClassVar[Modality] = Modality.LEXICAL
    config_type: ClassVar[type[WordsConfig]] = WordsConfig
    assets: ClassVar[tuple[str, ...]] = (VOCABULARY,)
    pads: ClassVar[bool] = True

    def __init__(self, config: WordsConfig, assets: Mapping[str, bytes] | None = None) -> None:
        super().__init__(config, assets)
        self.config = config
        self.width = config.width
        self.vocabulary = _vocabulary(assets or {}, config.vocabulary)
        self._ids = {word: FIRST + i for i, word in enumerate(self.vocabulary)}
        self.embedding = nn.Embedding(config.vocabulary, config.width, padding_idx=PAD)
        nn.init.uniform_(self.embedding.weight, -SPREAD, SPREAD)
        with torch.no_grad():
            self.embedding.weight[PAD] = 0.0

    @classmethod
    def small(cls) -> tuple[WordsConfig, Mapping[str, bytes]]:
        vocabulary = ("no", "well", "yes")
        return WordsConfig(FIRST + len(vocabulary), width=8), vocabulary_asset(vocabulary)

    @classmethod
    def from_texts(cls, texts: Iterable[str], width: int = 300, longest: int | None = None) -> Self:
        """Of the words in the texts of a training split, with a random table.

        longest: None for the longest of the texts, as in the released code.
        """
        texts = list(texts)
        if longest is None:
            longest = max([SHORTEST, *(len(words_of(text)) for text in texts)])
        vocabulary = build_vocabulary(texts)
        config = WordsConfig(FIRST + len(vocabulary), width, longest)
        return cls(config, vocabulary_asset(vocabulary))

    def load_glove(self, path: Path, seed: int = 33) -> int:
        """Fill the table from a GloVe text file (see `load_glove`); how many words had a vector."""
        table, found = load_glove(path, self.vocabulary, self.width, seed)
        with torch.no_grad():
            self.embedding.weight.copy_(torch.from_numpy(table))
        return found

    def front(self, utterance: Utterance) -> NDArray[np.int64] | None:
        """Ids [token], at least SHORTEST; None where the text has no word."""
        if utterance.transcript is None:
            return None
        words = words_of(utterance.transcript.text)[: self.config.longest]
        if not words:
            return None
        ids = [self._ids.get(word, UNKNOWN) for word in words]
        return np.array(ids + [PAD] * (SHORTEST - len(ids)), dtype=np.int64)

    def forward(self, fronts: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """ids [item, token] -> vectors [item, token, width], padding's zero, and lengths [item]."""
        features: Tensor = self.embedding(fronts)
        return features, lengths


def words_of(text: str) -> list[str]:
    """Lower-case runs of letters, without accents: "Isn't it... café?" is isn, t, it, cafe."""
    spread = unicodedata.normalize("NFD", text[:CHARACTERS].lower())
    plain = "".join(c for c in spread if unicodedata.category(c) != "Mn")
    return _LETTERS.findall(plain)


def build_vocabulary(texts: Iterable[str], least: int = 2) -> tuple[str, ...]:
    """The words seen at least `least` times, the commonest first."""
    counts = Counter(word for text in texts for word in words_of(text))
    kept = [word for word, count in counts.items() if count >= least]
    return tuple(sorted(kept, key=lambda word: (-counts[word], word)))


def vocabulary_asset(vocabulary: Sequence[str]) -> dict[str, bytes]:
    return {VOCABULARY: json.dumps(list(vocabulary), ensure_ascii=False).encode("utf-8")}


def load_glove(
    path: Path, vocabulary: Sequence[str], width: int = 300, seed: int = 33
) -> tuple[FloatArray, int]:
    """A table [FIRST + len(vocabulary), width] from the public GloVe text format: a word and
    `width` numbers a line; and how many words had a vector.

    Words without one get random numbers from -0.25 to 0.25; padding gets zeros.
    Raises ValueError, which names file and line, where a line is malformed or of another width;
    OSError where there is no file.
    """
    generator = np.random.default_rng(seed)
    shape = (FIRST + len(vocabulary), width)
    table = generator.uniform(-SPREAD, SPREAD, shape).astype(np.float32)
    table[PAD] = 0.0
    rows = {word.encode("utf-8"): FIRST + i for i, word in enumerate(vocabulary)}
    found = set()
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            # Some of the public files' words have spaces: the numbers are the last `width` fields.
            spaces = line.count(b" ")
            if spaces < width or (number == 1 and spaces > width):
                raise ValueError(
                    f"{path}, line {number}: a word and {width} numbers are expected, "
                    f"there are {spaces} fields after the first"
                )
            row = rows.get(line.partition(b" ")[0])
            if row is None or spaces > width or row in found:
                continue
            table[row] = _numbers(line, f"{path}, line {number}")
            found.add(row)
    return table, len(found)


def _numbers(line: bytes, place: str) -> list[float]:
    """The numbers after the first field."""
    try:
        numbers = [float(field) for field in line.split()[1:]]
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"{place}: a number is not finite")
    return numbers


def _vocabulary(assets: Mapping[str, bytes], rows: int) -> tuple[str, ...]:
    if VOCABULARY not in assets:
        raise ValueError(f"words needs the asset {VOCABULARY}; export the bundle again")
    try:
        words = json.loads(assets[VOCABULARY])
    except ValueError as error:
        raise ValueError(f"{VOCABULARY} is no JSON: {error}") from error
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError(f"{VOCABULARY} is no list of words")
    if len(set(words)) < len(words):
        raise ValueError(f"{VOCABULARY} names a word twice")
    if FIRST + len(words) != rows:
        raise ValueError(
            f"{VOCABULARY} has {len(words)} words; a table of {rows} rows is for {rows - FIRST}"
        )
    return tuple(words)
