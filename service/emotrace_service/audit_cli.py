"""`emotrace-serve audit verify`: is the audit log as it was written?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from emotrace_service.audit_chain import Link, head_of, verify

app = typer.Typer(name="audit", help="The audit log.", no_args_is_help=True)


@app.callback()
def audit() -> None:
    """The audit log."""


@app.command("verify")
def verify_files(
    files: Annotated[list[Path], typer.Argument(help="Of one log, the oldest first.")],
    anchor: Annotated[
        list[str] | None,
        typer.Option(help="NUMBER:SHA256 of a line that there must be, from the server's log."),
    ] = None,
) -> None:
    """Check that no line was changed, removed or moved.

    That none is missing at the end is checked by the file beside the log (FILE.head), and by
    anchors that the server told in its ordinary log ("audit anchor").
    """
    try:
        anchors = [Link.read(text) for text in anchor or ()]
        head = head_of(files[-1])
        if head.exists():
            anchors.append(Link.read(head.read_text("ascii")))
        found = verify([(str(file), file.read_bytes()) for file in files], anchors)
    except (OSError, ValueError) as error:
        typer.echo(f"The audit log cannot be checked: {error}.", err=True)
        raise typer.Exit(2) from None
    for note in found.notes:
        typer.echo(f"note: {note}")
    for fault in found.faults:
        typer.echo(f"FAULT: {fault}")
    if not head.exists() and not anchor:
        typer.echo("note: without an anchor nothing is known of lines missing at the end")
    verdict = f"{len(found.faults)} faults" if found.faults else "unbroken"
    typer.echo(f"{found.lines} lines, {verdict}; the last is {found.last}")
    raise typer.Exit(1 if found.faults else 0)
