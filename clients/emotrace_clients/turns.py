"""Words that the client already has, with their times, and which utterance gets which.

A transcript is JSON Lines, one turn a line, or one JSON object with `turns`:

    {"speaker": "Ann", "start_ms": 500, "end_ms": 2425, "text": "Hi Ben."}
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from emotrace_clients.errors import SourceError
from emotrace_protocol.messages import SpeakerName, Text


class Turn(BaseModel):
    """What one speaker said between two times of the audio. Other fields are ignored."""

    model_config = ConfigDict(frozen=True)

    speaker: SpeakerName
    start_ms: int = Field(ge=0)
    end_ms: int = Field(ge=0)
    text: Text


class TurnMatcher:
    """Gives each turn's words to the first utterance of its speaker that shares its time."""

    def __init__(self, turns: Iterable[Turn]) -> None:
        self._waiting = sorted(turns, key=lambda turn: turn.start_ms)

    def take(self, speaker: str, start_ms: int, end_ms: int) -> str:
        """The words of an utterance; empty where there are none.

        They share their time where at least half of the shorter one lies in the other. A turn that
        was cut into several utterances gives its words once.
        """
        found = [
            turn
            for turn in self._waiting
            if turn.speaker == speaker
            and 2 * (min(turn.end_ms, end_ms) - max(turn.start_ms, start_ms))
            >= max(1, min(turn.end_ms - turn.start_ms, end_ms - start_ms))
        ]
        self._waiting = [turn for turn in self._waiting if turn not in found]
        return " ".join(turn.text for turn in found)


def read_turns(path: Path) -> tuple[Turn, ...]:
    """The turns of a transcript file. Raises SourceError, naming the turn at fault."""
    try:
        text = path.read_text(encoding="utf-8")
        data = (
            [json.loads(line) for line in text.split("\n") if line.strip()]
            if path.suffix == ".jsonl"
            else list(json.loads(text)["turns"])
        )
    except FileNotFoundError:
        raise SourceError(f"{path} cannot be read: there is no such file") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SourceError(
            f"{path} is no transcript ({type(error).__name__}: {error}). It is JSON Lines "
            '(.jsonl), one turn a line, or a JSON object with "turns"; a turn is '
            '{"speaker": "A", "start_ms": 0, "end_ms": 900, "text": "..."}.'
        ) from None
    turns = []
    for number, one in enumerate(data, 1):
        try:
            turns.append(Turn.model_validate(one))
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            where = ".".join(map(str, fault["loc"])) or "the turn"
            raise SourceError(f"{path}, turn {number}: {where}: {fault['msg']}") from None
    return tuple(turns)
