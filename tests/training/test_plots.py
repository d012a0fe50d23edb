"""The figures are written as PNG and refuse what does not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from emotrace_training.metrics import reliability, risk_coverage
from emotrace_training.plots import confusion_plot, reliability_plot, risk_coverage_plot


def test_confusion_plot(tmp_path: Path) -> None:
    path = tmp_path / "figures" / "confusion.png"
    matrix = np.array([[8, 1, 0], [2, 5, 1], [0, 0, 0]])
    confusion_plot(matrix, ("anger", "neutral", "sadness"), "test", path)
    pixels = imread(path)
    assert pixels.shape[0] == pixels.shape[1] > 400
    assert len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)) > 10
    with pytest.raises(ValueError, match="does not fit 2 class names"):
        confusion_plot(matrix, ("anger", "neutral"), "test", path)


def test_reliability_plot_shows_what_it_is_given(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    posterior = noise.dirichlet(np.ones(3), size=200)
    truth = noise.integers(0, 3, 200)
    curve = reliability(posterior, truth)
    reliability_plot({"before": curve}, "calibration", tmp_path / "one.png")
    sharper = reliability(posterior**2 / (posterior**2).sum(axis=1, keepdims=True), truth)
    reliability_plot({"before": curve, "after": sharper}, "calibration", tmp_path / "two.png")
    one, two = imread(tmp_path / "one.png"), imread(tmp_path / "two.png")
    assert one.shape == two.shape
    assert (one != two).any()


def test_risk_coverage_plot(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    posterior = noise.dirichlet(np.ones(3), size=200)
    random = risk_coverage(posterior, noise.integers(0, 3, 200))
    right = risk_coverage(posterior, posterior.argmax(axis=1))
    risk_coverage_plot({"random": random}, "risk", tmp_path / "one.png")
    risk_coverage_plot({"random": random, "right": right}, "risk", tmp_path / "two.png")
    one, two = imread(tmp_path / "one.png"), imread(tmp_path / "two.png")
    assert one.shape == two.shape
    assert (one != two).any()
