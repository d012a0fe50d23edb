"""`convert-clap`: a `.pt` checkpoint of laion-clap as a folder that CLAP's encoders read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from emotrace_models.encoders.clap_checkpoint import BadCheckpoint, convert


def command(
    checkpoint: Annotated[Path, typer.Argument(help="Such as 630k-audioset-best.pt.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write.")],
    tokenizer: Annotated[
        Path, typer.Option(help="RoBERTa's tokenizer.json, which no checkpoint holds.")
    ],
    text_heads: Annotated[
        int | None, typer.Option(help="Attention heads of the text tower; else its width by 64.")
    ] = None,
) -> None:
    """Convert a checkpoint of laion-clap to the folder that `clap_audio` and `clap_text` read.

    The folder has config.json, model.safetensors and tokenizer.json. Only unfused checkpoints with
    HTSAT and RoBERTa can be converted. Name the folder as `weights` in a recipe's streams.
    """
    for file in (checkpoint, tokenizer):
        if not file.is_file():
            raise typer.BadParameter(f"{file} is no file")
    try:
        convert(checkpoint, out, tokenizer, text_heads)
    except (BadCheckpoint, OSError) as error:
        raise typer.BadParameter(str(error)) from error
    typer.echo(f"wrote {out}")
