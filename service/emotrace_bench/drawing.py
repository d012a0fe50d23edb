"""Charts as one PNG file, one under the other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from emotrace_bench.charts import Bars, Chart, Lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DPI = 120
WIDTH, BAR, LINES = 8.0, 0.5, 4.0  # inches: of the picture, of a bar, of a chart of lines


class PlotUnavailable(RuntimeError):
    """There is nothing to draw with, or nothing to draw. The message says what to do."""


def draw(charts: Sequence[Chart], path: Path) -> None:
    """Raises PlotUnavailable, or OSError where `path` cannot be written."""
    if not charts:
        raise PlotUnavailable("this benchmark has measured nothing that could be drawn")
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PlotUnavailable(
            "--plot needs matplotlib: pip install 'emotrace[bench]', or leave --plot out"
        ) from error
    heights = [
        1.5 + BAR * len(chart.parts) if isinstance(chart, Bars) else LINES for chart in charts
    ]
    figure = Figure(figsize=(WIDTH, sum(heights)), dpi=DPI, layout="constrained")
    grid = figure.subplots(len(charts), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[
        :, 0
    ]
    for axes, chart in zip(grid, charts, strict=True):
        if isinstance(chart, Bars):
            _bars(axes, chart)
        else:
            _lines(axes, chart)
        axes.set_title(chart.title, fontsize=10)
        axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure)  # no display, no global state of pyplot
    figure.savefig(path, format="png")


def _bars(axes: Axes, chart: Bars) -> None:
    names = list(chart.parts)
    parts = list(dict.fromkeys(part for bar in chart.parts.values() for part in bar))
    left = [0.0] * len(names)
    for part in parts:
        lengths = [chart.parts[name].get(part, 0.0) for name in names]
        axes.barh(names, lengths, left=left, height=0.6, label=part)
        left = [start + length for start, length in zip(left, lengths, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel(chart.unit)
    axes.legend(fontsize=7, loc="lower right")


def _lines(axes: Axes, chart: Lines) -> None:
    for name, points in chart.curves.items():
        axes.plot([x for x, _ in points], [y for _, y in points], marker="o", label=name)
    if chart.logarithmic:
        axes.set_xscale("log")
        axes.set_yscale("log")
    axes.set_xlabel(chart.across)
    axes.set_ylabel(chart.upwards)
    axes.legend(fontsize=8)
