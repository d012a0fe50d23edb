"""What `evaluate-robustness` found, as a table and as curves."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emotrace_training.plots import Curve, curves_plot

CLASSES = {"common4": "4 classes", "ekman7": "7 classes"}


def as_markdown(report: Mapping[str, Any]) -> str:
    """A row each; UAR by corpus with four classes, and the means; ± deviation over bundles."""
    found: Sequence[Mapping[str, Any]] = report["uar"]
    views = [view for view in CLASSES if view in next(iter(found[0].values()))]
    corpora = sorted(report["clips"])
    columns = [(view, corpus) for view in views for corpus in (*corpora, "mean")]
    lines = [
        f"UAR on speakers of `{report['split']}`, by sound alone, seed {report['seed']}. Rows "
        f"with *: {len(found)} bundle(s), every clip ("
        + ", ".join(f"{corpus} {count}" for corpus, count in sorted(report["clips"].items()))
        + f"). Others: the first bundle, at most {report['most']} clips a corpus.",
        "",
        "| | " + " | ".join(f"{CLASSES[v]}: {c}" if c == "mean" else c for v, c in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for row in found[0]:
        star = " *" if row in report["headline"] else ""
        cells = [
            _cell([b[row][view][corpus] for b in found if row in b]) for view, corpus in columns
        ]
        lines.append(f"| {row}{star} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def curves(report: Mapping[str, Any], path: Path) -> None:
    """Mean UAR over the ratio of speech to noise, and over the seconds heard."""
    found: Sequence[Mapping[str, Any]] = report["uar"]
    view = next(view for view in CLASSES if view in next(iter(found[0].values())))
    noise = {kind: _curve(found, view, rf"{kind} (\d+) dB") for kind in ("white noise", "babble")}
    beginnings = {"from the onset": _curve(found, view, r"first ([\d.]+) s")}
    clean = float(np.mean([b["clean"][view]["mean"] for b in found]))
    curves_plot(
        {
            "speech to noise, dB": noise,
            "seconds heard": beginnings,
        },
        f"mean UAR of three corpora, {CLASSES[view]}",
        clean,
        path,
    )


def _curve(found: Sequence[Mapping[str, Any]], view: str, pattern: str) -> Curve:
    points = sorted(
        (float(match[1]), [b[row][view]["mean"] for b in found if row in b])
        for row in found[0]
        if (match := re.fullmatch(pattern, row))
    )
    return Curve(
        tuple(x for x, _ in points),
        tuple(float(np.mean(y)) for _, y in points),
        tuple(float(np.std(y)) for _, y in points),
    )


def _cell(values: Sequence[float]) -> str:
    mean = f"{np.mean(values):.3f}".lstrip("0")
    return mean if len(values) == 1 else f"{mean} ± {np.std(values):.3f}".replace("± 0", "± ")
