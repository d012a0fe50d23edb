"""`recipes`: which recipes come with the package, and what each is."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from emotrace_training.recipe import recipe_head, recipe_names
from emotrace_training.telling import named_errors

FEW = 3  # variants named where many recipes are listed


def command(
    find: Annotated[
        str, typer.Argument(help="only names with this in them; one alone shows all variants")
    ] = "",
) -> None:
    """List the recipes that come with the package, with their variants."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("recipe", "variants", "title"):
        table.add_column(column, overflow="fold", no_wrap=column == "recipe")
    with named_errors():
        names = [name for name in recipe_names() if find in name]
        for name in names:
            title, variants = recipe_head(name)
            shown = variants if len(names) == 1 else variants[:FEW]
            more = len(variants) - len(shown)
            listed = ", ".join(shown) + (f" and {more} more" if more else "")
            table.add_row(name, listed, title)
    Console().print(table)
