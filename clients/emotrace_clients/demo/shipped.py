"""The demo as it ships: the only copy lies with the browser page, which plays it too."""

from __future__ import annotations

import json
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "browser" / "demo"
AUDIO = FOLDER / "dialogue.flac"
TURNS = FOLDER / "dialogue.json"


def speakers() -> tuple[str, ...]:
    """The speakers, one a channel of AUDIO."""
    return tuple(json.loads(TURNS.read_text(encoding="utf-8"))["speakers"])
