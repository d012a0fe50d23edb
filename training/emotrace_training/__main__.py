"""`emotrace-train`: from raw corpora to a bundle, one command a step."""

from __future__ import annotations

import typer

from emotrace_training import (
    acoustic,
    acoustic_report,
    bundle_step,
    calibrate,
    compare,
    compose,
    composed_records,
    convert_clap,
    decode,
    evaluate,
    evaluate_clips,
    evaluate_cost,
    evaluate_dialogues,
    evaluate_robustness,
    evaluate_text,
    export,
    extract,
    face,
    fast,
    fine_tune,
    fit,
    fusion,
    lexical,
    pipeline,
    prepare,
    pretrain,
    recalibrate,
    recipe_list,
    report,
    vectors,
)

app = typer.Typer(
    help="Train the models that emotrace-serve loads. Work files go under runs/; a step that was "
    "interrupted goes on where it was. docs/training.md walks through all of it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

RECIPES = "Any model on any corpus, by a recipe, in this order"
app.command("recipes", rich_help_panel=RECIPES)(recipe_list.command)
app.command("prepare", rich_help_panel=RECIPES)(prepare.command)
app.command("extract", rich_help_panel=RECIPES)(extract.command)
app.command("fit", rich_help_panel=RECIPES)(fit.command)
app.command("evaluate", rich_help_panel=RECIPES)(evaluate.command)
app.command("export", rich_help_panel=RECIPES)(export.command)
app.command("fast", rich_help_panel=RECIPES)(fast.command)
app.command("compare", rich_help_panel=RECIPES)(compare.command)

SITE = "A bundle on your own site"
app.command("calibrate", rich_help_panel=SITE)(recalibrate.command)
app.command("fine-tune", rich_help_panel=SITE)(fine_tune.command)

BEFORE = "What a recipe may need first"
app.command("pretrain", rich_help_panel=BEFORE)(pretrain.command)
app.command("face", rich_help_panel=BEFORE)(face.command)
app.command("composed-manifest", rich_help_panel=BEFORE)(composed_records.command)
app.command("vectors", rich_help_panel=BEFORE)(vectors.command)
app.command("convert-clap", rich_help_panel=BEFORE)(convert_clap.command)

DEFAULT = "The bundle that comes with the package (`all`, or in steps)"
app.command("all", rich_help_panel=DEFAULT)(pipeline.command)
app.command("acoustic", rich_help_panel=DEFAULT)(acoustic.command)
app.command("acoustic-report", rich_help_panel=DEFAULT)(acoustic_report.command)
app.command("lexical", rich_help_panel=DEFAULT)(lexical.command)
app.command("compose", rich_help_panel=DEFAULT)(compose.command)
app.command("fuse", rich_help_panel=DEFAULT)(fusion.command)
app.command("calibrate-dialogues", rich_help_panel=DEFAULT)(calibrate.command)
app.command("bundle", rich_help_panel=DEFAULT)(bundle_step.command)

MEASURING = "Measuring a bundle, or the decoder"
app.command("evaluate-clips", rich_help_panel=MEASURING)(evaluate_clips.command)
app.command("report", rich_help_panel=MEASURING)(report.command)
app.command("evaluate-dialogues", rich_help_panel=MEASURING)(evaluate_dialogues.command)
app.command("evaluate-text", rich_help_panel=MEASURING)(evaluate_text.command)
app.command("evaluate-robustness", rich_help_panel=MEASURING)(evaluate_robustness.command)
app.command("evaluate-cost", rich_help_panel=MEASURING)(evaluate_cost.command)
app.command("decode", rich_help_panel=MEASURING)(decode.command)


def main() -> None:
    app()


if __name__ == "__main__":
    main()
