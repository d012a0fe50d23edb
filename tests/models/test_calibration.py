"""From logits to probabilities: temperature, class bias, and what was not fitted."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emotrace_models.bundle import Bundle, BundleError
from emotrace_models.calibration import Calibration
from emotrace_models.types import Modality

SOUND, BOTH = (Modality.ACOUSTIC,), (Modality.LEXICAL, Modality.ACOUSTIC)
LOGITS = np.array([2.0, 0.0, -1.0], dtype=np.float32)


def test_temperature_and_bias_by_hand() -> None:
    rule = Calibration({"acoustic": 2.0}, biases={"acoustic": (0.0, 1.0, 0.5)})
    expected = np.exp([1.0, 1.0, 0.0])
    assert rule.posterior(LOGITS, SOUND) == pytest.approx(expected / expected.sum())


def test_the_same_bias_of_every_class_is_none() -> None:
    plain = Calibration({"acoustic": 2.0})
    rule = Calibration({"acoustic": 2.0}, biases={"acoustic": (3.0, 3.0, 3.0)})
    assert rule.posterior(LOGITS, SOUND) == pytest.approx(plain.posterior(LOGITS, SOUND))


def test_what_was_not_fitted_takes_the_most_doubtful_temperature_and_no_bias() -> None:
    rule = Calibration({"acoustic": 2.0, "lexical": 4.0}, biases={"acoustic": (9.0, 0.0, 0.0)})
    expected = np.exp(LOGITS / 4.0)
    assert rule.posterior(LOGITS, BOTH) == pytest.approx(expected / expected.sum())


def test_biases_are_kept_in_a_bundle(toy: Path, tmp_path: Path) -> None:
    bundle = Bundle.load(toy)
    own = replace(bundle.calibration, biases={"acoustic": (0.1, -0.2, 0.3, 0.0)})
    replace(bundle, calibration=own).save(tmp_path / "biased")
    assert Bundle.load(tmp_path / "biased").calibration == own


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"biases": {"acoustic": [1.0, 2.0]}}, "has 2 numbers, and common4 4 classes"),
        ({"temperatures": {"acoustic": 0.0}}, "the temperature of acoustic is not above 0"),
    ],
)
def test_a_calibration_that_does_not_fit_is_refused(
    toy: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    copy = Path(shutil.copytree(toy, tmp_path / "copy"))
    config = json.loads((copy / "config.json").read_text())
    config["calibration"].update(change)
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(BundleError, match=message):
        Bundle.load(copy)
