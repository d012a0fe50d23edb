"""Posteriors compared: a table for card and terminal, and an HTML page with plots."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from emotrace_training.card import markdown_table
from emotrace_training.metrics import confusion, reliability, risk_coverage
from emotrace_training.page import paragraph, picture, table, write_html
from emotrace_training.plots import confusion_plot, reliability_plot, risk_coverage_plot
from emotrace_training.posterior_figures import Compared

SHOWN = ("accuracy", "uar", "ece", "nll", "aurc", "risk_at_70")
HEADER = ("label set", "modalities", "", "utterances", *SHOWN, "threshold", "answered", "risk")


def figure_rows(compared: Iterable[Compared]) -> list[tuple[str, ...]]:
    """A row a posterior, under HEADER, as text."""
    rows: list[tuple[str, ...]] = []
    for one in compared:
        for name, found in one.figures.items():
            limit = found["threshold"]
            risk = "–" if limit["risk"] is None else f"{limit['risk']:.3f}"
            rows.append(
                (
                    one.label_set, one.modalities, name, str(found["count"]),
                    *(f"{found[metric]:.3f}" for metric in SHOWN),
                    f"{limit['abstain_below']:.2f}", f"{limit['coverage']:.2f}", risk,
                )
            )  # fmt: skip
    return rows


def figures_markdown(compared: Iterable[Compared]) -> str:
    return markdown_table(HEADER, figure_rows(compared))


def write_compared(
    title: str, remarks: Sequence[str], compared: Sequence[Compared], out: Path
) -> None:
    """report.html in `out`, and the plots that it holds."""
    parts = [paragraph(remark) for remark in remarks]
    parts.append(table("All figures", HEADER, figure_rows(compared)))
    for one in compared:
        heading = f"{one.label_set}, {one.modalities}"
        stem = heading.replace(", ", "-")
        parts.append(f"<section><h2>{escape(heading)}: {escape(', '.join(one.names))}</h2>")
        posteriors = one.posteriors.items()
        file = out / f"{stem}-reliability.png"
        reliability_plot({n: reliability(p, one.truth) for n, p in posteriors}, heading, file)
        told = "the figures are in the first table"
        parts.append(picture(file, f"Accuracy over confidence; {told}.", "Reliability"))
        file = out / f"{stem}-risk.png"
        risk_coverage_plot({n: risk_coverage(p, one.truth) for n, p in posteriors}, heading, file)
        parts.append(
            picture(file, f"Errors over the share that is answered; {told}.", "Risk and coverage")
        )
        for name, posterior in posteriors:
            matrix = confusion(one.truth, posterior.argmax(axis=1), len(one.names))
            file = out / f"{stem}-confusion-{name}.png"
            confusion_plot(matrix, one.names, name, file)
            parts.append(picture(file, "Rows truth; the counts are below.", f"Confusion {name}"))
            counts = [[n, *map(str, r)] for n, r in zip(one.names, matrix.tolist(), strict=True)]
            parts.append(table(f"Confusion {name}: rows truth", ["truth", *one.names], counts))
        parts.append("</section>")
    write_html(title, parts, out / "report.html")
