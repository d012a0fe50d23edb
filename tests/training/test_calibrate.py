"""`calibrate-dialogues`: rules, thresholds and decoder settings, and what they promise."""

from __future__ import annotations

import json

import numpy as np
import pytest

from emotrace_models.bundle import Bundle
from emotrace_models.calibration import Calibration
from emotrace_models.decoding import DecoderConfig, estimate_p0
from emotrace_models.labels import SCHEMES
from emotrace_models.predictor import Predictor
from emotrace_training.calibrate import (
    CALIBRATION,
    calibrated,
    fit_rule,
    fit_temperature,
    golden_section,
    halving_confidence,
    softmax,
)
from emotrace_training.calibration_samples import Sample
from emotrace_training.compose import ComposedDialogue, Turn, composed_file, read_composed
from emotrace_training.decoder_fitting import TEMPERATURES, choose_decoder, decoded
from emotrace_training.evaluated_dialogues import pass_through, with_known_faces
from emotrace_training.fusion_windows import FACES
from emotrace_training.label_views import label_views
from emotrace_training.metrics import confusion, expected_calibration_error, uar
from emotrace_training.windows import EMPTY


def sample(logits: np.ndarray, truth: np.ndarray) -> Sample:
    zeros = np.zeros(len(truth), np.int64)
    return Sample(logits.astype(np.float32), truth, np.arange(len(truth)), zeros)


def skewed(rows: int = 6_000) -> Sample:
    """Logits that are right but for a scale of 2 and a prior: class 0 is far more frequent."""
    rng = np.random.default_rng(0)
    truth = rng.choice(3, rows, p=[0.7, 0.2, 0.1])
    likelihood = np.eye(3)[truth] * 1.5 + rng.normal(0, 1.0, (rows, 3))
    return sample(2 * likelihood, truth)


def test_golden_section_finds_the_minimum() -> None:
    assert golden_section(lambda x: (x - 0.3) ** 2, -2, 2, 1e-6) == pytest.approx(0.3, abs=1e-5)


def test_a_temperature_undoes_a_scale() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1.5, (4_000, 3)).astype(np.float32)
    p = softmax(logits, 1.0)
    truth = np.array([rng.choice(3, p=row) for row in p])
    assert fit_temperature(logits, truth) == pytest.approx(1, abs=0.1)
    assert fit_temperature(3 * logits, truth) == pytest.approx(3, abs=0.3)


def test_a_temperature_alone_moves_no_label() -> None:
    given = skewed()
    rule = fit_rule(given, None)
    assert not any(rule.bias)
    posterior = rule.posterior(given.logits)
    assert np.array_equal(posterior.argmax(axis=1), given.logits.argmax(axis=1))
    assert rule.temperature == pytest.approx(fit_temperature(given.logits, given.truth), rel=0.01)


def test_balance_buys_recall_of_rare_classes_and_confidence_stays_honest() -> None:
    given = skewed()
    found = {}
    for balance in (0.0, 1.0):
        posterior = fit_rule(given, balance).posterior(given.logits)
        guesses = posterior.argmax(axis=1)
        assert expected_calibration_error(posterior, given.truth) < 0.05
        found[balance] = (
            float((guesses == given.truth).mean()), uar(confusion(given.truth, guesses, 3)),
        )  # fmt: skip
    assert found[0.0][0] > found[1.0][0] + 0.02
    assert found[1.0][1] > found[0.0][1] + 0.05


def test_each_situation_weighs_the_same_however_many_items_it_has() -> None:
    situation = np.array([0] * 10 + [1] * 30 + [2] * 2)
    zeros = np.zeros(42, np.int64)
    weight = Sample(np.zeros((42, 2), np.float32), zeros, zeros, situation).weight
    sums = np.bincount(situation, weight)
    assert weight.sum() == pytest.approx(42)
    assert sums[0] == pytest.approx(sums[1] + sums[2])
    assert sums[1] == pytest.approx(sums[2])


def test_the_threshold_halves_the_error() -> None:
    given = skewed()
    posterior = softmax(given.logits, 2.0)
    threshold = halving_confidence(posterior, given.truth)
    wrong, kept = posterior.argmax(axis=1) != given.truth, posterior.max(axis=1) >= threshold
    assert 0 < wrong[kept].mean() <= wrong.mean() / 2
    less = np.nextafter(threshold, 0) - 1e-3
    assert wrong[posterior.max(axis=1) >= less].mean() > wrong[kept].mean()


