"""Views: one bundle under smaller label sets, with the same models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes import toy_bundle

from emotrace_models.bundle import Bundle, BundleError, View
from emotrace_models.calibration import Calibration
from emotrace_models.decoding import DecoderConfig
from emotrace_models.labels import SCHEMES, LabelSetMismatch
from emotrace_models.predictor import Predictor
from emotrace_models.types import Transcript, Utterance

FOUR = View(Calibration({"acoustic": 2.0}, abstain_below=0.6), DecoderConfig(p0=0.3))


@pytest.fixture
def seven(tmp_path: Path) -> Bundle:
    toy = Bundle.load(toy_bundle(tmp_path / "seven", scheme="ekman7"))
    return replace(toy, views={"common4": FOUR})


def spoken(index: int) -> Utterance:
    samples = np.random.default_rng(index).normal(0, 0.1, 8_000).astype(np.float32)
    words = Transcript("well, hello there", "client")
    return Utterance(index, "A", index * 8_000, (index + 1) * 8_000, samples, words)


def test_a_view_is_the_posterior_given_that_one_of_its_classes_is_true(seven: Bundle) -> None:
    four = seven.projected("common4")
    columns = [seven.labels.index(name) for name in four.labels.names]
    states = [Predictor(bundle).start() for bundle in (seven, four)]
    for index in range(3):  # the second and third turn use memoised slot features
        ((states[0], whole),) = Predictor(seven).predict([(states[0], spoken(index))])
        ((states[1], part),) = Predictor(four).predict([(states[1], spoken(index))])
        assert np.array_equal(part.prediction.logits, whole.prediction.logits[columns])
        why = part.prediction.explanation
        np.testing.assert_allclose(
            why.contributions.sum(0) + why.bias, part.prediction.logits, atol=1e-5
        )
        expected = np.exp(part.prediction.logits.astype(np.float64) / 2.0)
        np.testing.assert_allclose(part.prediction.posterior, expected / expected.sum())


def test_views_survive_saving_and_have_keys_of_their_own(seven: Bundle, tmp_path: Path) -> None:
    seven.save(tmp_path / "saved")
    again = Bundle.load(tmp_path / "saved")
    assert again.schemes == ("ekman7", "common4")
    view = again.projected("common4")
    assert (view.calibration, view.decoder) == (FOUR.calibration, FOUR.decoder)
    assert again.key == f"toy@{again.digest[:12]}"
    assert view.key == f"{again.key}:common4"
    assert again.projected("ekman7") is again
    assert Predictor(view).start().bundle == view.key
    made = replace(seven, digest="")
    assert (made.key, made.projected("common4").key) == ("toy", "toy:common4")


def test_what_cannot_be_projected_is_named(seven: Bundle, tmp_path: Path) -> None:
    with pytest.raises(LabelSetMismatch, match="ekman7, common4, not 'iemocap6'"):
        seven.projected("iemocap6")
    with pytest.raises(ValueError, match="save the bundle 'toy' itself"):
        seven.projected("common4").save(tmp_path / "view")
    replace(seven, views={"iemocap6": FOUR}).save(tmp_path / "odd")
    with pytest.raises(BundleError, match="excitement, frustration, which the bundle has not"):
        Bundle.load(tmp_path / "odd")
    assert set(SCHEMES["common4"].names) < set(seven.labels.names)
