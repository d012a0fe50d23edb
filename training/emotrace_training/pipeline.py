"""`emotrace-train all`: every step from raw corpora to an evaluated bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from emotrace_training import (
    acoustic,
    bundle_step,
    calibrate,
    compose,
    evaluate_dialogues,
    face,
    fusion,
    lexical,
    prepare,
    report,
)


def command(
    data: Annotated[Path, typer.Option(help="folder that holds the corpora")] = Path(
        "../shared/data"
    ),
    out: Annotated[Path, typer.Option(help="where the bundles of all seeds go")] = Path(
        "runs/bundles"
    ),
    seeds: Annotated[int, typer.Option(min=1, help="models and test sets")] = 3,
) -> None:
    """All steps in order; the bundle of seed 0, with its figures, ends in OUT/default."""
    runs = Path("runs")
    _say("1 of 8: manifest of clips")
    prepare.command(data=data)
    _say("2 of 8: acoustic towers (the longest step)")
    acoustic.command()
    _say("3 of 8: lexical towers")
    lexical.command(text=data / "text")
    _say("4 of 8: face towers")
    face.command(data / "fer2013")
    for seed in range(1, seeds):  # held-out vectors of voices and lines are those of seed 0
        _say(f"2 to 4 of 8: towers of seed {seed}")
        acoustic.command(seed=seed, out=runs / f"acoustic-{seed}", shipped_only=True)
        lexical.command(text=data / "text", seed=seed, out=runs / f"lexical-{seed}", folds=0)
        face.command(data / "fer2013", seed=seed, out=runs / f"face-{seed}")
    _say("5 of 8: composed dialogues")
    compose.command(text=data / "text", seeds=seeds)
    _say("6 of 8: fusion models")
    fusion.command(seeds=seeds)
    _say("7 of 8: calibration and bundles")
    bundles = [out / f"seed-{seed}" for seed in range(seeds)]
    for seed, bundle in enumerate(bundles):
        calibrate.command(seed=seed)
        bundle_step.command(seed=seed, out=bundle)
    _say("8 of 8: figures on the test split")
    evaluate_dialogues.command(bundle=[str(bundle) for bundle in bundles], seeds=seeds)
    bundle_step.command(out=out / "default")
    report.command(
        bundle=str(out / "default"),
        data=data,
        dialogues=runs / "evaluation" / "report.json",
        update_card=True,
    )
    _say(f"Done. Try it: emotrace-serve --bundle {out / 'default'}")


def _say(text: str) -> None:
    typer.secho(text, bold=True, err=True)
