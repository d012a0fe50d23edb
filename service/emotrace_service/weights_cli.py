"""`emotrace-serve models list | pull | seal`: pulled weights, and the seals of bundles."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from emotrace_models.bundle_config import CONFIG, BundleError, seal
from emotrace_models.licences import forbids
from emotrace_models.weights import (
    WeightFile,
    WeightsError,
    WeightSet,
    find_weights,
    is_present,
    load_lock,
)
from emotrace_service.errors import StartRefused
from emotrace_service.settings import load_settings
from emotrace_service.weights_pull import pull

DEFAULT_WEIGHTS = "whisper-base"

app = typer.Typer(
    name="models", help="Weights that do not ship with the package.", no_args_is_help=True
)

Folder = Annotated[
    Path | None,
    typer.Option("--weights", help="Folder of the weights; default: the server's setting."),
]


@app.command("list")
def list_weights(weights: Folder = None) -> None:
    """Which weights there are, and which of them are here."""
    root = _root(weights)
    table = Table("name", "MB", "licence", "commercial", "here", "what it is")
    for one in _guarded_lock().values():
        here = "yes" if is_present(one, root) else "no"
        commercial = "no" if forbids(one.licence, "commercial") else "yes"
        size = str(one.size // 1_000_000)
        table.add_row(one.name, size, one.licence, commercial, here, one.description)
    Console().print(table)


@app.command("pull")
def pull_weights(
    name: Annotated[str, typer.Argument(help="Which weights.")] = DEFAULT_WEIGHTS,
    weights: Folder = None,
) -> None:
    """Fetch weights, check them by SHA-256, and put them where the server finds them."""
    root = _root(weights)
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    )
    try:
        chosen = find_weights(name, load_lock())
        with bar, httpx.Client(timeout=30.0) as client:
            tasks = {file.name: bar.add_task(file.name, total=file.size) for file in chosen.files}

            def show(file: WeightFile, here: int) -> None:
                bar.update(tasks[file.name], completed=here)

            directory = pull(chosen, root, client, show)
    except WeightsError as error:
        raise _failed(str(error)) from error
    typer.echo(f"{name} is ready in {directory}. Licence: {chosen.licence}.")


@app.command("seal")
def seal_bundle(
    folder: Annotated[Path, typer.Argument(help="The bundle's folder.")],
) -> None:
    """Seal a bundle whose config.json you changed yourself; the server takes no other."""
    try:
        digest = seal(folder)
    except BundleError as error:
        raise _failed(str(error)) from error
    typer.echo(f"{folder / CONFIG} is sealed: SHA-256 {digest}.")


def _guarded_lock() -> dict[str, WeightSet]:
    try:
        return load_lock()
    except WeightsError as error:
        raise _failed(str(error)) from error


def _root(weights: Path | None) -> Path:
    try:
        return load_settings(weights=weights).weights
    except StartRefused as error:
        raise _failed(str(error)) from error


def _failed(message: str) -> typer.Exit:
    typer.echo(message, err=True)
    return typer.Exit(1)
