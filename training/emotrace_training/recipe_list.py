"""`recipes`: which recipes come with the package, and what each is."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from emotrace_training.recipe import MAIN, read_recipe, recipe_names
from emotrace_training.telling import named_errors


def command(
    find: Annotated[str, typer.Argument(help="only names with this in them")] = "",
) -> None:
    """List the recipes that come with the package, with their variants."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("recipe", "variants", "title"):
        table.add_column(column, overflow="fold")
    with named_errors():
        for name in recipe_names():
            if find in name:
                variants = read_recipe(name)
                rows = [one.variant for one in variants if one.variant != MAIN]
                table.add_row(name, ", ".join(rows), variants[0].recipe.title)
    Console().print(table)
