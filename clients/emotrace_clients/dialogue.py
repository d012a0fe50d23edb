"""Dialogue: a session's events -> the utterances of a dialogue, and what became of each.

Pure, and complete after every event: it can be read while the session goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from emotrace_clients.errors import ExtraMissing
from emotrace_clients.tables import csv_text, html_table, json_text, rows
from emotrace_clients.wording import weight
from emotrace_protocol import Event
from emotrace_protocol.estimates import Affect, Contribution
from emotrace_protocol.events import (
    NOTICE,
    EmotionFinal,
    EmotionInterim,
    EmotionRevised,
    Failed,
    SessionEnded,
    SessionStarted,
    SpeechEnded,
    SpeechRejected,
    SpeechStarted,
    Totals,
    TranscriptFinal,
    UtteranceEvent,
)

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

State = Literal["speaking", "waiting", "estimated", "rejected", "failed"]


@dataclass(frozen=True, slots=True)
class Reason:
    """What one modality of one utterance did for a label. weight: in logits, over its mean for all
    labels; above 0 it spoke for the label. gate: how far the model let it in, if it has gates."""

    utterance: int
    speaker: str
    modality: str
    weight: float
    gate: float | None


@dataclass(frozen=True, slots=True)
class Utterance:
    """One utterance, as far as it is known. Times are milliseconds of the session's audio.

    `label`, `posterior`, `confidence` and `abstained` are the estimate of the utterance itself.
    `label_in_dialogue` and `posterior_in_dialogue` are the last word on it: the decoder's, with
    every revision so far. All are None where there is no estimate (yet): see `state`.
    """

    number: int
    speaker: str
    start_ms: int
    end_ms: int
    state: State = "speaking"
    words: str = ""
    interim: EmotionInterim | None = None
    final: EmotionFinal | None = None
    revisions: tuple[EmotionRevised, ...] = ()
    rejected: str | None = None
    failed: str | None = None

    @property
    def label(self) -> str | None:
        return None if self.final is None else self.final.label

    @property
    def posterior(self) -> Mapping[str, float] | None:
        return None if self.final is None else self.final.posterior

    @property
    def confidence(self) -> float | None:
        return None if self.final is None else self.final.confidence

    @property
    def abstained(self) -> bool | None:
        return None if self.final is None else self.final.abstained

    @property
    def label_in_dialogue(self) -> str | None:
        if self.revisions:
            return self.revisions[-1].label
        return None if self.final is None else self.final.decoder.label

    @property
    def posterior_in_dialogue(self) -> Mapping[str, float] | None:
        if self.revisions:
            return self.revisions[-1].posterior
        return None if self.final is None else self.final.decoder.posterior

    @property
    def revised(self) -> bool:
        return bool(self.revisions)

    @property
    def affect(self) -> Affect | None:
        return None if self.final is None else self.final.affect

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why to trust the estimate less, as codes (docs/protocol.md)."""
        return () if self.final is None else tuple(map(str, self.final.doubts))

    @property
    def missing(self) -> tuple[str, ...]:
        """Modalities that the bundle could use and had not."""
        return () if self.final is None else self.final.missing

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """What was heard and seen, by how much it spoke for `label`; the strongest first."""
        final = self.final
        if final is None:
            return ()
        found = [_reason(one, final.label) for one in final.explanation.contributions]
        heard = [one for one in found if one is not None]
        return tuple(sorted(heard, key=lambda one: one.weight, reverse=True))


