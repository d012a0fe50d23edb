"""Figures of a run: by their formulas, pooled over folds, on a page that loads nothing."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from accelerate import Accelerator
from toy_corpus import Toy, gated_recipe, toy_corpus

from emotrace_models.decoding import DecoderConfig, decode_dialogue, estimate_p0, log_softmax
from emotrace_training import compare, evaluate
from emotrace_training.fit import fit_variant
from emotrace_training.manifests import write_manifest
from emotrace_training.metrics import accuracy, confusion, f1_weighted, uar
from emotrace_training.recipe import RecipeError, read_recipe
from emotrace_training.run_folder import RunUnusable, read_run
from emotrace_training.scoring import METRICS, decoded, read_predictions, score

SPLIT = '{ kind = "leave_one_out", by = "session", validation = 0.2 }'


@dataclass(frozen=True, slots=True)
class Run:
    toy: Toy
    folder: Path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Three folds, two seeds, with a decoder."""
    base = tmp_path_factory.mktemp("run")
    toy = toy_corpus(base)
    recipe = gated_recipe(base, f'file = "{toy.vectors}"', "[decoder]\nbeam = 4\n", SPLIT)
    (one,) = read_recipe(recipe, (), ["training.seeds=[3, 4]", "training.epochs=3"])
    fit_variant(
        one, toy.manifest, base / "run/main", base, None, None, Accelerator(cpu=True), False
    )
    return Run(toy, base / "run")


def test_figures_are_pooled_over_folds_and_averaged_over_seeds(run: Run) -> None:
    (variant,) = read_run(run.folder)
    report = score(variant).report
    assert report["tested"] == 48, "each turn with a class is tested once"
    found = []
    for seed in (3, 4):
        truth, guesses = [], []
        for trained in variant.trained:
            if trained.seed == seed:
                test = read_predictions(trained, "test")
                truth += test.label[test.measured].tolist()
                guesses += test.logits[test.measured].argmax(axis=1).tolist()
        found.append(confusion(truth, guesses, 4))
    row = report["rows"]["model"]
    assert row["uar"]["seeds"] == [uar(matrix) for matrix in found]
    assert row["accuracy"]["mean"] == pytest.approx(np.mean([accuracy(m) for m in found]))
    assert row["accuracy"]["sd"] == pytest.approx(np.std([accuracy(m) for m in found]))
    assert report["confusion"] == (found[0] + found[1]).tolist()
    assert set(row) == set(METRICS)
    assert not {"WA", "UA", "wa", "ua"} & set(row)
    assert report["per_class"]["model"]["anger"]["count"] == 12
    assert 0 <= report["per_class"]["model"]["anger"]["binary_f1"] <= 1
    assert sorted(report["folds"]) == ["Ses01", "Ses02", "Ses03"]


def test_the_decoder_reads_all_turns_in_order(run: Run) -> None:
    (variant,) = read_run(run.folder)
    trained = variant.find("Ses01", 3)
    training = [r for r in run.toy.records if not r.dialogue.startswith("Ses01")]
    report = trained.report()
    # The turns of the validation part are left out of the training dialogues: p0 differs a little.
    dialogues: dict[str, list[tuple[str, str]]] = {}
    for record in training:
        dialogues.setdefault(record.dialogue, []).append((record.speaker, record.emotion))
    assert report["p0"] == pytest.approx(estimate_p0(dialogues.values()), abs=0.2)
    test = read_predictions(trained, "test")
    assert len(test.label) == 20
    assert (~test.measured).sum() == 4, "turns without a class are decoded, not measured"
    config = DecoderConfig(p0=report["p0"], beam=4, lag=None)
    found = decoded(test, config, 1)
    first = test.dialogue == test.dialogue[0]
    expected = decode_dialogue(
        test.speaker[first].tolist(), log_softmax(test.logits[first]), config
    ).labels
    assert found[first].tolist() == list(expected)
    assert "model + decoder" in score(variant).report["rows"]


