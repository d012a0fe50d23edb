"""`evaluate-text`: lexical towers on MELD's and GoEmotions' lines, seven classes, line by line.

Each tower reads the lines alone, without what was said before. Its logits are read out with a bias
a class, set on the corpus's dev split with the metric that is reported: MELD weighted F1,
GoEmotions macro F1 (comments whose labels fall into one Ekman group). Several towers, one a seed,
give mean and standard deviation.

With `--noise` the lines are also read without case and punctuation, and with simulated recognition
errors (asr_noise). With `--manifest` it says of which share of the clips' transcripts, by language,
a vector is given where nobody states the language.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from emotrace_models.bundle import Bundle, BundleError, bundle_path
from emotrace_models.encoders.compact_lexical import CompactLexical
from emotrace_models.types import Transcript
from emotrace_training.asr_noise import AsrNoise, said, word_errors
from emotrace_training.dialogues import Split
from emotrace_training.lexical import load_tower
from emotrace_training.manifests import read_manifest
from emotrace_training.text_corpora import read_dialogues
from emotrace_training.text_scoring import (
    METRICS,
    Lines,
    Said,
    as_written,
    biases,
    logits,
    read_lines,
    scores,
)

WRITTEN = "as written"
RATES = (0.1, 0.2, 0.3)
NOISE_SEED = 0  # of the recognition errors, the same for every tower


def readings(text: Path) -> dict[str, Said]:
    """What a row's towers are given of a line. The lexicon of errors is that of the training
    dialogues."""
    dialogues = read_dialogues(text, "train")
    noise = AsrNoise.of(line.text for dialogue in dialogues for line in dialogue.lines)

    def at(rate: float) -> Said:
        generator = random.Random(NOISE_SEED)
        return lambda line: noise.heard(line, rate, generator) or line

    rows: dict[str, Said] = {"no case, no punctuation": lambda line: " ".join(said(line)) or line}
    return rows | {f"errors drawn at {rate:.0%}": at(rate) for rate in RATES}


def reading(lines: Lines, said_of: Said) -> tuple[Lines, float]:
    """The lines as a row has them, and their word error rate against the plain words."""
    texts = tuple(said_of(text) for text in lines.texts)
    wrong = sum(
        word_errors(said(text), said(got)) for text, got in zip(lines.texts, texts, strict=True)
    )
    words = sum(len(said(text)) for text in lines.texts)
    return Lines(lines.corpus, texts, lines.truth, lines.labels), wrong / max(words, 1)


def over_seeds(rows: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Each figure's mean and, of several towers, standard deviation (n - 1)."""
    found = {}
    for name in rows[0]:
        values = np.array([row[name] for row in rows], dtype=np.float64)
        spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
        found[name] = {"mean": float(values.mean()), "sd": spread}
    return found


def measured(
    towers: Sequence[CompactLexical], text: Path, split: Split, noise: bool
) -> dict[str, Any]:
    """Corpus -> row -> figures over the towers. Raises CorpusUnreadable."""
    rows: dict[str, Said] = {WRITTEN: as_written}
    if noise:
        rows |= readings(text)
    found: dict[str, Any] = {}
    for corpus in METRICS:
        dev, lines = read_lines(text, corpus, "dev"), read_lines(text, corpus, split)
        bias = [biases(logits(tower, dev), dev) for tower in towers]
        found[corpus] = {}
        for name, said_of in rows.items():
            seen, errors = reading(lines, said_of)
            figures = [scores(t, seen, b) for t, b in zip(towers, bias, strict=True)]
            found[corpus][name] = {"word_error_rate": errors, **over_seeds(figures)}
    return found


def languages_read(tower: CompactLexical, manifest: Path) -> dict[str, float]:
    """Language of a clip -> the share of its different transcripts that the tower reads, where
    nobody states the language."""
    lines: dict[str, set[str]] = defaultdict(set)
    for record in read_manifest(manifest):
        if record.text.strip():
            lines[record.language].add(record.text)
    return {
        language: sum(tower.reads(Transcript(line, "client")) for line in found) / len(found)
        for language, found in sorted(lines.items())
    }


def tower_of(bundle: Bundle) -> CompactLexical:
    """Raises typer.BadParameter where the bundle has none."""
    for encoder in bundle.encoders:
        if isinstance(encoder, CompactLexical):
            return encoder
    raise typer.BadParameter(f"bundle {bundle.name} has no compact_lexical", param_hint="--bundle")


def command(
    tower: Annotated[
        list[Path] | None, typer.Option(help="folders of `lexical`, one a seed; may be repeated")
    ] = None,
    bundle: Annotated[
        str | None, typer.Option(help="a bundle's name or folder, in the place of towers")
    ] = None,
    text: Annotated[Path, typer.Option(help="folder of the text corpora")] = Path(
        "../shared/data/text"
    ),
    split: Annotated[str, typer.Option(help="dev, or at the end test")] = "dev",
    noise: Annotated[bool, typer.Option(help="rows with recognition errors too")] = False,
    manifest: Annotated[
        Path | None, typer.Option(help="of `prepare`: which languages' words are read")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="where the figures go, as JSON")] = None,
    threads: Annotated[int, typer.Option(min=1, help="processor threads")] = 1,
) -> None:
    """Score lexical towers on single lines of MELD and GoEmotions."""
    torch.set_num_threads(threads)
    if split not in ("dev", "test"):
        raise typer.BadParameter("dev or test", param_hint="--split")
    if (tower is None) == (bundle is None):
        raise typer.BadParameter("towers or a bundle", param_hint="--tower")
    if bundle is not None:
        try:
            towers = [tower_of(Bundle.load(bundle_path(bundle)))]
        except BundleError as error:
            raise typer.BadParameter(str(error), param_hint="--bundle") from error
    else:
        towers = [load_tower(folder) for folder in tower or ()]
    report: dict[str, Any] = {
        "split": split,
        "towers": len(towers),
        **measured(towers, text, "test" if split == "test" else "dev", noise),
    }
    if manifest is not None:
        report["languages read"] = languages_read(towers[0], manifest)
    written = json.dumps(report, indent=2)
    if out is not None:
        out.write_text(written + "\n")
    typer.echo(written)
