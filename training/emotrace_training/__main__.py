"""`emotrace-train`: from raw corpora to a bundle, one command a step."""

from __future__ import annotations

import typer

from emotrace_training import compose, decode, lexical

app = typer.Typer(
    help="Train the bundles that emotrace-serve loads: one command a step, each resumable, each "
    "with a seed. Work files go under runs/. docs/training.md walks through all of them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.command("lexical")(lexical.command)
app.command("compose")(compose.command)
app.command("decode")(decode.command)


def main() -> None:
    app()


if __name__ == "__main__":
    main()
