"""`convert-clap`: a `.pt` checkpoint of laion-clap as a folder that CLAP's encoders read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from emotrace_models.encoders.subwords import TOKENIZER


def command(
    checkpoint: Annotated[Path, typer.Argument(help="Such as 630k-audioset-best.pt.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write.")],
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            help="RoBERTa's tokenizer.json, which no checkpoint holds; else the one beside it."
        ),
    ] = None,
    text_heads: Annotated[
        int | None, typer.Option(help="Attention heads of the text tower; else its width by 64.")
    ] = None,
) -> None:
    """Convert a checkpoint of laion-clap to the folder that `clap_audio` and `clap_text` read.

    The folder has config.json, model.safetensors and tokenizer.json. Only unfused checkpoints with
    HTSAT and RoBERTa can be converted. Name the folder as `weights` in a recipe's streams.
    """
    # transformers takes seconds to load, which no other command should wait for.
    from emotrace_models.encoders.clap_checkpoint import BadCheckpoint, convert

    words = tokenizer or checkpoint.with_name(TOKENIZER)
    if not checkpoint.is_file():
        raise typer.BadParameter(f"{checkpoint} is no file")
    if not words.is_file():
        raise typer.BadParameter(f"{words} is no file; give RoBERTa's tokenizer.json: --tokenizer")
    try:
        convert(checkpoint, out, words, text_heads)
    except (BadCheckpoint, OSError) as error:
        raise typer.BadParameter(str(error)) from error
    typer.echo(f"wrote {out}")
