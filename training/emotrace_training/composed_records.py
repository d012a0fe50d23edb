"""`composed-manifest`: the dialogues of `compose` as records, for recipes (corpus `composed`).

    emotrace-train prepare emodb ravdess nemo --manifest runs/manifest.jsonl
    emotrace-train compose
    emotrace-train composed-manifest --manifest runs/manifest.jsonl --out runs/composed.jsonl

Splits are those of the text and of the actors: `split = { kind = "own" }`. A turn whose actor has
no clip of its emotion is a record without audio.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from emotrace_training.casting import RECORD_SPLITS
from emotrace_training.compose import ComposedDialogue, composed_file, read_composed
from emotrace_training.dialogues import SPLITS
from emotrace_training.manifests import (
    ManifestError,
    Record,
    RecordSplit,
    read_clips,
    write_manifest,
)
from emotrace_training.telling import named_errors

CORPUS = "composed"
TEXT_LICENCES = {
    "meld": "GPL-3.0",
    "emorynlp": "Apache-2.0",
    "dailydialog": "CC-BY-NC-SA-4.0",
}


def composed_records(
    dialogues: Sequence[ComposedDialogue], clips: Mapping[str, Record], split: RecordSplit
) -> list[Record]:
    """A record a turn; clips: by file. Turns follow one another without a pause.

    Raises ManifestError where a dialogue names a clip that is not among them.
    """
    records = []
    for dialogue in dialogues:
        now = 0.0
        for number, turn in enumerate(dialogue.turns):
            clip = None if turn.clip is None else clips.get(turn.clip)
            if turn.clip is not None and clip is None:
                raise ManifestError(
                    f"dialogue {dialogue.id}: no clip {turn.clip} in the manifest; give "
                    "`compose` and `composed-manifest` the same one"
                )
            seconds = 0.0 if clip is None else clip.seconds
            licences = {TEXT_LICENCES.get(dialogue.corpus, "")}
            if clip is not None:
                licences.add(clip.licence)
            name = f"{split}/{dialogue.id}"
            records.append(
                Record(
                    id=f"{name}/{number}",
                    corpus=CORPUS,
                    dialogue=name,
                    turn=number,
                    start_s=round(now, 3),
                    end_s=round(now + seconds, 3),
                    speaker=f"{CORPUS}:{turn.speaker}",
                    emotion=turn.label,
                    split=split,
                    label_raw=turn.label,
                    text=turn.text,
                    language="en",
                    licence=" AND ".join(sorted(licences - {""})),
                    file=turn.clip,
                    seconds=seconds,
                    flags=(f"actor={dialogue.actors[turn.speaker]}",),
                )
            )
            now += seconds
    return records


def command(
    composed: Annotated[Path, typer.Option(help="from `compose`")] = Path("runs/composed"),
    manifest: Annotated[Path, typer.Option(help="the clips that `compose` was given")] = Path(
        "runs/manifest.jsonl"
    ),
    out: Annotated[Path, typer.Option(help="where the records go")] = Path("runs/composed.jsonl"),
    draw: Annotated[int, typer.Option(help="which of the drawn sets")] = 0,
    most: Annotated[
        int | None, typer.Option(min=1, help="dialogues of each split, chosen by `draw`")
    ] = None,
) -> None:
    """Write composed dialogues as a manifest that recipes can use (corpus `composed`)."""
    with named_errors():
        clips = {clip.audio: clip for clip in read_clips(manifest)}
        records = []
        for split in SPLITS:
            dialogues = read_composed(composed_file(composed, split, draw))
            if most is not None and most < len(dialogues):
                dialogues = random.Random(draw).sample(dialogues, most)
            found = composed_records(dialogues, clips, RECORD_SPLITS[split])
            voices = sum(record.file is not None for record in found)
            typer.echo(f"{split}: {len(dialogues)} dialogues, {len(found)} turns, {voices} voices")
            records += found
        write_manifest(out, records)
        typer.echo(f"{out}: {len(records)} records")
