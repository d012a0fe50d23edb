"""What every benchmark gives: tables, ratios held against a bar, and what they were measured on.

A ratio always comes with the largest difference between the outputs of the two things compared, so
that nothing is called faster which computes something else.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import rich.table
from rich.console import Console

from emotrace_bench.charts import Chart
from emotrace_bench.machine import commit, this_machine

FORMAT = 1
WIDTH = 110  # characters, at least: narrower tables are hard to read

Value = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Table:
    """Raises ValueError where a row has not one value a column. The unit is in the column's name;
    None is printed as a dash: not measured, or there is no such thing."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{self.title}: {len(row)} values for {len(self.columns)} columns")


@dataclass(frozen=True, slots=True)
class Ratio:
    """difference: the largest between the two outputs; None where one thing is measured twice.
    of: what the difference is one of (logits, costs). least, most: the bar, where there is one.
    aim: what would be better still.
    """

    name: str
    value: float
    difference: float | None
    of: str = "logits"
    least: float | None = None
    most: float | None = None
    aim: float | None = None

    @property
    def met(self) -> bool | None:
        """None where there is no bar."""
        if self.least is None and self.most is None:
            return None
        return (self.least is None or self.value >= self.least) and (
            self.most is None or self.value <= self.most
        )

    @property
    def bar(self) -> str:
        parts = [f"at least {self.least:g}"] if self.least is not None else []
        parts += [f"at most {self.most:g}"] if self.most is not None else []
        parts += [f"aim {self.aim:g}"] if self.aim is not None else []
        return ", ".join(parts) or "-"


@dataclass(frozen=True, slots=True)
class Result:
    """settings: what another run needs to be the same, beside the seed. notes: plain sentences.
    quick: a run that shows only that everything works; its ratios meet no bar and miss none."""

    benchmark: str
    settings: Mapping[str, Value]
    seed: int
    tables: tuple[Table, ...]
    ratios: tuple[Ratio, ...] = ()
    notes: tuple[str, ...] = ()
    charts: tuple[Chart, ...] = ()
    quick: bool = False

    def met(self, ratio: Ratio) -> bool | None:
        return None if self.quick else ratio.met


def document(result: Result) -> dict[str, Any]:
    """The result with machine, commit, command and time, as JSON values."""
    return {
        "format": FORMAT,
        "benchmark": result.benchmark,
        "command": command_line(sys.argv),
        "commit": commit(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": asdict(this_machine()),
        "settings": dict(result.settings),
        "seed": result.seed,
        "quick": result.quick,
        "ratios": [{**asdict(ratio), "met": result.met(ratio)} for ratio in result.ratios],
        "tables": [
            {
                "title": table.title,
                "rows": [dict(zip(table.columns, row, strict=True)) for row in table.rows],
            }
            for table in result.tables
        ],
        "notes": list(result.notes),
    }


def command_line(arguments: Sequence[str]) -> str:
    return shlex.join([Path(arguments[0]).name, *arguments[1:]])


def deliver(result: Result, out: Path | None, plot: Path | None) -> None:
    """Print the result; write it to `out` and draw it to `plot` where these are given.

    Raises OSError where a file cannot be written, PlotUnavailable without matplotlib.
    """
    written = document(result)
    show(result, written)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(written, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        print(f"written: {out}")
    if plot is not None:
        from emotrace_bench.drawing import draw

        draw(result.charts, plot)
        print(f"drawn: {plot}")


def show(result: Result, written: Mapping[str, Any]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.width = max(console.width, WIDTH)
    machine = written["machine"]
    accelerator = f", {machine['accelerator']}" if machine["accelerator"] else ""
    console.print(
        f"{written['command']}\n{machine['processor']}, {machine['cores']} cores{accelerator}; "
        f"commit {written['commit']}; seed {result.seed}",
        markup=False,
    )
    if result.quick:
        console.print("A quick run: it shows that everything works, and no figure of it counts.")
    for table in result.tables:
        grid = rich.table.Table(title=table.title, title_justify="left")
        for number, column in enumerate(table.columns):
            grid.add_column(column, justify="right" if number else "left")
        for row in table.rows:
            grid.add_row(*map(shown, row))
        console.print(grid)
    for ratio in result.ratios:
        console.print(sentence(ratio, result.met(ratio)), markup=False)
    for note in result.notes:
        console.print(note, markup=False)


def sentence(ratio: Ratio, met: bool | None) -> str:
    judged = {None: "", True: f" ({ratio.bar}: met)", False: f" ({ratio.bar}: NOT met)"}[met]
    outputs = (
        ""
        if ratio.difference is None
        else f"; largest difference of {ratio.of} {ratio.difference:.1e}"
    )
    return f"{ratio.name}: {shown(ratio.value)}{judged}{outputs}"


def shown(value: Value) -> str:
    """Three digits that count; larger numbers whole."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