class Page(HTMLParser):
    """What a page refers to, and whether its tables and pictures can be read aloud."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.pictures: list[dict[str, str | None]] = []
        self.counts: dict[str, int] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.counts[tag] = self.counts.get(tag, 0) + 1
        self.loads += [v for k in ("src", "href") if (v := values.get(k)) is not None]
        if tag == "img":
            self.pictures.append(values)


def test_the_page_stands_alone_and_can_be_read_aloud(run: Run, invoke) -> None:
    said = invoke(evaluate.command, run.folder)
    assert "model + decoder" in re.sub(r"\s+", " ", said)
    out = run.folder / "evaluation"
    text = (out / "report.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert len(page.pictures) == 3
    assert all(source.startswith("data:image/png;base64,") for source in page.loads)
    assert all(picture["alt"] for picture in page.pictures)
    assert page.counts["table"] == page.counts["caption"] == page.counts["thead"]
    assert "color-scheme: light dark" in text
    assert "<html lang='en'>" in text
    assert "not a corpus" in text
    for plot in evaluate.PLOTS:
        assert (out / f"main-{plot}.png").read_bytes().startswith(b"\x89PNG")
    report = json.loads((out / "report.json").read_text())
    assert report["main"]["calibration"]["after"]["expected_calibration_error"] >= 0
    assert json.loads(invoke(evaluate.command, run.folder, "--json")) == report


def test_an_unfinished_fold_is_told(run: Run, invoke, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(run.folder, tmp_path / "run")
    (tmp_path / "run/main/Ses02/seed-4/report.json").unlink()
    (variant,) = read_run(tmp_path / "run")
    assert score(variant).report["missing"] == ["Ses02 seed 4"]
    (tmp_path / "run/main/Ses03/seed-3/predictions.npz").write_bytes(b"damaged")
    assert "predictions.npz" in invoke(evaluate.command, tmp_path / "run", code=1)


def test_no_run_is_a_named_error(tmp_path: Path, invoke) -> None:
    with pytest.raises(RunUnusable, match="no finished model here"):
        read_run(tmp_path)
    assert "emotrace-train fit RECIPE" in invoke(evaluate.command, tmp_path, code=1).replace(
        "\n", " "
    )


def test_ours_stands_beside_theirs_with_protocol_and_traps(run: Run, invoke) -> None:
    model, with_decoder = compare.rows_of(run.folder)
    assert model.published == {}
    assert with_decoder.published == {"uar": 0.5}, "the published system has the decoder"
    assert with_decoder.split == "leave one session out"
    assert (with_decoder.protocol, with_decoder.traps) == ("made up", ("not a corpus",))
    assert (with_decoder.seeds, with_decoder.tested) == (2, 48)
    lines = invoke(compare.command, run.folder, "--markdown").splitlines()
    assert len(lines) == 4
    assert "uar 0.5000" in lines[3]
    assert "not a corpus" in lines[3]
    found = json.loads(invoke(compare.command, run.folder, "--json"))
    assert found[1]["ours"]["uar"] == list(with_decoder.ours["uar"])
    assert "published" in invoke(compare.command, run.folder)


@pytest.mark.parametrize(
    ("split", "words"),
    [
        ({"kind": "own"}, "the corpus's own split"),
        ({"kind": "random", "ratio": [80, 0, 20], "by": "utterance", "seed": 1},
         "random 80:0:20 by utterance, seed 1"),
        ({"kind": "leave_one_out", "by": "speaker", "folds": 5},
         "leave one speaker out in 5 folds"),
        ({"kind": "dialogues"}, "listed dialogues"),
    ],
)  # fmt: skip
def test_splits_in_words(split: dict[str, object], words: str) -> None:
    assert compare.described(split) == words


def test_each_class_by_itself(tmp_path: Path, invoke) -> None:
    toy = toy_corpus(tmp_path)
    records = [
        replace(r, scores={r.emotion: 2.0, "happiness": 0.5, "sadness": 0.0})
        if r.emotion == "anger"
        else r
        for r in toy.records
    ]
    write_manifest(tmp_path / "several.jsonl", records)
    recipe = gated_recipe(tmp_path, f'file = "{toy.vectors}"')
    (one,) = read_recipe(recipe, (), ["training.loss=binary", "training.epochs=6"])
    fit_variant(
        one, tmp_path / "several.jsonl", tmp_path / "run/main", tmp_path, None, None,
        Accelerator(cpu=True), False,
    )  # fmt: skip
    (variant,) = read_run(tmp_path / "run")
    test = read_predictions(variant.trained[0], "test")
    assert test.presence is not None
    angry = test.label == 0
    assert test.presence[angry].tolist() == [[1, 1, 0, 0]] * angry.sum()
    assert (test.presence[~angry].sum(axis=1) == 1).all()
    found = score(variant).report["each_class"]
    guessed = test.logits > 0
    assert found["anger"]["binary_acc"] == pytest.approx((guessed[:, 0] == angry).mean())
    matrix = confusion(angry.astype(int), guessed[:, 0].astype(int), 2)
    assert found["anger"]["binary_f1"] == pytest.approx(f1_weighted(matrix))
    history = variant.trained[0].report()["history"]
    assert history[-1]["valid"]["loss"] < history[0]["valid"]["loss"]
    assert "there or not" in (
        invoke(evaluate.command, tmp_path / "run")
        and (tmp_path / "run/evaluation/report.html").read_text()
    )
    with pytest.raises(RecipeError, match="goes without class_weights"):
        read_recipe(recipe, (), ["training.loss=binary", "training.class_weights=balanced"])
