"""The lexical step: tokenizer, losses, folds, and that a fit learns and can be repeated."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from emotrace_models.encoders.compact_lexical import CompactLexicalConfig
from emotrace_models.encoders.prototypes import EMOTIONS, class_prototypes
from emotrace_models.types import Transcript, Utterance
from emotrace_training import lexical
from emotrace_training.dialogues import Line, TextDialogue
from emotrace_training.lexical import load_tower, samples_of
from emotrace_training.lexical_fitting import (
    LexicalRecipe,
    LexicalSample,
    embed,
    fit,
    train_tokenizer,
)
from emotrace_training.losses import contrastive
from emotrace_training.text_corpora import read_dialogues

TEXTS = {
    "anger": ("get out of here", "you idiot", "I hate you", "shut up"),
    "happiness": ("what a wonderful day", "I love it", "so glad", "great news"),
}
SAMPLES = [
    LexicalSample(text, EMOTIONS.index(emotion), corpus)
    for emotion, texts in TEXTS.items()
    for text in texts
    for corpus in ("one", "two")
]
CONFIG = CompactLexicalConfig(vocabulary=320, width=16, heads=2, tokens=12)
# Without subword dropout, which takes no seed, so that the result is the same each time.
RECIPE = LexicalRecipe(
    epochs=25, batch=8, rate=1e-2, subword_dropout=0.0, weights={"one": 1.0, "two": 0.5}
)


@pytest.fixture(scope="module")
def tokenizer() -> bytes:
    return train_tokenizer([sample.text for sample in SAMPLES] * 3, 320)


def test_the_tokenizer_ignores_case_and_typographic_marks(tokenizer: bytes) -> None:
    model = fit(SAMPLES, tokenizer, LexicalRecipe(epochs=1, batch=8), 0, CONFIG)
    assert model.tokenize("Don\u2019t  SHUT\u2026") == model.tokenize("don't shut...")
    assert model.tokenize("e\u0301t") == model.tokenize("\u00e9t")
    assert model.tokenize("don't") != model.tokenize("dont")


def test_a_fit_learns(tokenizer: bytes) -> None:
    steps: list[tuple[int, int]] = []
    first = fit(SAMPLES, tokenizer, RECIPE, 0, CONFIG, lambda *at: steps.append(at))
    texts = [sample.text for sample in SAMPLES]
    guesses = (embed(first, texts) @ class_prototypes(16).numpy().T).argmax(axis=1)
    assert (guesses == [sample.emotion for sample in SAMPLES]).mean() > 0.9
    assert steps[0] == (1, 50)
    assert steps[-1] == (50, 50)


def test_the_same_seed_gives_the_same_tower(tokenizer: bytes) -> None:
    recipe = replace(RECIPE, epochs=3)
    texts = [sample.text for sample in SAMPLES]
    first, again, other = (
        embed(fit(SAMPLES, tokenizer, recipe, seed, CONFIG), texts) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3


def test_embed_is_encode(tokenizer: bytes) -> None:
    model = fit(SAMPLES, tokenizer, LexicalRecipe(epochs=1, batch=8), 0, CONFIG)
    texts = ["great news", "", "you idiot, get out of here"]
    vectors = embed(model, texts)
    assert not vectors[1].any()
    said = Utterance(0, "a", 0, 0, None, Transcript(texts[2], "client"))
    ((alone, _),) = model.encode([(None, said)])
    assert alone is not None
    np.testing.assert_allclose(vectors[2], alone, atol=1e-5)


def test_contrastive_prefers_like_beside_like() -> None:
    labels = torch.tensor([0, 0, 1, 1])
    together = torch.eye(4)[[0, 0, 1, 1]]
    apart = torch.eye(4)[[0, 1, 0, 1]]
    assert contrastive(together, labels, 0.1) < contrastive(apart, labels, 0.1)
    assert contrastive(together, torch.arange(4), 0.1) == 0
    # Two like items only: the share of the one other is 1, whatever their distance.
    assert contrastive(torch.eye(2), torch.tensor([0, 0]), 0.1) == pytest.approx(0, abs=1e-6)


def test_lines_without_words_or_prototype_are_left_out() -> None:
    lines = (Line("A", " ", "anger"), Line("A", "Hm", "other"), Line("A", "So calm", "calm"))
    found = samples_of([TextDialogue("d", "c", "d", lines)])
    assert found == [LexicalSample("So calm", EMOTIONS.index("neutral"), "c")]


def test_the_step(runs, invoke) -> None:
    dialogues = read_dialogues(runs.text, "train")
    count = sum(len(d.lines) for d in dialogues)
    with np.load(runs.lexical / lexical.VECTORS) as table:
        keys = list(zip(table["dialogue"].tolist(), table["line"].tolist(), strict=True))
        vectors = table["vectors"]
    assert keys == [(d.id, i) for d in dialogues for i in range(len(d.lines))]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    # No line's vector comes from the tower that was fitted to all lines.
    shipped = embed(load_tower(runs.lexical), [line.text for d in dialogues for line in d.lines])
    assert (np.abs(vectors - shipped).max(axis=1) > 1e-4).all()
    report = json.loads((runs.lexical / lexical.REPORT).read_text())
    assert list(report) == ["meld_dev"], "test is only for the end"
    assert count == len(keys)


def test_a_finished_step_is_not_done_again(runs, invoke, tmp_path: Path) -> None:
    before = (runs.lexical / "tower.safetensors").stat().st_mtime_ns
    arguments = ("--text", runs.text, "--out", runs.lexical, "--smoke", "--folds", 2)
    invoke(lexical.command, *arguments, "--vocabulary", 320, "--test")
    assert (runs.lexical / "tower.safetensors").stat().st_mtime_ns == before
    report = json.loads((runs.lexical / lexical.REPORT).read_text())
    assert set(report) == {"meld_dev", "meld_test"}
    assert set(report["meld_test"]) == {"common4", "ekman7"}
