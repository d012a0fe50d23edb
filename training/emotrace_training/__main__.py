"""`emotrace-train`: from raw corpora to a bundle, one command a step."""

from __future__ import annotations

import typer

from emotrace_training import (
    acoustic,
    calibrate,
    compose,
    decode,
    evaluate_clips,
    evaluate_dialogues,
    export,
    fusion,
    lexical,
    pipeline,
    prepare,
    pretrain,
)

app = typer.Typer(
    help="Train the bundles that emotrace-serve loads: one command a step, each with a seed. "
    "Work files go under runs/; a step that was interrupted goes on where it was. "
    "docs/training.md walks through all of them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

STEPS = "Steps, in this order"
app.command("all", rich_help_panel=STEPS)(pipeline.command)
app.command("prepare", rich_help_panel=STEPS)(prepare.command)
app.command("pretrain", rich_help_panel=STEPS)(pretrain.command)
app.command("acoustic", rich_help_panel=STEPS)(acoustic.command)
app.command("lexical", rich_help_panel=STEPS)(lexical.command)
app.command("compose", rich_help_panel=STEPS)(compose.command)
app.command("fuse", rich_help_panel=STEPS)(fusion.command)
app.command("calibrate", rich_help_panel=STEPS)(calibrate.command)
app.command("export", rich_help_panel=STEPS)(export.command)

MEASURING = "Measuring"
app.command("evaluate-clips", rich_help_panel=MEASURING)(evaluate_clips.command)
app.command("evaluate-dialogues", rich_help_panel=MEASURING)(evaluate_dialogues.command)
app.command("decode", rich_help_panel=MEASURING)(decode.command)


def main() -> None:
    app()


if __name__ == "__main__":
    main()
