"""`emotrace-train prepare`: raw speech corpora to one manifest of labelled clips."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from emotrace_training.corpora.emodb import prepare_emodb
from emotrace_training.corpora.nemo import prepare_nemo
from emotrace_training.corpora.ravdess import prepare_ravdess
from emotrace_training.manifests import ManifestError, Record, write_manifest

CORPORA: dict[str, tuple[str, Callable[[Path], list[Record]]]] = {
    "emodb": ("emodb", prepare_emodb),
    "ravdess": ("ravdess_speech", prepare_ravdess),
    "nemo": ("nemo", prepare_nemo),
}


def command(
    data: Annotated[Path, typer.Option(help="folder that holds the corpora")] = Path(
        "../shared/data"
    ),
    corpora: Annotated[list[str] | None, typer.Option("--corpus", help="default: all")] = None,
    manifest: Annotated[Path, typer.Option(help="where it goes")] = Path("runs/manifest.jsonl"),
) -> None:
    """Write a manifest of labelled speech clips (JSON lines)."""
    clips: list[Record] = []
    for name in corpora or list(CORPORA):
        if name not in CORPORA:
            raise typer.BadParameter(f"no corpus {name!r}; there are {', '.join(CORPORA)}")
        folder, read = CORPORA[name]
        try:
            found = read(data / folder)
        except ManifestError as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(1) from error
        splits = Counter(clip.split for clip in found)
        typer.echo(f"{name}: {len(found)} clips, {dict(splits)}")
        clips += found
    write_manifest(manifest, clips)
    typer.echo(f"{manifest}: {len(clips)} clips")
