"""The HTML report of a run: one file, nothing loaded from elsewhere, light or dark as the reader's
system is; every table has a caption and headers, every picture a text."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

_STYLE = """
:root { color-scheme: light dark; --line: #8886; --soft: #8882; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
caption { text-align: left; font-weight: 600; padding: .3rem 0; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); text-align: right; }
th:first-child, td:first-child { text-align: left; }
thead th { background: var(--soft); }
figure { margin: 1rem 0; display: inline-block; vertical-align: top; }
img { max-width: 100%; background: #fff; border-radius: 4px; }
.note { border-left: 4px solid #c70; padding-left: .8rem; }
"""
_ALTERNATIVES = {
    "confusion": "Confusion matrix, rows truth, columns predicted; the same numbers are in the "
    "table below.",
    "reliability": "Reliability diagram: accuracy over confidence.",
    "learning": "Learning curves: training loss and the watched validation metric over epochs.",
}


def write_page(title: str, reports: Mapping[str, Mapping[str, Any]], out: Path) -> None:
    """report.html in `out`, with the plots that lie there (VARIANT-PLOT.png)."""
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>",
        f"<header><h1>{escape(title)}</h1></header><main>",
        _overview(reports),
    ]
    for name, report in reports.items():
        parts += _variant(name, report, out)
    parts.append("</main></body></html>\n")
    (out / "report.html").write_text("\n".join(parts), encoding="utf-8")


def _overview(reports: Mapping[str, Mapping[str, Any]]) -> str:
    metrics = list(next(iter(next(iter(reports.values()))["rows"].values())))
    rows = []
    for name, report in reports.items():
        for row, scores in report["rows"].items():
            rows.append([f"{name}: {row}", *(_spread(scores[metric]) for metric in metrics)])
        if report["published"]:
            shown = [_share(report["published"].get(metric)) for metric in metrics]
            rows.append([f"{name}: published", *shown])
    return _table("All rows, mean ± deviation over seeds, folds pooled", ["row", *metrics], rows)


def _variant(name: str, report: Mapping[str, Any], out: Path) -> list[str]:
    parts = [f"<section><h2>{escape(report['title'])} ({escape(name)})</h2>"]
    if report["source"]:
        parts.append(f"<p>Paper: {escape(report['source'])}</p>")
    if report["protocol"]:
        parts.append(f"<p>Protocol of the published figures: {escape(report['protocol'])}</p>")
    if report["traps"]:
        items = "".join(f"<li>{escape(trap)}</li>" for trap in report["traps"])
        parts.append(f"<div class='note'><p>When comparing:</p><ul>{items}</ul></div>")
    if report["missing"]:
        listed = escape(", ".join(report["missing"]))
        parts.append(f"<p class='note'>Not finished, not counted: {listed}</p>")
    for plot, alternative in _ALTERNATIVES.items():
        file = out / f"{name}-{plot}.png"
        if file.is_file():
            data = base64.b64encode(file.read_bytes()).decode()
            parts.append(
                f"<figure><img alt='{escape(alternative)}' src='data:image/png;base64,{data}'>"
                f"<figcaption>{plot.capitalize()}</figcaption></figure>"
            )
    classes = report["classes"]
    rows = [[c, *map(str, line)] for c, line in zip(classes, report["confusion"], strict=True)]
    parts.append(_table("Confusion, all seeds together: rows truth", ["truth", *classes], rows))
    for system, table in report["per_class"].items():
        columns = list(next(iter(table.values())))
        parts.append(
            _table(
                f"Classes, means over seeds: {system}",
                ["class", *columns],
                [[c, *(_number(v, k) for k, v in values.items())] for c, values in table.items()],
            )
        )
    if "each_class" in report:
        rows = [[c, *map(_share, values.values())] for c, values in report["each_class"].items()]
        header = ["class", "binary_acc", "binary_f1"]
        parts.append(_table("Each class by itself, there or not", header, rows))
    if len(report["folds"]) > 1:
        columns = list(next(iter(report["folds"].values())))
        rows = [[f, *map(_share, values.values())] for f, values in report["folds"].items()]
        parts.append(_table("Folds, means over seeds", ["fold", *columns], rows))
    calibration = [[k, *map(_share, v.values())] for k, v in report["calibration"].items()]
    columns = list(next(iter(report["calibration"].values())))
    parts.append(_table("Calibration", ["temperature", *columns], calibration))
    known = {**report["data"], "parameters": report["parameters"], "split": report["split"]}
    facts = [[str(key), _plain(value)] for key, value in known.items()]
    parts += [_table("Data and model", ["what", "value"], facts), "</section>"]
    return parts


def _table(caption: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th scope='col'>{escape(cell)}</th>" for cell in header)
    body = "".join(
        f"<tr><th scope='row'>{escape(row[0])}</th>"
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )


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