class Dialogue:
    """events: all that were added. started, totals: of the session, once they came."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.started: SessionStarted | None = None
        self.totals: Totals | None = None
        self._utterances: dict[int, Utterance] = {}

    @classmethod
    def from_events(cls, events: Iterable[Event]) -> Self:
        """events: of one session, in order; a Session of `emotrace_clients.sync` is such."""
        dialogue = cls()
        for event in events:
            dialogue.add(event)
        return dialogue

    def add(self, event: Event) -> None:
        """Takes note of the next event."""
        self.events.append(event)
        match event:
            case SessionStarted():
                self.started = event
            case SessionEnded():
                self.totals = event.totals
            case Failed(utterance=int(number)) if number in self._utterances:
                self._change(number, state="failed", failed=event.message)
            case UtteranceEvent():
                self._tell(event)

    @property
    def utterances(self) -> tuple[Utterance, ...]:
        """In the order of their numbers."""
        return tuple(self._utterances[number] for number in sorted(self._utterances))

    @property
    def speakers(self) -> tuple[str, ...]:
        """Those of the session, then those who had turns without sound."""
        named = () if self.started is None else self.started.speakers
        return tuple(dict.fromkeys((*named, *(one.speaker for one in self.utterances))))

    @property
    def labels(self) -> tuple[str, ...]:
        return () if self.started is None else self.started.labels

    @property
    def notice(self) -> str:
        """To be shown with the estimates."""
        return NOTICE if self.started is None else self.started.notice

    def plot(self, start_ms: int = 0, end_ms: int | None = None) -> Figure:
        """A timeline for each speaker, with valence and arousal below; of a part, if asked.

        Needs matplotlib: raises ExtraMissing without it. In a notebook, the last line of a cell
        shows it; elsewhere `.savefig("dialogue.png")`.
        """
        try:
            from emotrace_clients.plotting import figure
        except ModuleNotFoundError as error:
            raise ExtraMissing("Dialogue.plot()", "matplotlib", "plot", error) from None
        return figure(self, start_ms, end_ms)

    def to_dataframe(self) -> pandas.DataFrame:
        """A row an utterance, with the columns of `to_csv`.

        Needs pandas: raises ExtraMissing without it.
        """
        try:
            import pandas
        except ModuleNotFoundError as error:
            raise ExtraMissing("Dialogue.to_dataframe()", "pandas", "pandas", error) from None
        table = rows(self)
        frame = pandas.DataFrame(table, columns=list(table[0]) if table else None)
        return frame if frame.empty else frame.set_index("utterance")

    def to_json(self, path: Path | str | None = None) -> str:
        """One JSON object: the notice, what the session ran with, a row an utterance, all events.
        Written to `path`, if there is one."""
        return _written(json_text(self), path)

    def to_csv(self, path: Path | str | None = None) -> str:
        """A row an utterance, for spreadsheets. Written to `path` (UTF-8, with the mark that
        spreadsheets want), if there is one. No text in it is computed as a formula."""
        return _written(csv_text(self), path, encoding="utf-8-sig")

    def __repr__(self) -> str:
        estimated = sum(one.final is not None for one in self._utterances.values())
        return (
            f"<Dialogue of {', '.join(self.speakers) or 'nobody yet'}: "
            f"{len(self._utterances)} utterances, {estimated} with an estimate>"
        )

    def _repr_html_(self) -> str:
        return html_table(self)

    def _tell(self, event: UtteranceEvent) -> None:
        number = event.utterance
        if number not in self._utterances:
            end_ms = getattr(event, "end_ms", event.start_ms)
            self._utterances[number] = Utterance(number, event.speaker, event.start_ms, end_ms)
        match event:
            case SpeechStarted():
                pass
            case EmotionInterim():
                self._change(number, interim=event, end_ms=event.end_ms)
            case SpeechEnded():
                self._change(number, state="waiting", end_ms=event.end_ms)
            case SpeechRejected():  # words heard in what is no speech are invented
                self._change(number, state="rejected", rejected=event.reason, words="")
            case TranscriptFinal():
                self._change(number, words=event.text)
            case EmotionFinal():
                self._change(number, state="estimated", final=event, end_ms=event.end_ms)
            case EmotionRevised():
                revisions = (*self._utterances[number].revisions, event)
                self._change(number, revisions=revisions)

    def _change(self, number: int, **fields: object) -> None:
        self._utterances[number] = replace(self._utterances[number], **fields)  # type: ignore[arg-type]


def _reason(slot: Contribution, label: str) -> Reason | None:
    if slot.utterance is None:
        return None
    return Reason(slot.utterance, slot.speaker or "", slot.modality, weight(slot, label), slot.gate)


def _written(text: str, path: Path | str | None, encoding: str = "utf-8") -> str:
    if path is not None:
        Path(path).write_text(text, encoding=encoding, newline="")
    return text
