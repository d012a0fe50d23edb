"""Command-line options that `calibrate` and `fine-tune` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Table = Annotated[
    Path,
    typer.Option(
        "--labels",
        help="table (.csv, .tsv, .jsonl) of file, speaker, emotion; perhaps text, language, "
        "from and to (seconds)",
    ),
]
Root = Annotated[Path, typer.Option(help="folder that the column `file` starts from")]
Out = Annotated[Path, typer.Option("--out", "-o", help="the new bundle's folder")]
Source = Annotated[str, typer.Option("--bundle", help="name of a shipped bundle, or a folder")]
Split = Annotated[str | None, typer.Option(help="rows of this split only; default: all but `test`")]
Words = Annotated[
    bool, typer.Option("--words", help="use the column `text` too, not the sound alone")
]
Meanings = Annotated[
    list[str] | None, typer.Option("--label", help="what a label means, as in cheerful=joy")
]
Name = Annotated[str | None, typer.Option(help="default: the bundle's with -site")]
Seed = Annotated[int, typer.Option(help="of the order of each speaker's utterances")]
