"""`emotrace-serve keys`: makes keys for those who may use the server."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from emotrace_service.identity import DEFAULT_SESSIONS, entry, new_key

cli = typer.Typer(help="Keys of those who may use the server.", no_args_is_help=True)


@cli.callback()
def keys() -> None:
    """Keys of those who may use the server."""


@cli.command()
def new(
    name: Annotated[str, typer.Argument(help="Whose key it is: chatbot, page, anna, ...")],
    sessions: Annotated[
        int, typer.Option(min=1, help="How many sessions it may have open at once.")
    ] = DEFAULT_SESSIONS,
) -> None:
    """Makes a key. Its entry goes to the output, the key itself to the terminal, once:

    emotrace-serve keys new chatbot >> keys.toml

    then EMOTRACE_KEYS=keys.toml emotrace-serve. The server knows only the key's digest.
    """
    key = new_key()
    print(entry(name, key, sessions))
    print(f"The key of {name!r}, which is shown this once: {key}", file=sys.stderr)
