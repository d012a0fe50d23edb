"""A dialogue as rows, one an utterance: for CSV, JSON, data frames and notebooks.

The columns of the CSV are those that the browser page exports.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any

from emotrace_clients import wording

if TYPE_CHECKING:
    from emotrace_clients.dialogue import Dialogue, Utterance

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def rows(dialogue: Dialogue) -> list[dict[str, Any]]:
    """One dictionary an utterance; all have the same keys. None where there is nothing to say."""
    return [_row(one, dialogue.labels) for one in dialogue.utterances]


def csv_text(dialogue: Dialogue) -> str:
    """RFC 4180: a header, then the rows. A text that a spreadsheet would compute gets a `'`."""
    table = rows(dialogue)
    out = io.StringIO()
    if table:
        writer = csv.writer(out)
        writer.writerow([_harmless(name) for name in table[0]])
        writer.writerows([_harmless(value) for value in row.values()] for row in table)
    return out.getvalue()


def json_text(dialogue: Dialogue) -> str:
    started = dialogue.started
    data = {
        "notice": dialogue.notice,
        "bundle": None if started is None else started.bundle.model_dump(mode="json"),
        "labels": dialogue.labels,
        "speakers": dialogue.speakers,
        "utterances": rows(dialogue),
        "events": [event.model_dump(mode="json") for event in dialogue.events],
    }
    return json.dumps(data, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def html_table(dialogue: Dialogue) -> str:
    """For notebooks. Everything that came from elsewhere is escaped."""
    head = "".join(
        f"<th style='text-align:left'>{name}</th>"
        for name in ("", "time", "speaker", "words", "emotion", "in dialogue", "why")
    )
    body = "".join(f"<tr>{_cells(one)}</tr>" for one in dialogue.utterances)
    return (
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        f"<p><small>{escape(dialogue.notice)}</small></p>"
    )


def _row(one: Utterance, labels: tuple[str, ...]) -> dict[str, Any]:
    final = one.final
    last = one.revisions[-1] if one.revisions else None
    quality = None if final is None else final.quality
    shares: Mapping[str, float | None] = (
        dict.fromkeys(labels) if one.posterior is None else one.posterior
    )
    return {
        "utterance": one.number,
        "speaker": one.speaker,
        "start_ms": one.start_ms,
        "end_ms": one.end_ms,
        "text": one.words,
        "outcome": one.state,
        "label": one.label,
        "confidence": one.confidence,
        "unsure": one.abstained,
        "doubts": " ".join(one.doubts),
        "label_in_dialogue": one.label_in_dialogue,
        "revised_from": None if last is None else last.previous,
        "revised_after": None if last is None else last.cause,
        "runner_up": None if final is None else final.decoder.runner_up,
        "gap": None if final is None else final.decoder.gap,
        "valence": None if one.affect is None else one.affect.valence,
        "arousal": None if one.affect is None else one.affect.arousal,
        "heard": "" if final is None else " ".join(final.modalities),
        "missing": " ".join(one.missing),
        "snr_db": None if quality is None else quality.snr_db,
        "level_db": None if quality is None else quality.level_db,
        "lag_ms": None if final is None else final.timings.lag_ms,
        **{f"p_{label}": shares.get(label) for label in labels},
    }


def _harmless(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and value.startswith(FORMULA):
        return f"'{value}"
    return value


def _cells(one: Utterance) -> str:
    final = one.final
    if final is not None:
        emotion = f"{wording.emotion(final)} {wording.percent(final.confidence).strip()}"
        doubts = wording.doubts(final)
        told = [emotion, one.label_in_dialogue or "", wording.why(final)]
        if one.revised:
            told[1] = f"↺ {told[1]} (was {one.revisions[-1].previous})"
        if doubts:
            told[2] += f"; {doubts}"
    else:
        said = one.rejected and wording.NO_SPEECH.get(one.rejected, one.rejected)
        told = ["–", "", one.failed or said or ""]
    time = f"{wording.clock(one.start_ms)}–{wording.clock(one.end_ms)}"
    cells = [str(one.number), time, one.speaker, one.words, *told]
    return "".join(f"<td style='text-align:left'>{escape(cell)}</td>" for cell in cells)
