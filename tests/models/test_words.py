"""Words, their vocabulary and GloVe's text format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from emotrace_models.encoders.words import (
    FIRST,
    PAD,
    UNKNOWN,
    Words,
    WordsConfig,
    build_vocabulary,
    load_glove,
    vocabulary_asset,
    words_of,
)
from emotrace_models.types import Transcript, Utterance

WORDS = ("no", "well", "yes")


def words(longest: int = 128) -> Words:
    torch.manual_seed(0)
    return Words(WordsConfig(FIRST + len(WORDS), 4, longest), vocabulary_asset(WORDS))


def said(text: str | None) -> Utterance:
    return Utterance(0, "a", 0, 0, None, None if text is None else Transcript(text, "client"))


def test_words_are_lower_case_letters_without_accents() -> None:
    assert words_of("Isn't it 3 o'clock, Zoë?! CAFÉ") == [
        "isn", "t", "it", "o", "clock", "zoe", "cafe",
    ]  # fmt: skip
    assert words_of("gęś źle") == ["ges", "zle"]
    assert words_of("snake_case 42 ...") == ["snake", "case"]


def test_the_vocabulary_is_of_words_seen_more_than_once() -> None:
    texts = ["Yes, yes!", "no yes", "No way", "once"]
    assert build_vocabulary(texts) == ("yes", "no")
    assert build_vocabulary(texts, least=1) == ("yes", "no", "once", "way")


def test_ids_and_their_vectors() -> None:
    encoder = words()
    ids = encoder.front(said("Yes, NO whatever"))
    assert ids is not None
    assert ids.tolist() == [FIRST + 2, FIRST, UNKNOWN]
    ((vectors, state),) = encoder.encode([(None, said("Yes, NO whatever"))])
    assert state is None
    np.testing.assert_array_equal(vectors, encoder.embedding.weight.detach().numpy()[ids])


def test_one_word_is_padded_to_two_and_none_is_absent() -> None:
    encoder = words()
    one = encoder.front(said("yes"))
    assert one is not None
    assert one.tolist() == [FIRST + 2, PAD]
    results = encoder.encode([(None, said(t)) for t in ("yes", "?! 12", "", None)])
    assert [vectors is None for vectors, _ in results] == [False, True, True, True]
    assert results[0][0] is not None
    np.testing.assert_array_equal(results[0][0][1], np.zeros(4))


def test_a_batch_pads_on_the_right_and_changes_nothing() -> None:
    encoder = words()
    alone = encoder.encode([(None, said("yes no"))])[0][0]
    both = encoder.encode([(None, said("yes no")), (None, said("well well no yes"))])
    np.testing.assert_array_equal(alone, both[0][0])
    fronts = torch.tensor([[4, 2, 0, 0]])
    features, steps = encoder(fronts, torch.tensor([2]))
    assert steps.tolist() == [2]
    assert not features[0, 2:].any()


def test_long_texts_are_cut() -> None:
    ids = words(longest=3).front(said("no well yes no well"))
    assert ids is not None
    assert len(ids) == 3


def test_the_table_is_trainable_but_for_padding() -> None:
    encoder = words()
    features, _ = encoder(torch.tensor([[2, 0]]), torch.tensor([2]))
    (features.sum() + features.square().sum()).backward()
    gradient = encoder.embedding.weight.grad
    assert gradient is not None
    assert gradient[2].any()
    assert not gradient[PAD].any()


def test_a_table_for_the_texts_of_a_training_split() -> None:
    encoder = Words.from_texts(["yes yes no", "no it is what it is"], width=6)
    assert encoder.vocabulary == ("is", "it", "no", "yes")
    assert encoder.config == WordsConfig(FIRST + 4, 6, longest=6)
    again = Words(encoder.config, vocabulary_asset(encoder.vocabulary))
    again.load_state_dict(encoder.state_dict())
    utterance = [(None, said("is it"))]
    np.testing.assert_array_equal(encoder.encode(utterance)[0][0], again.encode(utterance)[0][0])


def test_glove_fills_the_words_it_has(tmp_path: Path) -> None:
    file = tmp_path / "glove.txt"
    file.write_text(
        ", 9 9 9 9\nyes 0.5 -1 2e-1 0\nat name@domain.com 1 1 1 1\nno 1 2 3 4\n", encoding="utf-8"
    )
    table, found = load_glove(file, ("no", "at", "yes"), width=4)
    assert found == 2
    assert table.shape == (FIRST + 3, 4)
    assert not table[PAD].any()
    np.testing.assert_allclose(table[FIRST], [1, 2, 3, 4])
    np.testing.assert_allclose(table[FIRST + 2], [0.5, -1, 0.2, 0])
    for row in (UNKNOWN, FIRST + 1):
        assert len(set(table[row])) == 4  # one number a dimension
        assert (abs(table[row]) <= 0.25).all()
    encoder = words()
    assert encoder.load_glove(file) == 2
    np.testing.assert_allclose(encoder.embedding.weight[FIRST].tolist(), [1, 2, 3, 4])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("yes 1 2 3 4\nno 1 2 3\n", "line 2: a word and 4 numbers are expected"),
        ("yes 1 2 3 4 5\n", "line 1: a word and 4 numbers are expected"),
        ("3 4\nyes 1 2 3 4\n", "line 1: a word and 4 numbers"),
        ("it 1 2 3 4\nyes 1 2 x 4\n", "line 2: could not convert"),
        ("it 1 2 3 4\nyes 1 2 nan 4\n", "line 2: a number is not finite"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "glove.txt"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=f"glove.txt, {message}"):
        load_glove(file, WORDS, width=4)


@pytest.mark.parametrize(
    ("assets", "message"),
    [
        ({}, "needs the asset vocabulary.json"),
        ({"vocabulary.json": b"{"}, "no JSON"),
        ({"vocabulary.json": b"[1, 2, 3]"}, "no list of words"),
        ({"vocabulary.json": b'["a", "a", "b"]'}, "a word twice"),
        ({"vocabulary.json": b'["a", "b"]'}, "has 2 words; a table of 5 rows is for 3"),
    ],
)
def test_a_vocabulary_that_does_not_fit(assets: dict[str, bytes], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Words(WordsConfig(FIRST + 3, 4), assets)


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"vocabulary": 1}, "vocabulary"), ({"vocabulary": 9, "width": 0}, "width"),
     ({"vocabulary": 9, "longest": 1}, "longest")],
)  # fmt: skip
def test_settings_that_make_no_sense(settings: dict[str, int], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        WordsConfig(**settings)
