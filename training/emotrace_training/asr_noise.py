"""Simulated recognition errors: what a recogniser might have written for a line.

A recogniser writes no case and no punctuation, spells numbers out, and mishears: it puts words that
sound alike in the place of others (homophones, neighbours by sound), cuts a word in two or joins
two, leaves words out and puts fillers in. The words come from a lexicon, as a recogniser's do. The
shares of the kinds of error are a choice of ours, near those that recognisers of spontaneous speech
show: most errors are substitutions, short words fall out first.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

HOMOPHONES = (
    "there their they're", "to too two", "your you're", "its it's", "know no", "here hear",
    "for four", "by buy bye", "right write", "new knew", "one won", "our hour are", "would wood",
    "whole hole", "wait weight", "were where", "whose who's", "then than", "week weak", "see sea",
    "meet meat", "be bee", "great grate", "dear deer", "so sew", "son sun", "made maid",
    "piece peace", "I eye", "ok okay", "cause because", "gonna going", "wanna want", "of have",
    "a uh", "and in", "oh owe", "not knot", "through threw", "hi high", "allowed aloud",
    "eight ate", "brake break",
    "steal steel", "die dye", "feel fill", "fair fare", "pair pear", "plane plain",
)  # fmt: skip
FILLERS = ("uh", "um", "oh", "the", "a", "and", "you", "i")
SUBSTITUTED, LEFT_OUT = 0.65, 0.2  # of the errors; the others are words put in
CUT_OR_JOINED = 0.15  # of the substitutions
_UNITS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ["_", "_", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_SCALES = ((1_000_000, "million"), (1_000, "thousand"), (100, "hundred"))
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
# Letters that one ear takes for one another; vowels but the first fall out.
_SOUNDS = str.maketrans("bpfvcgjkqsxzdtlrmnhw", "bbffkkkkksssttlrmn__")
_LETTERS = (("ph", "f"), ("sh", "s"), ("ch", "k"), ("th", "t"), ("ck", "k"), ("wr", "r"))


def spelt(number: int) -> str:
    """A number below 10^9 as it is said: 1,250 -> `one thousand two hundred fifty`."""
    for size, name in _SCALES:
        if number >= size:
            rest = f" {spelt(number % size)}" if number % size else ""
            return f"{spelt(number // size)} {name}{rest}"
    if number < len(_UNITS):
        return _UNITS[number]
    return _TENS[number // 10] + (f" {_UNITS[number % 10]}" if number % 10 else "")


def said(text: str) -> list[str]:
    """The words of a line, without case, punctuation and digits."""
    plain = text.replace("\u2019", "'").lower()
    plain = re.sub(r"(?<=\d)[,](?=\d{3})", "", plain)
    words: list[str] = []
    for word in _WORD.findall(plain):
        is_number = word.isascii() and word.isdigit() and len(word) <= 9
        words += spelt(int(word)).split() if is_number else [word]
    return words


def sound(word: str) -> str:
    """A rough key of how a word sounds: its first letter's class and its consonants' classes."""
    for letters, like in _LETTERS:
        word = word.replace(letters, like)
    first, rest = word[:1].translate(_SOUNDS), re.sub("[aeiouy'_]", "", word[1:].translate(_SOUNDS))
    if first in "aeiouy":
        first = "a"
    return first + re.sub(r"(.)\1+", r"\1", rest)


@dataclass(slots=True)
class AsrNoise:
    """The words that a recogniser knows, by how they sound.

    known: how often each occurs. alike: words by sound key. twins: homophones by word.
    """

    known: Counter[str]
    alike: dict[str, list[str]] = field(default_factory=dict)
    twins: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, texts: Iterable[str], least: int = 3) -> AsrNoise:
        """A lexicon of the words that occur `least` times in the texts."""
        counts = Counter(word for text in texts for word in said(text))
        noise = cls(Counter({word: count for word, count in counts.items() if count >= least}))
        for word in sorted(noise.known):
            noise.alike.setdefault(sound(word), []).append(word)
        for line in HOMOPHONES:
            group = line.lower().split()
            for word in group:
                noise.twins.setdefault(word, []).extend(w for w in group if w != word)
        return noise

    def heard(self, text: str, rate: float, generator: random.Random) -> str:
        """The line with errors in about a share `rate` of its words; never without any word,
        where it has one."""
        words = said(text)
        heard: list[str] = []
        skip = False
        for i, word in enumerate(words):
            if skip:
                skip = False
                continue
            if generator.random() >= rate:
                heard.append(word)
                continue
            kind = generator.random()
            if kind < SUBSTITUTED:
                after = words[i + 1] if i + 1 < len(words) else ""
                other, skip = self._misheard(word, after, generator)
                heard += other
            elif kind < SUBSTITUTED + LEFT_OUT:
                continue
            else:
                heard += [word, generator.choice(FILLERS)]
        return " ".join(heard or words[:1])

    def _misheard(self, word: str, after: str, generator: random.Random) -> tuple[list[str], bool]:
        """What stands in the word's place, and whether the word after it went into it."""
        if generator.random() < CUT_OR_JOINED:
            if after and word + after in self.known:
                return [word + after], True
            cuts = [k for k in range(2, len(word) - 1) if self._two_words(word, k)]
            if cuts:
                k = generator.choice(cuts)
                return [word[:k], word[k:]], False
        if (twins := self.twins.get(word)) and generator.random() < 0.5:
            return [generator.choice(twins)], False
        others = [other for other in self.alike.get(sound(word), ()) if other != word]
        if not others:
            others = [o for o in self.alike.get(sound(word)[:-1], ()) if o != word]
        if others:
            weights = [self.known[other] ** 0.5 for other in others]
            return generator.choices(others, weights), False
        return [generator.choice(FILLERS)], False

    def _two_words(self, word: str, k: int) -> bool:
        return word[:k] in self.known and word[k:] in self.known


def word_errors(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    """Substitutions, deletions and insertions between two lists of words, as few as can be."""
    row = list(range(len(hypothesis) + 1))
    for i, wanted in enumerate(reference, start=1):
        before, row[0] = row[0], i
        for j, got in enumerate(hypothesis, start=1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (wanted != got))
    return row[-1]
