"""`bundle`: the bundle that comes out of the steps, and its card."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from emotrace_models.bundle import CONFIG, Bundle
from emotrace_models.predictor import Predictor
from emotrace_models.types import Modality, Transcript, Utterance
from emotrace_training import bundle_step
from emotrace_training.card import Figures, write_card


def test_the_bundle_predicts(runs) -> None:
    bundle = Bundle.load(runs.bundle)
    assert bundle.name == "smoke"
    assert bundle.labels.names == ("anger", "happiness", "neutral", "sadness")
    assert set(bundle.calibration.temperatures) == {"acoustic", "acoustic+lexical", "lexical"}
    predictor = Predictor(bundle)
    assert predictor.modalities == (Modality.ACOUSTIC, Modality.LEXICAL)
    sound = np.random.default_rng(0).standard_normal(8_000).astype(np.float32) * 0.1
    said = Utterance(0, "a", 0, 8_000, sound, Transcript("help", "client"))
    ((_, outcome),) = predictor.predict([(predictor.start(), said)])
    assert outcome.prediction.posterior.sum() == pytest.approx(1)


def test_the_same_files_give_the_same_bundle(runs, invoke, tmp_path: Path) -> None:
    folders = ("--acoustic", runs.acoustic, "--lexical", runs.lexical, "--fusion", runs.fusion)
    invoke(bundle_step.command, *folders, "--out", tmp_path / "again", "--name", "smoke")
    for file in runs.bundle.iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()


def test_each_seed_has_its_own_model(runs, invoke, tmp_path: Path) -> None:
    folders = ("--acoustic", runs.acoustic, "--lexical", runs.lexical, "--fusion", runs.fusion)
    invoke(bundle_step.command, *folders, "--seed", 1, "--out", tmp_path / "other")
    one, other = Bundle.load(runs.bundle).fusion, Bundle.load(tmp_path / "other").fusion
    assert any(
        not np.array_equal(a.detach().numpy(), b.detach().numpy())
        for a, b in zip(one.parameters(), other.parameters(), strict=True)
    )


def test_a_bundle_that_is_too_large_is_refused(
    runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_step, "LIMIT", 1_000)
    with pytest.raises(bundle_step.BundleTooLarge, match="more than 1000"):
        bundle_step.command(
            runs.acoustic, runs.lexical, runs.fusion, 0, tmp_path / "b", "smoke", "1", None, None
        )


def test_the_card_says_what_it_must(runs) -> None:
    card = Bundle.load(runs.bundle).card
    for words in (
        "CC-BY-NC-SA-4.0", "Acted speech", "Composed dialogues", "must not be used",
        "*express*", "RAVDESS", "nEMO", "DailyDialog", "2024/1689", "Not evaluated.",
    ):  # fmt: skip
        assert words in card
    assert str(runs.bundle.parent) not in (runs.bundle / CONFIG).read_text() + card


def test_the_card_shows_the_figures_it_is_given(runs, tmp_path: Path) -> None:
    clips = {
        "split": "test", "counts": {"used": 7}, "uar": 0.5, "accuracy": 0.625,
        "f1_weighted": 0.75, "ece": 0.125,
    }  # fmt: skip
    scores = {"uar": 0.7, "accuracy": 0.8, "f1_weighted": 0.9}
    dialogues = {
        "turns": 11, "seeds": [0, 1], "mean": {"gated": scores},
        "sd": {"gated": dict.fromkeys(scores, 0.01)},
        "calibration": {"before": 0.2, "after": 0.1},
        "faithfulness": {"most_contributing": 0.3, "random": 0.05},
    }  # fmt: skip
    (tmp_path / "emodb.json").write_text(json.dumps(clips))
    (tmp_path / "dialogues.json").write_text(json.dumps(dialogues))
    figures = Figures.read([tmp_path / "emodb.json"], tmp_path / "dialogues.json")
    bundle = Bundle.load(runs.bundle)
    card = write_card("x", "1", [*bundle.encoders, bundle.fusion], figures)
    assert "| emodb | test | 7 | 0.500 | 0.625 | 0.750 | 0.125 |" in card
    assert "| gated | 0.700 ± 0.010 | 0.800 ± 0.010 | 0.900 ± 0.010 |" in card
    assert "0.300 (total variation)" in card
    assert "Not evaluated" not in card
