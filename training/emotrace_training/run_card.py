"""The card of a bundle that was trained by a recipe: data, protocol, figures, limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from emotrace_models.types import Modality
from emotrace_training.run_folder import Trained, Variant

_USE = """\
## What it does, and what it must not be used for

It estimates the emotion that is *expressed*, of the classes below; everything else comes out as one
of them. It cannot know what a person feels. It must not be used for decisions about a person: not
for hiring, school or work assessment, not for credit, insurance, policing, borders or courts, not
for diagnosis or as a safety device, not to find lies or intent, not on people who have not been
told and have not agreed, and not on children. In the European Union, emotion recognition at work
and in education is prohibited (Regulation (EU) 2024/1689, article 5), and elsewhere people must be
told of it (article 50)."""


def write_run_card(
    name: str,
    version: str,
    licence: str,
    variant: Variant,
    trained: Trained,
    report: Mapping[str, Any],
    required: Sequence[Modality],
) -> str:
    """card.md; report: from scoring.score."""
    recipe, own = variant.recipe, trained.report()
    sizes = ", ".join(f"{part} {count:,}" for part, count in own["parameters"].items())
    streams = ", ".join(
        f"{stream} ({table.encoder or f'from bundle {table.bundle}'}"
        f"{', tuned' if table.tune else ''})"
        for stream, table in recipe.streams.items()
    )
    needed = ", ".join(required) if required else "any of its modalities"
    data = report["data"]
    parts = [
        f"# Bundle `{name}`, version {version}",
        f"{recipe.recipe.title}. Fusion model `{recipe.model.name}`; streams: {streams}. "
        f"Parameters: {sizes}. Every utterance must have: {needed}.",
        f"Licence of the weights, from the data: **{licence}**.",
        _USE,
        "## Data",
        f"Corpora: {', '.join(data['corpora'])}; languages: {', '.join(data['languages'])}. "
        f"Fold {trained.fold}, seed {trained.seed}: {own['counts']['train']} utterances for "
        f"training, {own['counts']['valid']} for validation, {own['counts']['test']} for test. "
        f"Classes: {', '.join(report['classes'])}.",
        "## Figures",
        f"On the test part, all folds together, {len(report['seeds'])} seeds, mean and deviation "
        "(`emotrace-train evaluate`):",
        _table(report),
    ]
    if recipe.recipe.published:
        figures = ", ".join(f"{k} {v:.4f}" for k, v in recipe.recipe.published.items())
        parts.append(
            f"Published ({recipe.recipe.source}): {figures}. {recipe.recipe.protocol}".strip()
        )
    if recipe.recipe.traps:
        parts.append("\n".join(f"* {trap}" for trap in recipe.recipe.traps))
    return "\n\n".join(parts) + "\n"


def _table(report: Mapping[str, Any]) -> str:
    metrics = ("uar", "accuracy", "f1_macro", "f1_weighted")
    lines = ["| | " + " | ".join(metrics) + " |", "|---" * (len(metrics) + 1) + "|"]
    for row, scores in report["rows"].items():
        cells = [f"{scores[m]['mean']:.3f} ± {scores[m]['sd']:.3f}" for m in metrics]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines)
