"""Views of a session for pipes and files: one line an event."""

from __future__ import annotations

import sys
from collections.abc import Callable

from emotrace_clients import wording
from emotrace_protocol import ServerEvent, encode
from emotrace_protocol.events import (
    EmotionFinal,
    EmotionRevised,
    Failed,
    ServiceDegraded,
    SessionEnded,
    SessionStarted,
    SpeechRejected,
    TranscriptFinal,
    Warned,
)

Write = Callable[[str], None]


class JsonLines:
    """Every event as the JSON that it came as."""

    def __init__(self, write: Write) -> None:
        self._write = write

    def show(self, event: ServerEvent) -> None:
        self._write(encode(event))

    def note(self, sentence: str) -> None:
        """Goes to standard error: the lines are events and nothing else."""
        print(wording.printable(sentence), file=sys.stderr)


class PlainLines:
    """Finals, revisions, warnings and errors as sentences; nothing depends on colour."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._words: dict[int, str] = {}

    def show(self, event: ServerEvent) -> None:
        for line in self._lines(event):
            self._write(line)

    def note(self, sentence: str) -> None:
        self._write(f"note  {wording.printable(sentence)}")

    def _lines(self, event: ServerEvent) -> list[str]:
        match event:
            case SessionStarted():
                return wording.opening(event)
            case TranscriptFinal():
                self._words[event.utterance] = event.text
            case EmotionFinal():
                return [self._final(event)]
            case SpeechRejected():
                self._words.pop(event.utterance, None)
                return [wording.rejected(event)]
            case EmotionRevised():
                return [f"revised  {wording.revision(event)}"]
            case Warned() | ServiceDegraded():
                return [f"warning  {wording.printable(event.message)}"]
            case Failed():
                return [f"error  {wording.printable(event.message)}"]
            case SessionEnded():
                return wording.closing(event.totals, event.reason)
        return []

    def _final(self, final: EmotionFinal) -> str:
        words = self._words.pop(final.utterance, "")
        parts = [
            f"{wording.clock(final.start_ms)}-{wording.clock(final.end_ms)}",
            wording.printable(final.speaker),
            f"{wording.emotion(final)} {wording.percent(final.confidence).strip()}",
            wording.dialogue(final),
            f"why: {wording.why(final)}",
            wording.basis(final),
            wording.doubts(final),
            wording.affect(final),
            f"“{wording.printable(words)}”" if words else "",
        ]
        return "  ".join(part for part in parts if part)
