"""`bundle`: the bundle that comes out of the steps, and its card."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from emotrace_models.bundle import CONFIG, Bundle
from emotrace_models.predictor import Predictor
from emotrace_models.types import Modality, Transcript, Utterance
from emotrace_training import bundle_step


def folders_of(runs) -> tuple[object, ...]:
    towers = ("--acoustic", runs.acoustic, "--lexical", runs.lexical, "--face", runs.face)
    return (*towers, "--fusion", runs.fusion)


def test_the_bundle_predicts(runs) -> None:
    bundle = Bundle.load(runs.bundle)
    assert bundle.name == "smoke"
    assert bundle.schemes == ("ekman7", "common4")
    assert len(bundle.calibration.temperatures) == 7
    predictor = Predictor(bundle)
    assert predictor.modalities == (Modality.ACOUSTIC, Modality.LEXICAL, Modality.FACIAL)
    sound = np.random.default_rng(0).standard_normal(8_000).astype(np.float32) * 0.1
    said = Utterance(0, "a", 0, 8_000, sound, Transcript("help", "client"))
    ((_, outcome),) = predictor.predict([(predictor.start(), said)])
    assert outcome.prediction.posterior.sum() == pytest.approx(1)


def test_the_same_files_give_the_same_bundle(runs, invoke, tmp_path: Path) -> None:
    folders = folders_of(runs)
    invoke(bundle_step.command, *folders, "--out", tmp_path / "again", "--name", "smoke")
    for file in runs.bundle.iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()


def test_each_seed_has_its_own_model(runs, invoke, tmp_path: Path) -> None:
    folders = folders_of(runs)
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
            runs.acoustic, runs.lexical, runs.face, runs.fusion, 0, tmp_path / "b", "smoke", "2",
            "default",
        )  # fmt: skip


def test_the_card_says_what_it_must(runs) -> None:
    card = Bundle.load(runs.bundle).card
    assert "Not evaluated." in card
    assert str(runs.bundle.parent) not in (runs.bundle / CONFIG).read_text() + card


def test_data_that_no_card_knows_are_refused(runs, invoke) -> None:
    invoke(bundle_step.command, *folders_of(runs), "--made-of", "freely", code=2)