def test_a_threshold_where_no_confidence_helps() -> None:
    always = np.array([[0.9, 0.1]] * 4)
    assert halving_confidence(always, np.array([1, 1, 0, 0])) == 1


def test_the_rule_of_each_turn_is_that_of_its_modalities() -> None:
    rule = Calibration({"acoustic": 2.0, "lexical": 0.5}, biases={"lexical": (1.0, 0.0)})
    logits = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]], np.float32)
    found = calibrated(rule, logits, np.array(["acoustic", "lexical", ""]))
    expected = [0.5, 3.0, 0.5]  # difference of the scores; the last is not fitted: most doubtful
    np.testing.assert_allclose(np.log(found[:, 0] / found[:, 1]), expected)


def test_a_view_of_labels_and_logits() -> None:
    views = label_views(SCHEMES["ekman7"])
    assert list(views) == ["ekman7", "common4"]
    assert list(label_views(SCHEMES["common4"])) == ["common4"]
    four = views["common4"]
    names = SCHEMES["ekman7"].names
    truth = four.truth(np.array([names.index("anger"), names.index("fear"), EMPTY]))
    assert truth.tolist() == [four.labels.index("anger"), EMPTY, EMPTY]
    logits = np.arange(7, dtype=np.float32)[None]
    assert four.logits(logits)[0].tolist() == [names.index(name) for name in four.labels.names]
    same = four.scores(truth, np.zeros(3, np.int64))
    assert same["accuracy"] == 1


def runs_of(count: int, shift: float, noise: float) -> tuple[list[ComposedDialogue], np.ndarray]:
    """Dialogues of one speaker whose label shifts now and then, and noisy log-scores."""
    rng = np.random.default_rng(0)
    dialogues, truth = [], []
    for number in range(count):
        label, turns = int(rng.integers(2)), []
        for _ in range(12):
            label = 1 - label if rng.random() < shift else label
            truth.append(label)
            turns.append(Turn("a", "x", str(label), None))
        dialogues.append(ComposedDialogue(str(number), "toy", {"a": "b"}, tuple(turns)))
    return dialogues, np.array(truth)


def accuracy(truth: np.ndarray, found: np.ndarray) -> float:
    return float((truth == found).mean())


def test_the_decoder_is_used_where_it_gains_and_is_harmless_where_it_does_not() -> None:
    rng = np.random.default_rng(1)
    for shift, gains in ((0.05, True), (0.5, False)):
        dialogues, truth = runs_of(40, shift, 1.0)
        logits = np.eye(2)[truth] + rng.normal(0, 1.0, (len(truth), 2))
        posterior = softmax(logits.astype(np.float32), 1.0)
        config, tried = choose_decoder(dialogues, posterior, truth, shift, accuracy)
        plain = accuracy(truth, posterior.argmax(axis=1))
        after = accuracy(truth, decoded(dialogues, posterior, config))
        assert len(tried) == 10
        if gains:
            assert after > plain + 0.02
        else:
            assert config.temperature == TEMPERATURES[-1]
            assert after >= plain - 0.02


def test_calibration_of_a_seed(runs) -> None:
    sets = json.loads((runs.fusion / "seed-0" / CALIBRATION).read_text())["sets"]
    assert list(sets) == ["ekman7", "common4"]
    train = read_composed(composed_file(runs.composed, "train", 0))
    expected = estimate_p0([(t.speaker, t.label) for t in d.turns] for d in train)
    for scheme, found in sets.items():
        assert found["decoder"]["p0"] == pytest.approx(expected)
        DecoderConfig(**found["decoder"])
        assert set(found["dev"]["ece"]) == set(found["temperatures"])
        assert len(found["temperatures"]) == 7
        assert set(found["biases"]) <= {key for key in found["temperatures"] if "lexical" in key}
        assert all(len(b) == len(SCHEMES[scheme].names) for b in found["biases"].values())


def test_decoded_is_the_live_decoder(runs) -> None:
    bundle = with_known_faces(Bundle.load(runs.bundle), runs.face / FACES)
    dialogues = read_composed(composed_file(runs.composed, "dev", 0))
    passed = pass_through(Predictor(bundle), dialogues)
    assert np.array_equal(decoded(dialogues, passed.posterior, bundle.decoder), passed.decoder)
