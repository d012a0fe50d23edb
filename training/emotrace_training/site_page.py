"""Before and after on a site: a table for card and terminal, and an HTML page with plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from emotrace_models.calibration import modality_key
from emotrace_training.metrics import confusion, reliability, risk_coverage
from emotrace_training.page import paragraph, picture, table, write_html
from emotrace_training.plots import confusion_plot, reliability_plot, risk_coverage_plot
from emotrace_training.site_calibration import Recalibrated

SHOWN = ("accuracy", "uar", "ece", "nll", "aurc", "risk_at_70")
HEADER = ("label set", "modalities", "", "utterances", *SHOWN, "threshold", "answered", "risk")


def figures_table(
    scheme: str, modalities: Mapping[str, Mapping[str, Any]]
) -> list[tuple[str, ...]]:
    """Rows before and after by modalities, as text; the first is the header."""
    rows: list[tuple[str, ...]] = [HEADER]
    for key, found in modalities.items():
        for when in ("before", "after"):
            one = found[when]
            limit = one["threshold"]
            risk = "–" if limit["risk"] is None else f"{limit['risk']:.3f}"
            rows.append(
                (
                    scheme, key, when, str(one["count"]), *(f"{one[m]:.3f}" for m in SHOWN),
                    f"{limit['abstain_below']:.2f}", f"{limit['coverage']:.2f}", risk,
                )
            )  # fmt: skip
    return rows


def write_site_page(
    title: str,
    remarks: Sequence[str],
    label_sets: Mapping[str, Mapping[str, Any]],
    found: Sequence[Recalibrated],
    out: Path,
) -> None:
    """report.html in `out`, with the plots of every label set and set of modalities."""
    parts = [paragraph(remark) for remark in remarks]
    for one in found:
        scheme, names = one.labels.scheme, one.labels.names
        report = label_sets[scheme]["modalities"]
        header, *rows = figures_table(scheme, report)
        parts.append(f"<section><h2>{escape(scheme)}: {escape(', '.join(names))}</h2>")
        parts.append(table("Before and after", header[1:], [row[1:] for row in rows]))
        for measured in one.measured:
            key = modality_key(measured.modalities)
            parts.append(f"<h3>{escape(key)}</h3>")
            stem = f"{scheme}-{key}"
            both = {"before": measured.before, "after": measured.after}
            curves = {when: reliability(p, measured.truth) for when, p in both.items()}
            reliability_plot(curves, title, out / f"{stem}-reliability.png")
            risks = {when: risk_coverage(p, measured.truth) for when, p in both.items()}
            risk_coverage_plot(risks, title, out / f"{stem}-risk.png")
            told = "the figures are in the table above"
            parts += [
                picture(
                    out / f"{stem}-reliability.png",
                    f"Reliability diagram, accuracy over confidence; {told}.",
                    "Reliability",
                ),
                picture(
                    out / f"{stem}-risk.png",
                    f"Share of errors over the share that is answered; {told}.",
                    "Risk and coverage",
                ),
            ]
            for when, posterior in both.items():
                matrix = confusion(measured.truth, np.argmax(posterior, axis=1), len(names))
                file = out / f"{stem}-confusion-{when}.png"
                confusion_plot(matrix, names, when, file)
                parts.append(
                    picture(
                        file, "Confusion, rows truth; the counts are below.", f"Confusion {when}"
                    )
                )
                counts = [[n, *map(str, r)] for n, r in zip(names, matrix.tolist(), strict=True)]
                parts.append(table(f"Confusion {when}: rows truth", ["truth", *names], counts))
        parts.append("</section>")
    write_html(title, parts, out / "report.html")
