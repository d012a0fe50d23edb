"""`emotrace`: stream files, listen to a microphone, play the demo."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

import typer
from pydantic import ValidationError

from emotrace_clients.connecting import DEFAULT_URL
from emotrace_clients.demo import shipped
from emotrace_clients.errors import EmotraceError
from emotrace_clients.health import await_ready
from emotrace_clients.microphone import device_names
from emotrace_clients.playing import Choices, listen, play
from emotrace_clients.turns import read_turns
from emotrace_protocol.messages import Transcription

P = ParamSpec("P")
T = TypeVar("T")

app = typer.Typer(
    name="emotrace",
    help="Send a dialogue to an Emotrace server and watch what it hears.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Url = Annotated[str, typer.Option(help="The server's stream.")]
Speakers = Annotated[
    str, typer.Option(help="Names, one a channel, with commas: Ann,Ben. Default A,B,...")
]
Language = Annotated[str, typer.Option(help="For the server's transcriber: en, de, pl, ...")]
Words = Annotated[Transcription, typer.Option("--transcription", help="Where words come from.")]
Interim = Annotated[bool, typer.Option(help="Estimates while somebody speaks.")]
BundleName = Annotated[str, typer.Option(help="Which bundle. Default: the server's.")]
Labels = Annotated[
    str, typer.Option(help="Which label set: its scheme, common4, or its names, with commas.")
]
Json = Annotated[bool, typer.Option("--json", help="Print every event as a line of JSON.")]
Fast = Annotated[
    bool, typer.Option("--fast", help="As fast as the server goes; no interim estimates.")
]


@app.command()
def stream(
    files: Annotated[
        list[Path], typer.Argument(help="WAV, FLAC, Ogg, ...; one channel or file a speaker.")
    ],
    url: Url = DEFAULT_URL,
    speakers: Speakers = "",
    fast: Fast = False,
    transcript: Annotated[
        Path | None,
        typer.Option(help="Words that you have, with times: .jsonl, or .json with turns."),
    ] = None,
    transcription: Words = Transcription.AUTO,
    language: Language = "",
    interim: Interim = True,
    bundle: BundleName = "",
    labels: Labels = "",
    json: Json = False,
) -> None:
    """Streams sound files as one dialogue, at the pace of time."""
    turns = None if transcript is None else _checked(read_turns, transcript)
    choices = Choices(
        url,
        _names(speakers),
        transcription,
        language=language or None,
        interim=interim,
        bundle=bundle or None,
        labels=_label_set(labels),
        json=json,
    )
    _run(play(choices, files, fast=fast, turns=turns))


@app.command(name="listen")
def listen_(
    url: Url = DEFAULT_URL,
    speakers: Speakers = "",
    device: Annotated[str, typer.Option(help="Number or part of the name of an input.")] = "",
    list_devices: Annotated[
        bool, typer.Option("--list-devices", help="Show the inputs and stop.")
    ] = False,
    transcription: Words = Transcription.AUTO,
    language: Language = "",
    interim: Interim = True,
    bundle: BundleName = "",
    labels: Labels = "",
    json: Json = False,
) -> None:
    """Listens to the microphone until Ctrl-C. Two names in --speakers take a stereo input."""
    if list_devices:
        for line in _checked(device_names):
            typer.echo(line)
        return
    choices = Choices(
        url,
        _names(speakers),
        transcription,
        language=language or None,
        interim=interim,
        bundle=bundle or None,
        labels=_label_set(labels),
        json=json,
    )
    _run(listen(choices, int(device) if device.isdecimal() else device or None))


@app.command()
def demo(
    url: Url = DEFAULT_URL,
    fast: Fast = False,
    interim: Interim = True,
    bundle: BundleName = "",
    labels: Labels = "",
    json: Json = False,
) -> None:
    """Streams the demo: two synthetic voices, 30 seconds, their words sent along."""
    _checked(await_ready, url, time.sleep)
    choices = Choices(
        url,
        shipped.speakers(),
        interim=interim,
        bundle=bundle or None,
        labels=_label_set(labels),
        json=json,
    )
    _run(play(choices, [shipped.AUDIO], fast=fast, turns=read_turns(shipped.TURNS)))


def main() -> None:
    """The console script."""
    app()


def _names(speakers: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in speakers.split(",") if name.strip())


def _label_set(labels: str) -> tuple[str, ...] | str | None:
    """Names with commas are a set; one word is the scheme of one."""
    return _names(labels) if "," in labels else labels.strip() or None


def _checked(work: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    try:
        return work(*arguments, **options)
    except EmotraceError as error:
        raise _stopped(str(error)) from None


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Runs to the end. An error that a person can cure is printed as a sentence."""
    try:
        asyncio.run(work)
    except EmotraceError as error:
        raise _stopped(str(error)) from None
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(map(str, fault["loc"]))
        raise _stopped(f"{where}: {fault['msg']}") from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _stopped(sentence: str) -> typer.Exit:
    print(f"Error: {sentence}", file=sys.stderr)
    return typer.Exit(1)


if __name__ == "__main__":
    main()
