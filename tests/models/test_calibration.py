"""Calibration: temperature and bias by the modalities that an utterance has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes import toy_bundle

from emotrace_models.bundle import CONFIG, Bundle, BundleError
from emotrace_models.bundle_config import seal
from emotrace_models.calibration import Calibration, modality_key
from emotrace_models.types import Modality

A, F, L = Modality.ACOUSTIC, Modality.FACIAL, Modality.LEXICAL
LOGITS = np.array([1.0, 0.0, -2.0], np.float32)
FITTED = Calibration({"acoustic": 2.0, "acoustic+lexical": 0.5}, 0.4, {"acoustic": (0.0, 1.5, 0.0)})


def softmax(scores: list[float]) -> np.ndarray:
    return np.exp(scores) / np.exp(scores).sum()


def test_each_set_of_modalities_has_its_own_rule() -> None:
    np.testing.assert_allclose(FITTED.posterior(LOGITS, [A]), softmax([0.5, 1.5, -1.0]))
    np.testing.assert_allclose(FITTED.posterior(LOGITS, [L, A]), softmax([2.0, 0.0, -4.0]))


def test_a_set_that_was_not_fitted_is_doubted_most_and_has_no_bias() -> None:
    np.testing.assert_allclose(FITTED.posterior(LOGITS, [F]), softmax([0.5, 0.0, -1.0]))
    np.testing.assert_allclose(Calibration().posterior(LOGITS, [F]), softmax(LOGITS.tolist()))


def test_large_logits_do_not_overflow() -> None:
    found = FITTED.posterior(np.array([2_000.0, 0.0, -2_000.0], np.float32), [A])
    assert found.tolist() == [1.0, 0.0, 0.0]


def test_the_name_of_a_set_does_not_depend_on_order() -> None:
    assert modality_key([L, F, A]) == modality_key([A, F, L]) == "acoustic+facial+lexical"


def test_biases_survive_saving_and_an_older_config_has_none(tmp_path: Path) -> None:
    toy = Bundle.load(toy_bundle(tmp_path / "toy"))
    bias = tuple(0.1 * i for i in range(len(toy.labels.names)))
    fitted = Calibration({"acoustic": 2.0}, 0.4, {"acoustic": bias})
    replace(toy, calibration=fitted).save(tmp_path / "new")
    assert Bundle.load(tmp_path / "new").calibration == fitted
    toy.save(tmp_path / "old")
    config = tmp_path / "old" / CONFIG
    text = config.read_text()
    config.write_text(text.replace(',\n    "biases": {}', ""))
    assert config.read_text() != text
    seal(tmp_path / "old")
    assert Bundle.load(tmp_path / "old").calibration == toy.calibration


def test_a_bias_of_the_wrong_length_is_named(tmp_path: Path) -> None:
    toy = Bundle.load(toy_bundle(tmp_path / "toy"))
    wrong = Calibration({"acoustic": 2.0}, 0.4, {"acoustic": (1.0,)})
    replace(toy, calibration=wrong).save(tmp_path / "wrong")
    with pytest.raises(BundleError, match="bias of acoustic has 1 numbers"):
        Bundle.load(tmp_path / "wrong")
