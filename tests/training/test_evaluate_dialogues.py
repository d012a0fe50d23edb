"""`evaluate-dialogues`: the live path turn by turn, the ablation rows, and faithfulness."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from emotrace_models.bundle import Bundle
from emotrace_models.predictor import NothingToHear, Predictor
from emotrace_training import evaluate_dialogues
from emotrace_training.compose import composed_file, read_composed
from emotrace_training.evaluate_dialogues import viewed
from emotrace_training.evaluated_dialogues import (
    noticed,
    pass_through,
    utterance,
    with_known_faces,
)
from emotrace_training.faithfulness import contributions_of, faithfulness
from emotrace_training.fusion_windows import FACES


@pytest.fixture(scope="module")
def bundle(runs) -> Bundle:
    return with_known_faces(Bundle.load(runs.bundle), runs.face / FACES)


def test_side_by_side_is_one_after_the_other(runs, bundle: Bundle) -> None:
    dialogues = read_composed(composed_file(runs.composed, "test", 0))
    predictor = Predictor(bundle)
    passed = pass_through(predictor, dialogues)
    number = 0
    for dialogue in dialogues:
        state = predictor.start()
        for index, turn in enumerate(dialogue.turns):
            said = utterance(index, turn)
            ((state, outcome),) = predictor.predict([(state, said)])
            np.testing.assert_allclose(
                outcome.prediction.posterior, passed.posterior[number], atol=1e-5
            )
            number += 1
    assert number == len(passed.part.labels)


def test_turns_of_which_there_is_nothing_are_left_out(runs, bundle: Bundle) -> None:
    first = read_composed(composed_file(runs.composed, "test", 0))[0]
    silent = replace(first.turns[0], clip=None, face=None, text=" ")
    told = replace(silent, text="I am glad to see you here today, my friend")
    mixed = replace(first, turns=(silent, told, first.turns[0]))
    (kept,) = noticed(bundle, [mixed, replace(first, turns=(silent,))])
    assert kept.turns == (told, first.turns[0])
    with pytest.raises(NothingToHear):
        pass_through(Predictor(bundle), [mixed])


def test_contributions_and_bias_are_the_logits(runs, bundle: Bundle) -> None:
    passed = pass_through(Predictor(bundle), read_composed(composed_file(runs.composed, "test", 0)))
    turns = passed.part.targets()
    contributions, logits, valid = contributions_of(bundle.fusion, passed.part, turns)
    bias = bundle.fusion.classifier.bias.detach().numpy()
    np.testing.assert_allclose(contributions.sum(axis=1) + bias, logits, atol=1e-5)
    np.testing.assert_allclose(logits, passed.logits[turns], atol=1e-5)
    assert not contributions[~valid].any()


def test_taking_away_what_matters_most_matters_more(runs, bundle: Bundle) -> None:
    """In a model whose logits hang on the current voice alone, nothing else moves them."""
    passed = pass_through(Predictor(bundle), read_composed(composed_file(runs.composed, "test", 0)))
    weight = bundle.fusion.classifier.weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight[:, bundle.fusion.config.width :] = 0
        weight[:, : bundle.fusion.config.width] *= 20
        turns = passed.part.targets()
        heard = turns[passed.part.present[turns, 0]]
        found = faithfulness(bundle, passed.part, heard, 0)
        again = faithfulness(bundle, passed.part, heard, 0)
        weight.copy_(kept)
    assert found == again
    assert found["most_contributing"] > 2 * found["random"] > 0


def test_a_view_is_what_its_own_predictor_makes_of_the_dialogues(runs, bundle: Bundle) -> None:
    dialogues = read_composed(composed_file(runs.composed, "test", 0))
    view = bundle.projected("common4")
    derived = viewed(pass_through(Predictor(bundle), dialogues), bundle, view)
    direct = pass_through(Predictor(view), dialogues)
    np.testing.assert_allclose(derived.logits, direct.logits, atol=1e-5)
    np.testing.assert_allclose(derived.posterior, direct.posterior, atol=1e-6)
    assert np.array_equal(derived.decoder, direct.decoder)


def test_the_step(runs, invoke, tmp_path: Path) -> None:
    arguments = ("--composed", runs.composed, "--bundle", runs.bundle, "--face", runs.face)
    arguments = (*arguments, "--seeds", 2, "--out", tmp_path)
    report = json.loads(invoke(evaluate_dialogues.command, *arguments, "--json"))
    assert json.loads((tmp_path / "report.json").read_text()) == report
    assert list(report["sets"]) == ["ekman7", "common4"]
    for scheme, found in report["sets"].items():
        for plot in ("reliability", "risk-coverage"):
            image = tmp_path / f"{plot}-{scheme}.png"
            assert image.read_bytes().startswith(b"\x89PNG")
        assert list(found["mean"]) == [
            "audio", "text", "face", "audio + text", "audio + face", "text + face",
            "audio + text + face", "audio + text, no context", "audio + text + decoder",
            "audio + text + face, no context", "audio + text + face + decoder",
        ]  # fmt: skip
        assert len(found["seeds"]) == 2
        for row, scores in found["mean"].items():
            values = [seed["rows"][row]["uar"] for seed in found["seeds"]]
            assert scores["uar"] == pytest.approx(np.mean(values))
            assert found["sd"][row]["uar"] == pytest.approx(np.std(values))
        assert set(found["faithfulness"]) == {"most_contributing", "random"}
        stated = found["abstention"]
        assert 0 <= stated["coverage"] <= 1
        assert found["risk"]["100%"] == pytest.approx(stated["risk of all"])
    four = report["sets"]["common4"]["mean"]["audio + text + face"]["turns"]
    assert four < report["sets"]["ekman7"]["mean"]["audio + text + face"]["turns"]
    printed = invoke(evaluate_dialogues.command, *arguments)
    assert "common4: " in printed
    assert "audio + text + decoder" in printed


def test_bundles_and_seeds_must_fit(runs, invoke, tmp_path: Path) -> None:
    arguments = ("--composed", runs.composed, "--out", tmp_path)
    two = ("--bundle", runs.bundle, "--bundle", runs.bundle)
    assert "one a seed" in invoke(evaluate_dialogues.command, *arguments, *two, code=2)
    missing = ("--bundle", tmp_path / "none")
    assert "no bundle" in invoke(evaluate_dialogues.command, *arguments, *missing, code=1)
