"""A tracker's state as one line for a language model.

The line is worded as what it is, an estimate of expressed emotion by a machine. It is at most
MAX_CHARACTERS long, however many speakers there are. Whatever clients name or say is data and not
instruction: a name that is no plain name is replaced by a number, and words, which are in the line
only where the tracker was told to keep them, are cut, quoted and escaped.
"""

from __future__ import annotations

import json
import re

from emotrace_clients.tracker_state import SpeakerState, TrackerState
from emotrace_clients.wording import SENSES, printable

MAX_CHARACTERS = 1_400
MAX_SPEAKERS = 3
MAX_WORDS = 100  # characters
OLD_MS = 10_000  # of audio: from then on the line says how old an estimate is

# One or two words of letters, digits and what stands inside names: `Ann`, `Mary-Jane O'Neill`.
_NAME = re.compile(r"[^\W_][\w.'’-]{0,15}(?: [\w.'’-]{1,16})?")
_LABEL = re.compile(r"[^\W\d_][\w -]{0,31}")


def prompt_line(state: TrackerState, speaker: str | None = None) -> str:
    """One line on all speakers, those heard last first; or on one speaker only.

    It has no line break or other control character.
    """
    found = [
        (one, _name(one.speaker, number))
        for number, one in enumerate(state.speakers, 1)
        if speaker in (None, one.speaker)
    ]
    if not found:
        return "Estimate of expressed emotion: none yet."
    found.sort(key=lambda pair: -pair[0].end_ms)
    parts = [_standing(one, name) for one, name in found[:MAX_SPEAKERS]]
    if len(found) > MAX_SPEAKERS:
        parts.append(f"and {len(found) - MAX_SPEAKERS} more speakers")
    return f"Estimate of expressed emotion (by a machine, may be wrong): {'; '.join(parts)}."


def _standing(one: SpeakerState, name: str) -> str:
    parts = [f"{name} {_feeling(one)}"]
    if one.shift is not None and one.shift.utterance == one.utterance and one.label is not None:
        parts.append(f"before {_label(one.shift.previous)}")
    if one.trend is not None:
        for what, where in (
            ("valence", one.trend.valence_direction),
            ("arousal", one.trend.arousal_direction),
        ):
            if where in ("rising", "falling"):
                parts.append(f"{what} {where}")
    if len(one.modalities) == 1:
        parts.append(f"by {SENSES.get(one.modalities[0], 'one sense')} alone")
    if one.stale_ms >= OLD_MS:
        parts.append(f"{one.stale_ms // 1000} s ago")
    if one.words:
        words = printable(one.words)
        cut = words if len(words) <= MAX_WORDS else words[:MAX_WORDS] + "…"
        parts.append(f"with the words {json.dumps(cut, ensure_ascii=False)}")
    return ", ".join(parts)


def _feeling(one: SpeakerState) -> str:
    if one.label is None:
        return "unsure"
    return f"{_label(one.label)} {one.probability:.2f}{' so far' if one.interim else ''}"


def _label(label: str) -> str:
    return label if _LABEL.fullmatch(label) else "another emotion"


def _name(speaker: str, number: int) -> str:
    """A plain name in quotes; anything else as `speaker 2`, by the order of appearance."""
    return f'"{speaker}"' if _NAME.fullmatch(speaker) else f"speaker {number}"
