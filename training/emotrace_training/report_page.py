"""The HTML report of a run that `fit` made."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from emotrace_training.page import paragraph, picture, table, write_html

_ALTERNATIVES = {
    "confusion": "Confusion matrix, rows truth, columns predicted; the same numbers are in the "
    "table below.",
    "reliability": "Reliability diagram: accuracy over confidence.",
    "learning": "Learning curves: training loss and the watched validation metric over epochs.",
}


def write_page(title: str, reports: Mapping[str, Mapping[str, Any]], out: Path) -> None:
    """report.html in `out`, with the plots that lie there (VARIANT-PLOT.png)."""
    parts = [_overview(reports)]
    for name, report in reports.items():
        parts += _variant(name, report, out)
    write_html(title, parts, out / "report.html")


def _overview(reports: Mapping[str, Mapping[str, Any]]) -> str:
    metrics = list(next(iter(next(iter(reports.values()))["rows"].values())))
    rows = []
    for name, report in reports.items():
        for row, scores in report["rows"].items():
            rows.append([f"{name}: {row}", *(_spread(scores[metric]) for metric in metrics)])
        if report["published"]:
            shown = [_share(report["published"].get(metric)) for metric in metrics]
            rows.append([f"{name}: published", *shown])
    return table("All rows, mean ± deviation over seeds, folds pooled", ["row", *metrics], rows)


def _variant(name: str, report: Mapping[str, Any], out: Path) -> list[str]:
    parts = [f"<section><h2>{escape(report['title'])} ({escape(name)})</h2>"]
    if report["source"]:
        parts.append(paragraph(f"Paper: {report['source']}"))
    if report["protocol"]:
        parts.append(paragraph(f"Protocol of the published figures: {report['protocol']}"))
    if report["traps"]:
        items = "".join(f"<li>{escape(trap)}</li>" for trap in report["traps"])
        parts.append(f"<div class='note'><p>When comparing:</p><ul>{items}</ul></div>")
    if report["missing"]:
        parts.append(paragraph(f"Not finished, not counted: {', '.join(report['missing'])}", True))
    for plot, alternative in _ALTERNATIVES.items():
        file = out / f"{name}-{plot}.png"
        if file.is_file():
            parts.append(picture(file, alternative, plot.capitalize()))
    classes = report["classes"]
    rows = [[c, *map(str, line)] for c, line in zip(classes, report["confusion"], strict=True)]
    parts.append(table("Confusion, all seeds together: rows truth", ["truth", *classes], rows))
    for system, found in report["per_class"].items():
        columns = list(next(iter(found.values())))
        parts.append(
            table(
                f"Classes, means over seeds: {system}",
                ["class", *columns],
                [[c, *(_number(v, k) for k, v in values.items())] for c, values in found.items()],
            )
        )
    if "each_class" in report:
        rows = [[c, *map(_share, values.values())] for c, values in report["each_class"].items()]
        header = ["class", "binary_acc", "binary_f1"]
        parts.append(table("Each class by itself, there or not", header, rows))
    if len(report["folds"]) > 1:
        columns = list(next(iter(report["folds"].values())))
        rows = [[f, *map(_share, values.values())] for f, values in report["folds"].items()]
        parts.append(table("Folds, means over seeds", ["fold", *columns], rows))
    calibration = [[k, *map(_share, v.values())] for k, v in report["calibration"].items()]
    columns = list(next(iter(report["calibration"].values())))
    parts.append(table("Calibration", ["temperature", *columns], calibration))
    known = {**report["data"], "parameters": report["parameters"], "split": report["split"]}
    facts = [[str(key), _plain(value)] for key, value in known.items()]
    parts += [table("Data and model", ["what", "value"], facts), "</section>"]
    return parts


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {one}" for key, one in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)


def _spread(score: Mapping[str, Any]) -> str:
    return f"{score['mean']:.4f} ± {score['sd']:.4f}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _number(value: float | None, key: str) -> str:
    return f"{value:g}" if key in ("count", "predicted") and value is not None else _share(value)
