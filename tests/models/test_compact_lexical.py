"""The compact lexical tower: padding, batches, absent and hostile text, size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from emotrace_models import registry
from emotrace_models.encoders.compact_lexical import CompactLexical, CompactLexicalConfig
from emotrace_models.encoders.lexical_tower import PAD, LexicalTower, padded
from emotrace_models.encoders.prototypes import class_prototypes
from emotrace_models.encoders.subwords import CHARACTERS, TOKENIZER
from emotrace_models.types import Transcript, Utterance

WORDS = ["I am so happy for you", "leave me alone", "it's all my fault", "what?"]


def tokenizer_json(size: int = 300) -> bytes:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(WORDS, trainer)
    return tokenizer.to_str().encode()


@pytest.fixture(scope="module")
def encoder() -> CompactLexical:
    torch.manual_seed(0)
    config = CompactLexicalConfig(vocabulary=320, tokens=12)
    return CompactLexical(config, {TOKENIZER: tokenizer_json()}).eval()


def said(text: str | None, language: str | None = None) -> tuple[None, Utterance]:
    transcript = None if text is None else Transcript(text, "client", language)
    return None, Utterance(0, "a", 0, 0, None, transcript)


def test_gives_unit_vectors(encoder: CompactLexical) -> None:
    for vector, state in encoder.encode([said(text) for text in WORDS]):
        assert vector is not None
        assert vector.shape == (128,)
        assert vector.dtype == np.float32
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
        assert state is None


@settings(deadline=None, max_examples=40)
@given(texts=st.lists(st.text(max_size=60), min_size=1, max_size=5))
def test_alone_is_as_in_a_batch(encoder: CompactLexical, texts: list[str]) -> None:
    batch = encoder.encode([said(text) for text in texts])
    for text, (vector, _) in zip(texts, batch, strict=True):
        ((alone, _),) = encoder.encode([said(text)])
        assert (alone is None) == (vector is None) == (not text.strip())
        if alone is not None and vector is not None:
            np.testing.assert_allclose(vector, alone, atol=1e-5)


def test_padding_changes_nothing(encoder: CompactLexical) -> None:
    ids = padded([encoder.tokenize(WORDS[0])])
    longer = torch.nn.functional.pad(ids, (0, 9), value=PAD)
    with torch.inference_mode():
        torch.testing.assert_close(encoder(longer), encoder(ids), atol=1e-5, rtol=0)


def test_vectors_lie_in_the_frame_of_the_prototypes(encoder: CompactLexical) -> None:
    ((vector, _),) = encoder.encode([said(WORDS[0])])
    frame = class_prototypes(128).numpy()
    assert vector is not None
    np.testing.assert_allclose(vector @ frame.T @ frame, vector, atol=1e-5)
    with torch.inference_mode():
        raw = encoder(padded([encoder.tokenize(WORDS[0])])).numpy()[0]
    assert (raw @ frame.T).argmax() == (vector @ frame.T).argmax(), "the nearest one stays"
    assert np.abs(raw - vector).max() > 1e-2


def test_words_matter(encoder: CompactLexical) -> None:
    first, second = (encoder.encode([said(text)])[0][0] for text in WORDS[:2])
    assert first is not None
    assert second is not None
    assert np.abs(first - second).max() > 1e-3


@pytest.mark.parametrize("text", [None, "", "  \n\t", "\u3000"])
def test_nothing_to_read_gives_none(encoder: CompactLexical, text: str | None) -> None:
    assert encoder.encode([said(text)]) == [(None, None)]


def test_an_absent_text_beside_others(encoder: CompactLexical) -> None:
    vectors = [vector for vector, _ in encoder.encode([said(None), said("what?"), said("")])]
    assert [vector is None for vector in vectors] == [True, False, True]


@pytest.mark.parametrize("text", ["\ud800", "\x00\x00", "x" * 1_000_000, "<pad>", "😀" * 50])
def test_takes_any_string(encoder: CompactLexical, text: str) -> None:
    ((vector, _),) = encoder.encode([said(text)])
    assert vector is not None
    assert np.isfinite(vector).all()


def test_reads_a_stated_number_of_subwords(encoder: CompactLexical) -> None:
    assert len(encoder.tokenize("alone " * CHARACTERS)) == encoder.config.tokens
    start = WORDS[0] + " " + WORDS[1] + " " + WORDS[2]
    (a, _), (b, _) = encoder.encode([said(start + " yes" * 20), said(start + " no" * 30)])
    assert a is not None
    assert b is not None
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_no_text_spells_padding(encoder: CompactLexical) -> None:
    assert PAD not in encoder.tokenize("".join(map(chr, range(1, 600))))


@pytest.mark.parametrize(
    ("language", "read"),
    [("en", True), ("en-GB", True), ("EN_us", True), ("und", True), (None, True), ("de", False),
     ("pl-PL", False), ("eng-fake", False)],
)  # fmt: skip
def test_reads_the_languages_it_was_trained_on(
    encoder: CompactLexical, language: str | None, read: bool
) -> None:
    ((vector, state),) = encoder.encode([said(WORDS[0], language)])
    assert (vector is not None) == read
    assert state is None


def test_a_language_among_several(encoder: CompactLexical) -> None:
    config = CompactLexicalConfig(vocabulary=320, tokens=12, languages=("en", "de"))
    both = CompactLexical(config, {TOKENIZER: tokenizer_json()}).eval()
    items = [said("lass mich", "de"), said("laisse-moi", "fr"), said("leave me", "en")]
    assert [vector is None for vector, _ in both.encode(items)] == [False, True, False]
    assert [vector is None for vector, _ in encoder.encode(items)] == [True, True, False]


def test_words_of_an_unstated_language_that_its_subwords_do_not_know() -> None:
    config = CompactLexicalConfig(vocabulary=400, tokens=12, cut=0.35)
    encoder = CompactLexical(config, {TOKENIZER: tokenizer_json(390)}).eval()
    foreign = "Der Lappen liegt auf dem Eisschrank"
    items = [said(WORDS[0]), said(foreign), said("Eisschrank"), said(foreign, "en"), said("Aha")]
    assert [vector is None for vector, _ in encoder.encode(items)] == [
        False,
        True,
        False,
        False,
        False,
    ]
    assert encoder.encode([said("私はとても嬉しいですありがとう")]) == [(None, None)]


def test_members_are_averaged() -> None:
    torch.manual_seed(0)
    config = CompactLexicalConfig(vocabulary=320, tokens=12, members=2)
    both = CompactLexical(config, {TOKENIZER: tokenizer_json()}).eval()
    ids = padded([both.tokenize(text) for text in WORDS])
    with torch.inference_mode():
        one, two = (torch.nn.functional.normalize(m(ids), dim=-1) for m in both.members)
        wanted = torch.nn.functional.normalize(one + two, dim=-1)
        torch.testing.assert_close(both(ids), wanted)
    assert (one - two).abs().max() > 1e-2


def test_languages_come_as_a_list_from_json() -> None:
    config = registry.configured("encoder", "compact_lexical", {"languages": ["en", "de"]})
    assert config == CompactLexicalConfig(languages=("en", "de"))


def wide(width: int = 16) -> LexicalTower:
    torch.manual_seed(0)
    config = CompactLexicalConfig(
        vocabulary=320, width=width, heads=2, tokens=12, convolutions=1, transformer=False, pairs=64
    )
    model = LexicalTower(config.tower()).eval()
    assert model.linear is not None
    for table in (model.linear.singles, model.linear.pairs):
        torch.nn.init.normal_(table.weight)
    return model


def test_the_linear_part_counts_subwords_and_their_pairs() -> None:
    model = wide()
    assert model.linear is not None
    ids = torch.tensor([[5, 7, 9, PAD], [9, 7, 5, PAD], [5, PAD, PAD, PAD]])
    with torch.inference_mode():
        forth, back, one = model.linear(ids) @ class_prototypes(16).T
        singles, pairs = model.linear.singles.weight, model.linear.pairs.weight
    assert (forth - back).abs().max() > 1e-3, "order matters, through the pairs"
    hashed = [1 + (a * 104_729 + b * 7_919) % 63 for a, b in ((5, 7), (7, 9))]
    wanted = (singles[[5, 7, 9]].sum(0) + pairs[hashed].sum(0)) / 3**0.5
    torch.testing.assert_close(forth, wanted)
    torch.testing.assert_close(one, singles[5])


def test_padding_changes_nothing_in_the_linear_part() -> None:
    model = wide()
    ids = torch.tensor([[5, 7, 9]])
    with torch.inference_mode():
        longer = model(torch.nn.functional.pad(ids, (0, 4), value=PAD))
        torch.testing.assert_close(longer, model(ids), atol=1e-6, rtol=0)
        assert model(torch.tensor([[5]])).shape == (1, 16), "a text of one subword has no pair"


def test_size_and_registration() -> None:
    assert registry.lookup("encoder", "compact_lexical") is CompactLexical
    model = CompactLexical(CompactLexicalConfig(), {TOKENIZER: tokenizer_json()})
    assert sum(p.numel() for p in model.parameters()) == 1_379_201


def test_refuses_what_it_cannot_use() -> None:
    config = CompactLexicalConfig(vocabulary=320)
    with pytest.raises(ValueError, match=r"needs the asset tokenizer\.json"):
        CompactLexical(config)
    with pytest.raises(ValueError, match="no tokenizer"):
        CompactLexical(config, {TOKENIZER: b"{}"})
    with pytest.raises(ValueError, match="more than the vocabulary of 100"):
        CompactLexical(CompactLexicalConfig(vocabulary=100), {TOKENIZER: tokenizer_json()})
    with pytest.raises(ValueError, match="no multiple of 8"):
        CompactLexicalConfig(width=130)
    with pytest.raises(ValueError, match="no multiple of heads"):
        CompactLexicalConfig(width=128, heads=5)
    with pytest.raises(ValueError, match="must be odd"):
        CompactLexicalConfig(kernel=2)
    with pytest.raises(ValueError, match="must be positive"):
        CompactLexicalConfig(tokens=0)
    with pytest.raises(ValueError, match="pairs 0 or more than 1"):
        CompactLexicalConfig(pairs=1)
    with pytest.raises(ValueError, match="cut is a share"):
        CompactLexicalConfig(cut=1.2)
    with pytest.raises(ValueError, match="at least one"):
        CompactLexicalConfig(languages=())
