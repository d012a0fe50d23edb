"""The figures of `report` in words: the section of a bundle's card, and the HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from emotrace_training.card import DATA, markdown_table, section
from emotrace_training.metrics import confusion, reliability, risk_coverage
from emotrace_training.page import paragraph, picture, table, write_html
from emotrace_training.plots import confusion_plot, reliability_plot, risk_coverage_plot
from emotrace_training.report_groups import Measured

METRICS = ("uar", "accuracy", "f1_weighted", "ece", "aurc", "risk", "risk_at_70")
HEADER = ("", "clips", *METRICS, "answered", "risk of these")
FORMULAS = (
    "uar: mean recall of the classes. ece: expected calibration error, 15 bins. risk: share of "
    "errors; risk_at_70: among the 70 % of clips that are surest. aurc: mean risk over all "
    "coverages. answered: share of clips above the threshold of abstention, and the errors in it."
)
TEN = 10  # clips under which a figure says little


def figures_section(report: Mapping[str, Any]) -> str:
    """Markdown for the card: every label set by every group, confusion, dialogues."""
    speakers = ", ".join(
        f"{name} {one['speakers']} ({one['split']})" for name, one in report["corpora"].items()
    )
    parts = [
        f"Single clips, each without context, by {report['heard']}; speakers: {speakers} "
        "(`emotrace-train report`). Rows of fewer than ten clips say little.",
        FORMULAS,
    ]
    for scheme, found in report["label_sets"].items():
        names = found["classes"]
        parts.append(f"### {scheme}: {', '.join(names)}")
        parts.append(markdown_table(HEADER, _rows(found)))
        parts.append("Confusion, rows truth:")
        parts.append(
            markdown_table(("truth", *names), _confusion(names, found["all"]["confusion"]))
        )
    if report["dialogues"] is not None:
        parts.append("### Dialogues")
        parts.append(_dialogue_words(report["dialogues"]))
        for scheme, found in report["dialogues"]["sets"].items():
            parts.append(f"{scheme}: {found['turns']} turns, {len(found['seeds'])} seeds:")
            parts.append(markdown_table(*_dialogue_table(found)))
    return "\n\n".join(parts)


def write_report_page(
    report: Mapping[str, Any], measured: Mapping[str, Measured], card: str, out: Path
) -> None:
    """report.html in `out`, and the plots that it holds."""
    parts = [
        paragraph(f"Licence of the weights: {report['licence']}."),
        paragraph(f"Single clips, each without context, by {report['heard']}. {FORMULAS}"),
        table("Clips", *_counts(report["corpora"])),
    ]
    for scheme, found in report["label_sets"].items():
        one, names = measured[scheme], found["classes"]
        parts.append(f"<section><h2>{escape(scheme)}: {escape(', '.join(names))}</h2>")
        parts += _plots(scheme, one, out)
        whole = {key: found[key] for key in ("all", "mean_of_corpora")}
        parts.append(table("All clips", HEADER, _rows({**whole, "groups": {}})))
        for dimension, buckets in found["groups"].items():
            rows = [(bucket, *_cells(figures)) for bucket, figures in buckets.items()]
            parts.append(table(f"By {dimension}", (dimension, *HEADER[1:]), rows))
        parts.append(
            table(
                "Confusion: rows truth",
                ("truth", *names),
                _confusion(names, found["all"]["confusion"]),
            )
        )
        parts.append("</section>")
    if report["dialogues"] is not None:
        parts.append("<section><h2>Dialogues</h2>")
        parts.append(paragraph(_dialogue_words(report["dialogues"])))
        for scheme, found in report["dialogues"]["sets"].items():
            parts.append(table(f"{scheme}: {found['turns']} turns", *_dialogue_table(found)))
        parts.append("</section>")
    licences = tables_in(section(card, DATA))
    if licences:
        parts.append("<section><h2>Data and licences</h2>")
        captions = ("Data", "By part")
        for caption, (header, *body) in zip(captions, licences, strict=False):
            parts.append(table(caption, header, body))
        parts.append("</section>")
    title = f"Bundle {report['bundle']}, version {report['version']}"
    write_html(title, parts, out / "report.html")


def tables_in(markdown: str) -> list[list[list[str]]]:
    """The cells of every table, header first."""
    found: list[list[list[str]]] = []
    inside = False
    for line in markdown.splitlines():
        if not line.startswith("|"):
            inside = False
            continue
        if not inside:
            found.append([])
        inside = True
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if set(line) - set("|- "):
            found[-1].append(cells)
    return found


def _plots(scheme: str, one: Measured, out: Path) -> list[str]:
    parts = {"all": np.arange(len(one.truth))}
    parts |= {
        name: np.flatnonzero([corpus == name for corpus in one.corpus])
        for name in dict.fromkeys(one.corpus)
    }
    told = "the figures are in the tables below"
    files = {kind: out / f"{scheme}-{kind}.png" for kind in ("confusion", "reliability", "risk")}
    matrix = confusion(one.truth, one.posterior.argmax(axis=1), len(one.names))
    confusion_plot(matrix, one.names, scheme, files["confusion"])
    reliability_plot(
        {n: reliability(one.posterior[rows], one.truth[rows]) for n, rows in parts.items()},
        scheme,
        files["reliability"],
    )
    risk_coverage_plot(
        {n: risk_coverage(one.posterior[rows], one.truth[rows]) for n, rows in parts.items()},
        scheme,
        files["risk"],
    )
    return [
        picture(files["confusion"], f"Confusion, rows truth; {told}.", "Confusion"),
        picture(files["reliability"], f"Accuracy over confidence; {told}.", "Reliability"),
        picture(
            files["risk"], f"Errors over the share that is answered; {told}.", "Risk and coverage"
        ),
    ]


def _rows(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    mean = found["mean_of_corpora"]
    rows = [
        ("all", *_cells(found["all"])),
        (
            "mean of corpora", "",
            *(f"{mean[m]:.3f}" if m in mean else "" for m in METRICS), "", "",
        ),
    ]  # fmt: skip
    for dimension, buckets in found["groups"].items():
        rows += [(f"{dimension}: {bucket}", *_cells(one)) for bucket, one in buckets.items()]
    return rows


def _cells(figures: Mapping[str, Any]) -> tuple[str, ...]:
    limit = figures["threshold"]
    return (
        f"{figures['count']}{' (few)' if figures['count'] < TEN else ''}",
        *(f"{figures[metric]:.3f}" for metric in METRICS),
        f"{limit['coverage']:.2f}",
        "–" if limit["risk"] is None else f"{limit['risk']:.3f}",
    )


def _confusion(names: Sequence[str], matrix: Sequence[Sequence[int]]) -> list[tuple[str, ...]]:
    return [(name, *map(str, row)) for name, row in zip(names, matrix, strict=True)]


def _counts(corpora: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[tuple[str, ...]]]:
    columns = ("split", "rows", "used", "speakers", "unreadable")
    rows = [(name, *(str(one[column]) for column in columns)) for name, one in corpora.items()]
    return ["corpus", *columns], rows


def _dialogue_words(dialogues: Mapping[str, Any]) -> str:
    words = [
        "Composed dialogues: real lines spoken by actors of `test` "
        "(`emotrace-train evaluate-dialogues`); mean and deviation over seeds."
    ]
    for scheme, found in dialogues["sets"].items():
        calibration, faith = found["calibration"], found["faithfulness"]
        risk = found["risk"]
        words.append(
            f"{scheme}: calibration error {calibration['before']:.3f} before and "
            f"{calibration['after']:.3f} after; errors {risk['100%']:.3f} of all and "
            f"{risk['70%']:.3f} of the surest 70 %; taking away the slot that contributed most "
            f"moves the posterior by {faith['most_contributing']:.3f}, a random one by "
            f"{faith['random']:.3f}."
        )
    return " ".join(words)


def _dialogue_table(found: Mapping[str, Any]) -> tuple[list[str], list[tuple[str, ...]]]:
    metrics = ("uar", "accuracy", "f1_weighted")
    rows = [
        (row, *(f"{mean[m]:.3f} ± {found['sd'][row][m]:.3f}" for m in metrics))
        for row, mean in found["mean"].items()
    ]
    return ["shown", *metrics], rows
