"""Simulated recognition errors: rates, kinds, and that nothing is made up from nowhere."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emotrace_training.asr_noise import FILLERS, AsrNoise, said, sound, spelt, word_errors

TEXTS = [
    "There is no way that I am going into this house, and you know it.",
    "A lot of people were here today; they're all at their own tables now.",
    "Mother said that he would meet us in the street, but nobody came.",
    "I write to you every week, and you never write back to me at all.",
    "The weather is so great that we can eat the whole cake outside.",
] * 3
LEXICON = AsrNoise.of(TEXTS)


def test_a_recogniser_writes_no_case_marks_and_digits() -> None:
    assert " ".join(said("He\u2019s 21, isn't HE?! (1,250 euros)")) == (
        "he's twenty one isn't he one thousand two hundred fifty euros"
    )
    assert said("...?") == []


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "zero"), (13, "thirteen"), (40, "forty"), (99, "ninety nine"), (100, "one hundred"),
     (2026, "two thousand twenty six"), (3_000_007, "three million seven")],
)  # fmt: skip
def test_numbers_as_they_are_said(number: int, words: str) -> None:
    assert spelt(number) == words


@pytest.mark.parametrize(("one", "other"), [("meet", "mate"), ("back", "pack"), ("phone", "fun")])
def test_like_sounds_have_one_key(one: str, other: str) -> None:
    assert sound(one) == sound(other)


def test_unlike_sounds_have_two() -> None:
    assert sound("house") != sound("table")


def test_word_errors() -> None:
    assert word_errors(["a", "b", "c"], ["a", "b", "c"]) == 0
    assert word_errors(["a", "b", "c"], ["a", "x", "c", "d"]) == 2
    assert word_errors(["a", "b", "c"], []) == 3
    assert word_errors([], ["a"]) == 1


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.3])
def test_the_rate_is_what_was_asked_for(rate: float) -> None:
    generator, errors, words = random.Random(0), 0, 0
    for text in TEXTS * 20:
        reference = said(text)
        words += len(reference)
        errors += word_errors(reference, LEXICON.heard(text, rate, generator).split())
    assert errors / words == pytest.approx(rate, abs=0.04)


def test_no_rate_no_errors() -> None:
    generator = random.Random(0)
    assert [LEXICON.heard(text, 0, generator) for text in TEXTS] == [
        " ".join(said(text)) for text in TEXTS
    ]


def test_the_same_seed_mishears_alike() -> None:
    first, again, other = (
        [LEXICON.heard(text, 0.3, random.Random(seed)) for text in TEXTS] for seed in (3, 3, 4)
    )
    assert first == again
    assert first != other


def test_every_kind_of_error_occurs() -> None:
    generator, shorter, longer, twins, cuts = random.Random(1), 0, 0, 0, 0
    for _ in range(400):
        for text in TEXTS[:5]:
            reference, got = said(text), LEXICON.heard(text, 0.15, generator).split()
            shorter += len(got) < len(reference)
            longer += len(got) > len(reference)
            twins += "right" in got
            cuts += "in to" in " ".join(got)
    assert "right" not in LEXICON.known
    assert min(shorter, longer, twins, cuts) > 0
    known = AsrNoise.of([*TEXTS, "in to into", "in to into", "in to into"])
    heard = {known.heard("go in to bed", 0.5, generator) for _ in range(300)}
    assert any("into" in line.split() for line in heard)


def test_what_is_misheard_is_a_known_word() -> None:
    generator = random.Random(2)
    words = (
        set(LEXICON.known) | set(FILLERS) | {t for group in LEXICON.twins.values() for t in group}
    )
    for text in TEXTS * 20:
        for word in LEXICON.heard(text, 0.5, generator).split():
            assert word in words | set(said(text))


@settings(deadline=None, max_examples=60)
@given(text=st.text(max_size=40), rate=st.floats(0, 1))
def test_takes_any_text_and_leaves_a_word(text: str, rate: float) -> None:
    heard = LEXICON.heard(text, rate, random.Random(0))
    assert bool(heard) == bool(said(text))
