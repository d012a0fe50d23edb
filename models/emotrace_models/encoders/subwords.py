"""Texts as subwords: what the lexical encoders share in front of their networks."""

from __future__ import annotations

from collections.abc import Mapping

from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE

from emotrace_models.types import Utterance

TOKENIZER = "tokenizer.json"
CHARACTERS = 2_000  # bounds the tokenizer's work for any input
PAD = 1  # RoBERTa's
MARKS = 2  # of begin and end, around a text of RoBERTa's


def readable(text: str) -> str:
    """The text without what no tokenizer takes (a lone surrogate, which JSON can carry); empty
    where there is nothing to read."""
    clean = text[:CHARACTERS].encode("utf-8", "replace").decode("utf-8")
    return clean if clean.strip() else ""


def primary_language(tag: str) -> str:
    """The primary subtag of a tag of BCP 47 in lower case: `en` of `en-GB` and of `EN_us`."""
    return tag.strip().replace("_", "-").partition("-")[0].lower()


def words_said(utterance: Utterance) -> str:
    """What an utterance's transcript says; empty where there is none."""
    return "" if utterance.transcript is None else readable(utterance.transcript.text)


def tokenizer_of(
    assets: Mapping[str, bytes], owner: str, vocabulary: int, besides: int = 0
) -> Tokenizer:
    """The TOKENIZER of the encoder `owner`, whose vocabulary holds all its subwords and `besides`
    more. Raises ValueError."""
    if TOKENIZER not in assets:
        raise ValueError(f"{owner} needs the asset {TOKENIZER}; export the bundle again")
    try:
        tokenizer = Tokenizer.from_str(assets[TOKENIZER].decode("utf-8"))
    except Exception as error:  # the library raises bare Exception for a bad file
        raise ValueError(f"{TOKENIZER} is no tokenizer: {error}") from error
    if tokenizer.get_vocab_size() + besides > vocabulary:
        raise ValueError(
            f"{TOKENIZER} has {tokenizer.get_vocab_size() + besides} subwords, padding included, "
            f"more than the vocabulary of {vocabulary}"
        )
    return tokenizer


def roberta_tokenizer(
    assets: Mapping[str, bytes], owner: str, vocabulary: int, tokens: int
) -> Tokenizer:
    """One of RoBERTa's scheme, which cuts texts to `tokens`, marks counted. Raises ValueError."""
    tokenizer = tokenizer_of(assets, owner, vocabulary)
    if tokenizer.token_to_id("<pad>") not in (PAD, None):
        raise ValueError(f"{TOKENIZER}: <pad> must be token {PAD}, as in RoBERTa")
    if len(tokenizer.encode("").ids) != MARKS:
        raise ValueError(f"{TOKENIZER} must put <s> and </s> around a text, as RoBERTa's does")
    tokenizer.no_padding()
    tokenizer.enable_truncation(tokens)
    return tokenizer


def byte_tokenizer() -> Tokenizer:
    """RoBERTa's scheme without a single merge: a token a byte, <s> and </s> around a text."""
    special = {"<s>": 0, "<pad>": PAD, "</s>": 2, "<unk>": 3}
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = special | {letter: 4 + i for i, letter in enumerate(letters)}
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False
    )
    return tokenizer
