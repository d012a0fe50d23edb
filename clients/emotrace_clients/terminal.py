"""The live view of a session in a terminal: finished utterances scroll, a footer shows the moment.

Colour helps, and is never the only sign: every emotion is named.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.text import Text

from emotrace_clients import wording
from emotrace_clients.levels import meter
from emotrace_protocol import ServerEvent
from emotrace_protocol.events import (
    EmotionFinal,
    EmotionInterim,
    EmotionRevised,
    Failed,
    Heartbeat,
    ServiceDegraded,
    SessionEnded,
    SessionStarted,
    SpeechEnded,
    SpeechRejected,
    SpeechStarted,
    TranscriptFinal,
    Warned,
)

MAX_SPEAKER_CELLS = 12
REASON_INDENT = 15
STYLES = {
    "anger": "bold red",
    "happiness": "bold yellow",
    "sadness": "bold blue",
    "neutral": "bold",
    "fear": "bold magenta",
    "disgust": "bold green",
    "surprise": "bold cyan",
}


class LiveView:
    """A context manager: the footer lives inside it.

    levels_dbfs: the loudness of each speaker, set from outside; None where there is no meter.
    progress: of a file, set from outside; None where there is none.
    """

    def __init__(self, console: Console, *, hint: str = "") -> None:
        self.levels_dbfs: tuple[float, ...] | None = None
        self.progress: RenderableType | None = None
        self.console = console
        self._hint = hint
        self._speakers: tuple[str, ...] = ()
        self._widths = (1, 1)  # of the columns of speakers and labels
        self._speaking: dict[str, int] = {}
        self._interim: dict[str, EmotionInterim] = {}
        self._words: dict[int, str] = {}
        self._live = Live(
            console=console, get_renderable=self._footer, refresh_per_second=10, transient=True
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.stop()

    def show(self, event: ServerEvent) -> None:
        match event:
            case SessionStarted():
                self._speakers = event.speakers
                self._widths = (
                    min(max(map(len, event.speakers)), MAX_SPEAKER_CELLS),
                    max(map(len, event.labels)) + 1,
                )
                for sentence in wording.opening(event):
                    self._print(Text(sentence, style="dim"))
            case SpeechStarted():
                self._speaking[event.speaker] = event.start_ms
            case EmotionInterim():
                self._interim[event.speaker] = event
            case SpeechEnded():
                self._fall_silent(event.speaker)
            case SpeechRejected():
                self._fall_silent(event.speaker)
                self._words.pop(event.utterance, None)
                self._print(Text(wording.rejected(event), style="dim"))
            case TranscriptFinal():
                self._words[event.utterance] = event.text
            case EmotionFinal():
                interim = self._interim.get(event.speaker)
                if interim is not None and interim.utterance == event.utterance:
                    del self._interim[event.speaker]  # it came while words were waited for
                self._print(self._row(event))
            case EmotionRevised():
                line = Text("   ↺ revised  ", style="bold")
                line.append(wording.revision(event), style=_style(event.label))
                self._print(line)
            case Warned() | ServiceDegraded():
                self._print(Text(f"   ! {wording.printable(event.message)}", style="yellow"))
            case Failed():
                self._print(Text(f"   ✗ {wording.printable(event.message)}", style="red"))
            case SessionEnded():
                for sentence in wording.closing(event.totals, event.reason):
                    self._print(Text(sentence, style="dim"))
            case Heartbeat():
                self._live.refresh()

    def note(self, sentence: str) -> None:
        """Prints a sentence of the client's own."""
        self._print(Text(f"   ! {wording.printable(sentence)}", style="yellow"))

    def _fall_silent(self, speaker: str) -> None:
        self._speaking.pop(speaker, None)
        self._interim.pop(speaker, None)

    def _print(self, renderable: Text | Group) -> None:
        self._live.console.print(renderable)

    def _row(self, final: EmotionFinal) -> Group:
        """One line with what is said, and under it, set in, the words and the reason."""
        label, widths = wording.printable(final.label), self._widths
        line = Text(f"{wording.clock(final.start_ms)}–{wording.clock(final.end_ms)}  ")
        line.append(f"{wording.printable(final.speaker):<{widths[0]}.{widths[0]}}  ", style="bold")
        estimate = f"{label + '?' * final.abstained:<{widths[1]}} "
        estimate += f"{wording.bar(final.confidence)} {wording.percent(final.confidence)}"
        line.append(estimate, style="dim" if final.abstained else _style(final.label))
        line.append("  unsure" if final.abstained else "")
        if in_dialogue := wording.dialogue(final):
            line.append(f"  {in_dialogue}", style=_style(final.decoder.label))
        reason = Text()
        if words := self._words.pop(final.utterance, ""):
            reason.append(f"“{wording.printable(words)}” ", style="italic")
        parts = (wording.why(final), wording.basis(final), wording.affect(final))
        reason.append(", ".join(filter(None, parts)), "dim")
        if doubts := wording.doubts(final):
            reason.append(f" {doubts}", "yellow")
        return Group(line, Padding(reason, (0, 0, 0, REASON_INDENT)))

    def _footer(self) -> Group:
        lines: list[RenderableType] = []
        for n, speaker in enumerate(self._speakers):
            width = self._widths[0]
            line = Text(f" {wording.printable(speaker):<{width}.{width}} ", style="bold")
            if self.levels_dbfs is not None and n < len(self.levels_dbfs):
                line.append(f"{meter(self.levels_dbfs[n])} ", style="green")
            if speaker in self._speaking:
                line.append("speaking ")
                interim = self._interim.get(speaker)
                if interim is not None:
                    line.append(f"so far {wording.emotion(interim)} ", style=_style(interim.label))
                    line.append(wording.percent(interim.confidence))
            else:
                line.append("silent", style="dim")
            lines.append(line)
        if self.progress is not None:
            lines.append(self.progress)
        if self._hint:
            lines.append(Text(f" {self._hint}", style="dim"))
        return Group(*lines)


def _style(label: str) -> str:
    return STYLES.get(label, "bold")
