"""`emotrace-train decode`: the Dialogical Emotion Decoder over any classifier's scores.

Metrics count the utterances whose label is a class; all turns are decoded. Without --p0 the shift
probability is estimated leave-one-fold-out on the reference labels of the other folds' dialogues.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from emotrace_models.decoding import (
    Decoded,
    DecoderConfig,
    decode_dialogue,
    estimate_p0,
    log_softmax,
)
from emotrace_training import metrics
from emotrace_training.score_files import (
    ScoredDialogue,
    ScoreFileError,
    read_dialogues,
    read_scores,
)


def shift_probabilities(
    dialogues: Sequence[ScoredDialogue], given: float | None
) -> dict[str, float]:
    """p0 for each fold: `given`, or estimated on the dialogues of all other folds (models.md 3.2).

    Raises ScoreFileError where there is nothing to estimate it from.
    """
    folds = sorted({dialogue.fold or "" for dialogue in dialogues})
    if given is not None:
        return dict.fromkeys(folds, given)
    if len(folds) < 2:
        raise ScoreFileError(
            "p0 is estimated leave-one-fold-out, and the table has no column with two folds or "
            "more: name one with --fold-column, or give --p0"
        )
    sequences = [
        (dialogue.fold or "", [(turn.speaker, turn.reference) for turn in dialogue.turns])
        for dialogue in dialogues
    ]
    try:
        return {fold: estimate_p0(turns for f, turns in sequences if f != fold) for fold in folds}
    except ValueError as error:
        raise ScoreFileError(f"p0: {error}") from error


def revision_figures(decoded: Sequence[Decoded]) -> dict[str, Any]:
    """How often live labels change: turns that rewrite others, labels rewritten, their age."""
    turns = [ages for dialogue in decoded for ages in dialogue.ages]
    ages = np.array([age for turn in turns for age in turn])
    return {
        "turns_that_revise": sum(1 for turn in turns if turn),
        "labels_rewritten": len(ages),
        "share_within_turns": {
            str(limit): float((ages <= limit).mean()) if len(ages) else None for limit in (2, 5, 10)
        },
        "oldest_turns": int(ages.max(initial=0)),
    }


def decode_scores(
    dialogues: Sequence[ScoredDialogue],
    classes: Sequence[str],
    p0: dict[str, float],
    config: DecoderConfig,
    passes: int,
) -> tuple[dict[str, Any], list[tuple[str, str, str, str]]]:
    """The report, and (utterance, dialogue, decoded class, classifier's class) of every turn.

    `config.p0` is replaced by the dialogue's fold's.
    """
    decoded = []
    truth: list[int] = []
    chosen: dict[str, list[int]] = {"decoder": [], "classifier": []}
    outside: Counter[str] = Counter()
    rows = []
    for dialogue in dialogues:
        if dialogue.scores is None:
            continue
        settings = replace(config, p0=p0[dialogue.fold or ""])
        log_scores = log_softmax(dialogue.scores)
        result = decode_dialogue(
            [turn.speaker for turn in dialogue.turns], log_scores, settings, passes
        )
        decoded.append(result)
        alone = log_scores.argmax(axis=1).tolist()
        for turn, label, plain in zip(dialogue.turns, result.emitted, alone, strict=True):
            rows.append((turn.utt, dialogue.id, classes[label], classes[plain]))
            if turn.label is None:
                outside[turn.reference] += 1
                continue
            truth.append(turn.label)
            chosen["decoder"].append(label)
            chosen["classifier"].append(plain)
    if not truth:
        raise ScoreFileError(
            f"no decoded utterance has a label among {', '.join(classes)}: name the column that "
            "holds the labels with --label-column"
        )
    summaries = {
        name: metrics.summary(metrics.confusion(truth, labels, len(classes)), classes)
        for name, labels in chosen.items()
    }
    report = {
        **summaries["decoder"],
        "classifier": summaries["classifier"],
        "dialogues": len(decoded),
        "dialogues_without_scores": len(dialogues) - len(decoded),
        "turns": len(rows),
        "outside_class_set": dict(outside.most_common()),
        "revisions": revision_figures(decoded) if passes == 1 else None,
    }
    return report, rows


def command(
    logits: Annotated[Path, typer.Option(help="Score file .npz: `utt`, `classes` and the scores.")],
    utterances: Annotated[Path, typer.Option(help="CSV with a row for each utterance.")],
    key: Annotated[str, typer.Option(help="Name of the score array [N, C].")] = "logits",
    beam: Annotated[int, typer.Option(min=1, help="Hypotheses kept.")] = 10,
    passes: Annotated[int, typer.Option(min=1, help="2 decodes twice over: not causal.")] = 1,
    lag: Annotated[
        int | None, typer.Option(min=0, help="Read each label this many turns later; else last.")
    ] = None,
    commit: Annotated[bool, typer.Option(help="Never contradict a label once read.")] = False,
    p0: Annotated[float | None, typer.Option(help="Shift probability; else estimated.")] = None,
    alpha: Annotated[float, typer.Option(help="Concentration.")] = 1.0,
    recombine: Annotated[
        bool, typer.Option(help="Merge equal hypotheses: exact, not in the published decoder.")
    ] = False,
    temperature: Annotated[float, typer.Option(help="Divides the scores.")] = 1.0,
    scheme: Annotated[
        str | None, typer.Option(help="Project labels, given as names, by this label scheme.")
    ] = None,
    utt_column: Annotated[str | None, typer.Option(help="Utterance's name.")] = None,
    dialog_column: Annotated[str | None, typer.Option(help="Dialogue's name.")] = None,
    order_column: Annotated[str | None, typer.Option(help="Place in the dialogue.")] = None,
    speaker_column: Annotated[str | None, typer.Option(help="Speaker; empty: unknown.")] = None,
    label_column: Annotated[
        str | None, typer.Option(help="Class index (-1: none) or name.")
    ] = None,
    all_labels_column: Annotated[str | None, typer.Option(help="Labels that p0 counts.")] = None,
    fold_column: Annotated[str | None, typer.Option(help="Folds that p0 leaves out.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the labels of all turns here.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Decode the emotions of whole dialogues from a classifier's scores, and measure the gain.

    Without --lag the labels are those of the best path after the dialogue's last turn.
    """
    named = {
        "utt": utt_column,
        "dialog": dialog_column,
        "order": order_column,
        "speaker": speaker_column,
        "label": label_column,
        "all-labels": all_labels_column,
        "fold": fold_column,
    }
    try:
        scores = read_scores(logits, key)
        dialogues, columns = read_dialogues(
            utterances, scores, {role: name for role, name in named.items() if name}, scheme
        )
        probabilities = shift_probabilities(dialogues, p0)
        config = DecoderConfig(
            p0=next(iter(probabilities.values())),
            alpha=alpha,
            beam=beam,
            lag=lag,
            commit=commit,
            recombine=recombine,
            horizon=max(128, (lag or 0) + 1),
            temperature=temperature,
        )
        report, rows = decode_scores(dialogues, scores.classes, probabilities, config, passes)
    except ValueError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    report["settings"] = {
        "beam": beam, "passes": passes, "lag": lag, "commit": commit, "alpha": alpha,
        "recombine": recombine, "temperature": temperature, "scheme": scheme,
        "columns": columns,
        "p0": probabilities,
        "p0_source": "given" if p0 is not None else "the other folds' reference labels",
    }  # fmt: skip
    if out is not None:
        with out.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["utt", "dialog", "decoded", "classifier"])
            writer.writerows(rows)
    if as_json:
        typer.echo(json.dumps(report, indent=2))
    else:
        _show(report)


def _show(report: dict[str, Any]) -> None:
    table = Table(title=f"{report['count']} labelled of {report['turns']} turns decoded")
    table.add_column("")
    names = ("uar", "accuracy", "f1_macro", "f1_weighted")
    for name in names:
        table.add_column(name, justify="right")
    for title, figures in (("classifier alone", report["classifier"]), ("decoded", report)):
        table.add_row(title, *(f"{figures[name]:.4f}" for name in names))
    Console().print(table)
