"""`evaluate`: figures, plots and an HTML report of a run, from the predictions that `fit` kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from emotrace_training.metrics import reliability
from emotrace_training.plots import confusion_plot, learning_plot, reliability_plot
from emotrace_training.report_page import write_page
from emotrace_training.run_folder import EVALUATION, read_run
from emotrace_training.scoring import Scored, score
from emotrace_training.telling import named_errors

PLOTS = ("confusion", "reliability", "learning")
SHOWN = ("uar", "accuracy", "f1_macro", "f1_weighted")  # in the terminal; the page has all


def evaluate(run: Path, variants: list[str]) -> dict[str, Scored]:
    """Score the variants of a run and write RUN/evaluation. Raises RunUnusable."""
    found = {variant.folder.name: score(variant) for variant in read_run(run, variants)}
    out = run / EVALUATION
    out.mkdir(parents=True, exist_ok=True)
    for name, scored in found.items():
        _plots(name, scored, out)
    reports = {name: scored.report for name, scored in found.items()}
    (out / "report.json").write_text(json.dumps(reports, indent=2, ensure_ascii=False) + "\n")
    write_page(run.name, reports, out)
    return found


def plot_file(out: Path, variant: str, plot: str) -> Path:
    return out / f"{variant}-{plot}.png"


def command(
    run: Annotated[Path, typer.Argument(help="a folder that `fit` wrote")],
    variant: Annotated[list[str] | None, typer.Option(help="default: all")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Metrics by formula, confusion, calibration, plots and an HTML page of a run."""
    with named_errors():
        found = evaluate(run, variant or [])
        reports = {name: scored.report for name, scored in found.items()}
        if as_json:
            typer.echo(json.dumps(reports, indent=2, ensure_ascii=False))
            return
        table = Table(box=None, padding=(0, 2, 0, 0))
        for column in ("variant", "row", "tested"):
            table.add_column(column, no_wrap=column == "row")
        for metric in SHOWN:
            table.add_column(metric, overflow="fold")
        for name, report in reports.items():
            for row, scores in report["rows"].items():
                cells = [
                    f"{s['mean']:.4f} ± {s['sd']:.4f}" for s in (scores[metric] for metric in SHOWN)
                ]
                table.add_row(name, row, str(report["tested"]), *cells)
        Console().print(table)
        for name, report in reports.items():
            if report["missing"]:
                typer.echo(f"{name}: not finished: {', '.join(report['missing'])}", err=True)
        typer.echo(f"{run / EVALUATION / 'report.html'}")


def _plots(name: str, scored: Scored, out: Path) -> None:
    names = scored.variant.recipe.data.label_set.names
    title = f"{scored.variant.recipe.recipe.title}\n{name}"
    confusion_plot(scored.matrix, names, title, plot_file(out, name, "confusion"))
    curves = {"before": reliability(scored.before, scored.truth)}
    if scored.after is not None:
        curves["after temperature"] = reliability(scored.after, scored.truth)
    reliability_plot(curves, title, plot_file(out, name, "reliability"))
    watch = scored.variant.recipe.training.early_stop.watch
    histories = {
        f"{one.fold} seed {one.seed}": one.report()["history"] for one in scored.variant.trained
    }
    learning_plot(histories, watch, title, plot_file(out, name, "learning"))
