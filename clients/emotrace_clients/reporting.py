"""`emotrace report`: a recording, or the events of an earlier session, as documents."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from emotrace_clients import wording
from emotrace_clients.audio_files import AudioFiles
from emotrace_clients.dialogue import Dialogue
from emotrace_clients.errors import EmotraceError, SourceError
from emotrace_clients.event_files import read_events
from emotrace_clients.playing import Choices, send_files
from emotrace_clients.progress import FileProgress
from emotrace_clients.report import report_html
from emotrace_clients.turns import Turn
from emotrace_protocol import ServerEvent
from emotrace_protocol.events import Failed, SessionEnded


@dataclass(frozen=True, slots=True)
class Documents:
    """Where each goes; None: it is not wanted."""

    html: Path | None
    json: Path | None
    csv: Path | None

    def check(self, sources: Sequence[Path]) -> None:
        """Before any work is done. Raises SourceError where a document would be written nowhere, or
        over a recording or another document."""
        paths = [path for path in (self.html, self.json, self.csv) if path is not None]
        for path in paths:
            if not path.resolve().parent.is_dir():
                raise SourceError(f"{path} cannot be written: there is no folder {path.parent}.")
        places = [path.resolve() for path in (*paths, *sources)]
        if len(set(places)) < len(places):
            raise SourceError("each document needs a name of its own, and not that of a source")

    def write(self, dialogue: Dialogue, title: str) -> None:
        """Writes them, and says so. Raises SourceError where one cannot be written."""
        kinds: tuple[tuple[Path | None, Callable[[Path], object]], ...] = (
            (
                self.html,
                lambda path: path.write_text(report_html(dialogue.events, title), "utf-8"),
            ),
            (self.json, dialogue.to_json),
            (self.csv, dialogue.to_csv),
        )
        for path, write in kinds:
            if path is None:
                continue
            try:
                write(path)
            except OSError as error:
                raise SourceError(f"{path} cannot be written: {error.strerror}.") from None
            print(f"Wrote {path}.")


class Gathering:
    """A view that keeps all, and says only what a person must know before they read it."""

    def __init__(self) -> None:
        self.dialogue = Dialogue()

    def show(self, event: ServerEvent) -> None:
        self.dialogue.add(event)
        if isinstance(event, Failed):
            self.note(event.message)
        elif isinstance(event, SessionEnded):
            for sentence in wording.closing(event.totals, event.reason):
                print(sentence)

    def note(self, sentence: str) -> None:
        print(wording.printable(sentence), file=sys.stderr)


async def report_files(
    choices: Choices, paths: Sequence[Path], turns: Sequence[Turn] | None, documents: Documents
) -> None:
    """Runs files through a server, as fast as it goes, and writes what came.

    Where the session breaks off, what came until then is written all the same. Raises SourceError,
    and what `connect` and Session raise.
    """
    view = Gathering()
    title = ", ".join(path.name for path in paths)
    with AudioFiles(paths, mono=choices.mono) as files:
        progress = FileProgress(files.duration_s, Console(stderr=True))
        try:
            with progress.bar:
                await send_files(choices, files, view, progress, fast=True, turns=turns)
        except EmotraceError:
            if view.dialogue.started is not None:
                documents.write(view.dialogue, f"{title} (incomplete)")
            raise
    documents.write(view.dialogue, title)


def report_events(path: Path, documents: Documents) -> None:
    """Writes documents of the events in a file. Raises SourceError."""
    documents.write(Dialogue.from_events(read_events(path)), path.name)
