"""The lexical step: tokenizer, losses, folds, and that a fit learns and can be repeated."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from emotrace_models.encoders.compact_lexical import CompactLexicalConfig
from emotrace_models.encoders.prototypes import EMOTIONS, class_prototypes
from emotrace_models.labels import SCHEMES
from emotrace_models.types import Transcript, Utterance
from emotrace_training import evaluate_text, lexical
from emotrace_training.corpora.goemotions import LABELS, Comment
from emotrace_training.dialogues import Line, TextDialogue, plain
from emotrace_training.lexical import Texts, comment_samples, load_tower, samples_of
from emotrace_training.lexical_fitting import LexicalRecipe, embed, fit, train_tokenizer
from emotrace_training.lexical_sampling import (
    Alterations,
    LexicalSample,
    Sampler,
    Subwords,
    without_marks,
)
from emotrace_training.losses import contrastive
from emotrace_training.text_corpora import held_out_lines, read_comments, read_dialogues
from emotrace_training.text_scoring import Lines, biases, logits, scores

TEXTS = {
    "anger": ("get out of here", "you idiot", "I hate you", "shut up"),
    "happiness": ("what a wonderful day", "I love it", "so glad", "great news"),
}
SAMPLES = [
    LexicalSample(text, (EMOTIONS.index(emotion),), corpus)
    for emotion, texts in TEXTS.items()
    for text in texts
    for corpus in ("one", "two")
]
CONFIG = CompactLexicalConfig(
    vocabulary=320, width=16, heads=2, tokens=12, convolutions=1, transformer=False, pairs=64
)
RECIPE = LexicalRecipe(
    epochs=25, batch=8, rate=1e-2, memory=0.9, alterations=Alterations(weights={"two": 0.5})
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
    assert (guesses == [sample.emotions[0] for sample in SAMPLES]).mean() > 0.9
    assert steps[0] == (1, 50)
    assert steps[-1] == (50, 50)


def test_the_same_seed_gives_the_same_tower(tokenizer: bytes) -> None:
    """With everything that is drawn: words left out, cut, misheard, marks dropped, halves."""
    recipe = replace(RECIPE, epochs=3)
    assert min(recipe.alterations.cut, recipe.alterations.recognised, recipe.alterations.words) > 0
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
    assert found == [LexicalSample("So calm", (EMOTIONS.index("neutral"),), "c")]
    dialogue = TextDialogue("d", "c", "d", (Line("A", "Not this one!", "anger"),))
    assert samples_of([dialogue], frozenset({plain("not this one")})) == []


def test_a_comment_of_several_emotions_counts_for_each() -> None:
    comment = Comment("x", "Ha! No.", ("anger", "annoyance", "joy"))
    (sample,) = comment_samples([comment, Comment("y", "", ("joy",))])
    assert {EMOTIONS[row] for row in sample.emotions} == {"anger", "happiness"}
    assert [LABELS[row] for row in sample.fine] == ["anger", "annoyance", "joy"]
    assert sample.target[EMOTIONS.index("anger")] == 0.5
    assert sum(sample.target) == 1
    assert comment_samples([comment], frozenset({plain("ha no")})) == []


def test_subwords_are_those_of_the_tower_or_finer(tokenizer: bytes) -> None:
    model = fit(SAMPLES, tokenizer, replace(RECIPE, epochs=1), 0, CONFIG)
    subwords, generator = Subwords(model.tokenizer, CONFIG.tokens), random.Random(0)
    for text in ("What a WONDERFUL day!", "don\u2019t  shut", "\u00e9t\u00e9 \U0001f600"):
        assert subwords(text, 0.0, generator) == model.tokenize(text)
    whole = subwords("wonderful day", 0.0, generator)
    cut = [subwords("wonderful day", 1.0, generator) for _ in range(20)]
    assert any(len(ids) > len(whole) for ids in cut)
    decoded = {model.tokenizer.decode([i - 1 for i in ids]).strip() for ids in cut}
    assert decoded == {"wonderful day"}, "the same letters, in other pieces"


def test_an_epoch_sees_each_corpus_as_often_as_told(tokenizer: bytes) -> None:
    model = fit(SAMPLES, tokenizer, replace(RECIPE, epochs=1), 0, CONFIG)
    subwords = Subwords(model.tokenizer, CONFIG.tokens)
    alterations = Alterations(weights={"one": 2.5, "two": 0.5})
    sampler = Sampler(SAMPLES, subwords, alterations, 8, seed=0)
    batches = list(sampler.epoch())
    seen = [sample for batch in batches for sample in batch.samples]
    assert len(batches) == sampler.batches == 3
    assert sum(sample.corpus == "one" for sample in seen) == 20
    assert sum(sample.corpus == "two" for sample in seen) == 4
    assert min(seen.count(sample) for sample in SAMPLES if sample.corpus == "one") >= 2
    for batch in batches:
        assert batch.ids.shape[0] == len(batch.samples) == len(batch.targets)
        assert [sampler.corpora[i] for i in batch.corpora] == [s.corpus for s in batch.samples]


def test_marks_go_and_apostrophes_stay() -> None:
    assert without_marks("Well, don\u2019t! (no)").split() == ["Well", "don\u2019t", "no"]
    assert without_marks("?!") == "?!"


def test_biases_are_set_for_the_metric_and_only_help(tokenizer: bytes) -> None:
    model = fit(SAMPLES, tokenizer, replace(RECIPE, epochs=1), 0, CONFIG)
    labels = SCHEMES["common4"]
    texts = tuple(sample.text for sample in SAMPLES)
    truth = np.array([labels.index(EMOTIONS[s.emotions[0]]) for s in SAMPLES], dtype=np.int64)
    lines = Lines("goemotions", texts, truth, labels)
    found = biases(logits(model, lines), lines)
    plainly = scores(model, lines, np.zeros(4))
    assert scores(model, lines, found)["f1_macro"] >= plainly["f1_macro"]
    always = scores(model, lines, np.array([99.0, 0, 0, 0]))
    assert always["accuracy"] == np.mean(truth == 0)


def test_the_step(runs) -> None:
    dialogues = read_dialogues(runs.text, "train")
    comments = read_comments(runs.text, "train")
    shipped = load_tower(runs.lexical)
    for name, found in ((lexical.VECTORS, dialogues), (lexical.COMMENTS, comments)):
        with np.load(runs.lexical / name) as table:
            keys = list(zip(table["dialogue"].tolist(), table["line"].tolist(), strict=True))
            vectors = table["vectors"]
        assert keys == [(d.id, i) for d in found for i in range(len(d.lines))]
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        # No line's vector comes from the tower that was fitted to all lines.
        seen = embed(shipped, [line.text for d in found for line in d.lines])
        assert (np.abs(vectors - seen).max(axis=1) > 1e-4).all()
    report = json.loads((runs.lexical / lexical.REPORT).read_text())
    assert list(report) == ["dev"], "test is only for the end"
    assert set(report["dev"]) == {"meld", "goemotions"}


def test_held_out_lines_are_in_no_sample(runs) -> None:
    held_out = held_out_lines(runs.text)
    assert plain("What a wonderful day, I am so glad!") in held_out
    texts = Texts.read(runs.text, [*lexical.TextCorpus])
    assert any("wonderful" in line for line in texts.lines(1, 0)), "they keep their vectors"
    assert not any("wonderful" in sample.text for sample in texts.samples())
    half = [texts.samples(2, without=fold) for fold in (0, 1)]
    assert sorted(map(repr, half[0] + half[1])) == sorted(map(repr, texts.samples()))


def test_a_finished_step_is_not_done_again(runs, invoke) -> None:
    before = (runs.lexical / "tower.safetensors").stat().st_mtime_ns
    arguments = ("--text", runs.text, "--out", runs.lexical, "--smoke", "--folds", 2)
    invoke(lexical.command, *arguments, "--vocabulary", 320)
    assert (runs.lexical / "tower.safetensors").stat().st_mtime_ns == before


def test_a_seed_without_folds_on_some_corpora(runs, invoke, tmp_path: Path) -> None:
    arguments = ("--text", runs.text, "--smoke", "--epochs", 1, "--vocabulary", 320)
    chosen = ("--corpora", "goemotions", "--corpora", "emorynlp", "--folds", 0)
    for name in ("a", "b"):
        invoke(lexical.command, *arguments, *chosen, "--out", tmp_path / name, "--seed", 1)
    first, again = (tmp_path / name / "tower.safetensors" for name in ("a", "b"))
    assert first.read_bytes() == again.read_bytes(), "the same seed, the same weights"
    assert not (tmp_path / "a" / lexical.VECTORS).exists()
    output = invoke(lexical.command, *arguments, "--folds", 1, "--out", tmp_path / "c", code=2)
    assert "nothing to train on" in output


def test_a_fold_alone_is_that_fold(runs, invoke, tmp_path: Path) -> None:
    arguments = ("--text", runs.text, "--smoke", "--epochs", 2, "--vocabulary", 320, "--folds", 2)
    invoke(lexical.command, *arguments, "--out", tmp_path, "--fold", 1)
    assert not (tmp_path / "tower.safetensors").exists()
    with np.load(tmp_path / "fold-1.npz") as one, np.load(runs.lexical / "fold-1.npz") as other:
        np.testing.assert_array_equal(one["vectors"], other["vectors"])


def test_evaluate_text(runs, invoke, tmp_path: Path) -> None:
    towers = ("--tower", runs.lexical, "--tower", runs.lexical)
    options = ("--text", runs.text, "--split", "test", "--noise", "--manifest", runs.manifest)
    out = tmp_path / "figures.json"
    printed = json.loads(invoke(evaluate_text.command, *towers, *options, "--out", out))
    assert printed == json.loads(out.read_text())
    assert (printed["split"], printed["towers"]) == ("test", 2)
    assert list(printed["meld"]) == [
        "as written", "no case, no punctuation", "errors drawn at 10%", "errors drawn at 20%",
        "errors drawn at 30%",
    ]  # fmt: skip
    written = printed["meld"]["as written"]
    assert written["word_error_rate"] == 0
    assert written["f1_weighted"]["sd"] == 0, "twice the same tower"
    assert printed["meld"]["errors drawn at 30%"]["word_error_rate"] > 0.15
    assert printed["goemotions"]["as written"]["lines"]["mean"] == 12


def test_evaluate_text_of_a_bundle(runs, invoke) -> None:
    printed = json.loads(
        invoke(evaluate_text.command, "--bundle", runs.bundle, "--text", runs.text)
    )
    dev = json.loads((runs.lexical / lexical.REPORT).read_text())["dev"]
    assert printed["split"] == "dev"
    for corpus in ("meld", "goemotions"):
        found = printed[corpus]["as written"]["f1_macro"]["mean"]
        assert found == pytest.approx(dev[corpus]["ekman7"]["f1_macro"])
    output = invoke(evaluate_text.command, "--text", runs.text, code=2)
    assert "towers or a bundle" in output
