"""`compare`: our figures beside the published ones, with protocol and traps in the same row."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from emotrace_training.run_folder import read_run
from emotrace_training.scoring import MODEL, score
from emotrace_training.telling import named_errors


@dataclass(frozen=True, slots=True)
class Row:
    """ours: mean and deviation by metric. published: by metric. unit: what was split, ours."""

    run: str
    row: str
    title: str
    source: str
    ours: Mapping[str, tuple[float, float]]
    published: Mapping[str, float]
    published_deviation: Mapping[str, float]
    seeds: int
    tested: int
    split: str
    protocol: str
    traps: tuple[str, ...]


def rows_of(run: Path) -> list[Row]:
    """A row for each variant, and for its decoder. Raises RunUnusable."""
    found = []
    for variant in read_run(run):
        report = score(variant).report
        about = variant.recipe.recipe
        # Where there is a decoder, the published figure is that of the whole system.
        last = list(report["rows"])[-1]
        for row, scores in report["rows"].items():
            found.append(
                Row(
                    run=f"{run.name}/{variant.folder.name}",
                    row=row,
                    title=about.title,
                    source=about.source,
                    ours={name: (one["mean"], one["sd"]) for name, one in scores.items()},
                    published=about.published if row == last else {},
                    published_deviation=about.deviation if row == last else {},
                    seeds=len(report["seeds"]),
                    tested=report["tested"],
                    split=described(report["split"]),
                    protocol=about.protocol,
                    traps=(
                        *about.traps,
                        *(
                            [f"not finished: {', '.join(report['missing'])}"]
                            * bool(report["missing"])
                        ),
                    ),
                )
            )
    return found


def described(split: Mapping[str, Any]) -> str:
    """A split in words."""
    match split["kind"]:
        case "own":
            return "the corpus's own split"
        case "random":
            shares = ":".join(f"{share:g}" for share in split["ratio"])
            return f"random {shares} by {split['by']}, seed {split['seed']}"
        case "leave_one_out":
            folds = f" in {split['folds']} folds" if split["folds"] else ""
            return f"leave one {split['by']} out{folds}"
        case _:
            return "listed dialogues"


def command(
    runs: Annotated[list[Path], typer.Argument(help="folders that `fit` wrote")],
    markdown: Annotated[bool, typer.Option("--markdown", help="print Markdown")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Our figures beside the published ones; protocol and traps stand in the same row."""
    with named_errors():
        rows = [row for run in runs for row in rows_of(run)]
        if as_json:
            typer.echo(json.dumps([asdict(row) for row in rows], indent=2, ensure_ascii=False))
            return
        header = ("row", "ours", "published", "our split", "theirs, and what to mind")
        cells = [_cells(row) for row in rows]
        if markdown:
            typer.echo(_markdown(header, cells))
            return
        table = Table(show_lines=True)
        for column in header:
            table.add_column(column, overflow="fold")
        for line in cells:
            table.add_row(*line)
        Console().print(table)


def _cells(row: Row) -> tuple[str, ...]:
    shown = [name for name in row.ours if name in row.published] or ["accuracy", "uar"]
    shown += [name for name in ("accuracy", "uar") if name not in shown]
    ours = "\n".join(f"{name} {row.ours[name][0]:.4f} ± {row.ours[name][1]:.4f}" for name in shown)
    published = "\n".join(
        f"{name} {value:.4f}"
        + (f" ± {row.published_deviation[name]:.4f}" if name in row.published_deviation else "")
        for name, value in row.published.items()
    )
    title = row.title if row.row == MODEL else f"{row.title}, with decoder"
    counted = f"{row.split}; {row.tested} tested, {row.seeds} seeds"
    traps = (f"• {trap}" for trap in row.traps)
    notes = "\n".join((*([row.protocol] if row.protocol else []), *traps))
    return (f"{title}\n({row.run})", ours, published or "–", counted, notes)


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(c.replace("|", "\\|").replace("\n", "<br>") for c in cells) + " |"

    return "\n".join([line(header), "|" + "---|" * len(header), *map(line, rows)])
