"""`emotrace`: files, a microphone, reports, a look at the server, and the demo."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

import typer
from pydantic import ValidationError
from rich.console import Console

from emotrace_clients.connecting import DEFAULT_URL
from emotrace_clients.demo import shipped
from emotrace_clients.errors import EmotraceError
from emotrace_clients.health import await_ready
from emotrace_clients.microphone import device_names
from emotrace_clients.playing import Choices, listen, play
from emotrace_clients.reporting import Documents, report_events, report_files
from emotrace_clients.turns import Turn, read_turns
from emotrace_clients.watch_view import watch
from emotrace_protocol.messages import Transcription

P = ParamSpec("P")
T = TypeVar("T")


def _examples(*lines: str) -> str:
    """The end of a command's help, one example a line."""
    return "\n\n".join(["Examples:", *lines])


app = typer.Typer(
    name="emotrace",
    help="Send a dialogue to an Emotrace server and watch what it hears.",
    epilog=_examples("emotrace demo    (with `emotrace-serve` in another terminal)"),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Url = Annotated[
    str, typer.Option(help="The server's stream. A key for it goes into EMOTRACE_API_KEY.")
]
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
Mono = Annotated[
    bool, typer.Option("--mono", help="Each file is one speaker: its channels are mixed.")
]
Transcript = Annotated[
    Path | None,
    typer.Option(help="Words that you have, with times: .jsonl, or .json with turns."),
]


@app.command(
    epilog=_examples(
        "emotrace stream call.wav --speakers Ann,Ben    (one channel a speaker)",
        "emotrace stream ann.wav ben.wav --speakers Ann,Ben    (one file a speaker)",
        "emotrace stream talk.mp4 --mono --fast",
        "emotrace stream call.wav --fast --json > events.jsonl",
    )
)
def stream(
    files: Annotated[
        list[Path], typer.Argument(help="Sound or video; one channel or file a speaker.")
    ],
    url: Url = DEFAULT_URL,
    speakers: Speakers = "",
    mono: Mono = False,
    fast: Fast = False,
    transcript: Transcript = None,
    transcription: Words = Transcription.AUTO,
    language: Language = "",
    interim: Interim = True,
    bundle: BundleName = "",
    labels: Labels = "",
    json: Json = False,
) -> None:
    """Streams sound or video files as one dialogue, at the pace of time."""
    choices = Choices(
        url,
        _names(speakers),
        transcription,
        language=language or None,
        interim=interim,
        bundle=bundle or None,
        labels=_label_set(labels),
        json=json,
        mono=mono,
    )
    _run(play(choices, files, fast=fast, turns=_turns(transcript)))


@app.command(
    name="listen",
    epilog=_examples(
        "emotrace listen",
        "emotrace listen --list-devices",
        "emotrace listen --device USB --speakers Ann,Ben    (Ann on the left, Ben on the right)",
    ),
)
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


@app.command(
    epilog=_examples(
        "emotrace report call.wav --speakers Ann,Ben -o call.html",
        "emotrace report talk.mp4 --mono -o talk.html --csv talk.csv",
        "emotrace report --events events.jsonl -o session.html    (needs no server)",
    )
)
def report(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Sound or video; one channel or file a speaker.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The report, one HTML file. Default: FILE.html."),
    ] = None,
    json: Annotated[
        Path | None, typer.Option("--json", help="Utterances and events, as JSON.")
    ] = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="A row an utterance.")] = None,
    events: Annotated[
        Path | None, typer.Option(help="Take these events of a session, and no file or server.")
    ] = None,
    url: Url = DEFAULT_URL,
    speakers: Speakers = "",
    mono: Mono = False,
    transcript: Transcript = None,
    transcription: Words = Transcription.AUTO,
    language: Language = "",
    bundle: BundleName = "",
    labels: Labels = "",
) -> None:
    """Writes a report of sound or video files: timeline, transcript, reasons, plots."""
    given = files or []
    sources = [*given, *([events] if events else [])]
    if bool(given) == (events is not None):
        raise _stopped("name files, or with --events the events of a session: one of the two")
    if output is None and json is None and csv is None:
        output = Path(sources[0].name).with_suffix(".html")
    documents = Documents(output, json, csv)
    _checked(documents.check, sources)
    if events is not None:
        _checked(report_events, events, documents)
        return
    choices = Choices(
        url,
        _names(speakers),
        transcription,
        language=language or None,
        interim=False,
        bundle=bundle or None,
        labels=_label_set(labels),
        mono=mono,
    )
    _run(report_files(choices, given, _turns(transcript), documents))


@app.command(
    name="watch",
    epilog=_examples(
        "emotrace watch",
        "emotrace watch http://10.0.0.5:8080 --every 5",
        "emotrace watch --once    (one line, for a script)",
    ),
)
def watch_(
    url: Annotated[str, typer.Argument(help="The server: its stream, or its address.")] = (
        DEFAULT_URL
    ),
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Look a single time; one line.")] = False,
) -> None:
    """Shows how a server fares, until Ctrl-C: sessions, load, lag, what is live, refusals."""
    try:
        _checked(watch, url, every, Console(), time.sleep, once=once)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


@app.command(epilog=_examples("emotrace demo", "emotrace demo --fast --labels common4"))
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


def _turns(transcript: Path | None) -> tuple[Turn, ...] | None:
    return None if transcript is None else _checked(read_turns, transcript)


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
