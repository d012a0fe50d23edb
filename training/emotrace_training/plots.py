"""Figures of a model's evaluation as PNG files: confusion matrix, reliability, risk and coverage,
learning curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from emotrace_training.metrics import Matrix, Reliability, RiskCoverage, accuracy, uar

DPI = 120
LEGEND = 8  # curves that a legend can still tell apart


def confusion_plot(matrix: Matrix, names: Sequence[str], title: str, path: Path) -> None:
    """M [class, class], rows = truth -> shares of each row in colour, counts as text.

    Raises ValueError where the names do not fit, OSError where `path` cannot be written.
    """
    if matrix.shape != (len(names), len(names)):
        raise ValueError(f"a matrix of shape {matrix.shape} does not fit {len(names)} class names")
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = 2.4 + 0.7 * len(names)  # inches
    figure = Figure(figsize=(side, side), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    for i, j in np.ndindex(*matrix.shape):
        axes.text(
            j, i, f"{matrix[i, j]:g}\n{shares[i, j]:.0%}",
            ha="center", va="center", fontsize=8, color="white" if shares[i, j] > 0.5 else "black",
        )  # fmt: skip
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("truth")
    axes.set_title(f"{title}\nUAR {uar(matrix):.3f}, accuracy {accuracy(matrix):.3f}", fontsize=10)
    _write(figure, path)


def reliability_plot(curves: Mapping[str, Reliability], title: str, path: Path) -> None:
    """Accuracy over confidence for each named curve (before and after calibration, say).

    Points grow with the number of samples in the bin; the diagonal is perfect calibration.
    """
    figure = Figure(figsize=(5.0, 5.0), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle="--", label="perfect")
    for name, curve in curves.items():
        full = curve.count > 0
        error = curve.expected_calibration_error
        (line,) = axes.plot(
            curve.confidence[full], curve.accuracy[full], label=f"{name}: ECE {error:.3f}"
        )
        sizes = 200 * np.sqrt(curve.count[full] / curve.count.sum())
        axes.scatter(
            curve.confidence[full], curve.accuracy[full], s=sizes, color=line.get_color(), alpha=0.6
        )
    axes.set_xlim(0.0, 1.0)
    axes.set_ylim(0.0, 1.0)
    axes.set_aspect("equal")
    axes.set_xlabel("confidence (largest probability)")
    axes.set_ylabel("accuracy")
    axes.set_title(title, fontsize=10)
    axes.legend(loc="upper left", fontsize=8)
    _write(figure, path)


def risk_coverage_plot(curves: Mapping[str, RiskCoverage], title: str, path: Path) -> None:
    """Share of errors over the share that is answered, for each named curve."""
    figure = Figure(figsize=(5.0, 5.0), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    for name, curve in curves.items():
        label = f"{name}: AURC {curve.aurc:.3f}, {curve.risk_at(0.7):.3f} at 70 %"
        axes.step(curve.coverage, curve.risk, where="post", label=label)
    axes.set_xlim(0.0, 1.0)
    axes.set_ylim(bottom=0.0)
    axes.set_xlabel("coverage (share of utterances that are answered, surest first)")
    axes.set_ylabel("risk (share of errors among them)")
    axes.set_title(title, fontsize=10)
    axes.legend(loc="upper left", fontsize=8)
    _write(figure, path)


def learning_plot(
    histories: Mapping[str, Sequence[Mapping[str, Any]]], watch: str, title: str, path: Path
) -> None:
    """Training loss, and `watch` of the validation part, over the epochs of each named model."""
    figure = Figure(figsize=(6.0, 5.0), dpi=DPI, layout="constrained")
    loss, valid = figure.subplots(2, 1, sharex=True)
    for name, history in histories.items():
        epochs = range(1, len(history) + 1)
        loss.plot(epochs, [epoch["loss"] for epoch in history], label=name, linewidth=1)
        if history and "valid" in history[0]:
            valid.plot(epochs, [epoch["valid"][watch] for epoch in history], linewidth=1)
    loss.set_ylabel("training loss")
    valid.set_ylabel(f"validation {watch}")
    valid.set_xlabel("epoch")
    loss.set_title(title, fontsize=10)
    if len(histories) <= LEGEND:
        loss.legend(fontsize=7)
    _write(figure, path)


@dataclass(frozen=True, slots=True)
class Curve:
    """Points of a curve, and the deviation of each over seeds."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    deviation: tuple[float, ...]


def curves_plot(
    panels: Mapping[str, Mapping[str, Curve]], height: str, level: float, path: Path
) -> None:
    """Panels side by side, named by what runs along them; in each a dashed line at `level`, where
    nothing was changed. height: what all of them show upwards.
    """
    figure = Figure(figsize=(4.5 * len(panels), 4.0), dpi=DPI, layout="constrained")
    for axes, (name, curves) in zip(
        figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels.items(), strict=True
    ):
        axes.axhline(level, color="grey", linewidth=1, linestyle="--", label="unchanged")
        for label, curve in curves.items():
            axes.errorbar(curve.x, curve.y, curve.deviation, marker="o", capsize=3, label=label)
        axes.set_xlabel(name)
        axes.legend(loc="lower right", fontsize=8)
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel(height)
    _write(figure, path)


@dataclass(frozen=True, slots=True)
class Point:
    x: float
    y: float
    name: str


def points_plot(
    series: Mapping[str, Sequence[Point]], across: str, upwards: str, path: Path
) -> None:
    """Points with their names, those of a series in one colour. across, upwards: of the axes."""
    figure = Figure(figsize=(7.0, 4.5), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    for label, points in series.items():
        (line,) = axes.plot(
            [p.x for p in points], [p.y for p in points], linestyle="", marker="o", label=label
        )
        for point in points:
            axes.annotate(
                point.name, (point.x, point.y), (4, 4), textcoords="offset points", fontsize=7,
                color=line.get_color(),
            )  # fmt: skip
    axes.margins(x=0.15, y=0.1)
    axes.set_xlabel(across)
    axes.set_ylabel(upwards)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    _write(figure, path)


def _write(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure)  # no display, no global state of pyplot
    figure.savefig(path, format="png")
