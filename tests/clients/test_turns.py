"""Words with times: which utterance gets which, and what a transcript file may hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from emotrace_clients.errors import SourceError
from emotrace_clients.turns import Turn, TurnMatcher, read_turns


def turn(speaker: str, start_ms: int, end_ms: int, text: str) -> Turn:
    return Turn(speaker=speaker, start_ms=start_ms, end_ms=end_ms, text=text)


def test_an_utterance_gets_the_words_of_its_speaker_and_time() -> None:
    matcher = TurnMatcher([turn("A", 0, 900, "one"), turn("B", 100, 800, "two")])
    assert matcher.take("B", 150, 950) == "two"
    assert matcher.take("A", 50, 950) == "one"
    assert matcher.take("A", 2_000, 2_500) == ""


def test_a_turn_that_was_cut_gives_its_words_once() -> None:
    matcher = TurnMatcher([turn("A", 0, 4_000, "a long turn")])
    assert matcher.take("A", 0, 1_000) == "a long turn"
    assert matcher.take("A", 1_500, 4_000) == ""


def test_an_utterance_over_two_turns_gets_both_in_order() -> None:
    matcher = TurnMatcher([turn("A", 1_000, 1_900, "second"), turn("A", 0, 900, "first")])
    assert matcher.take("A", 0, 2_000) == "first second"


def test_a_touch_at_the_edge_is_not_enough() -> None:
    matcher = TurnMatcher([turn("A", 0, 1_000, "words")])
    assert matcher.take("A", 900, 2_000) == ""
    assert matcher.take("A", 400, 2_000) == "words"


def test_both_forms_of_a_transcript(tmp_path: Path) -> None:
    turns = [turn("A", 0, 900, "één"), turn("B", 1_000, 1_900, "two")]
    rows = [one.model_dump() for one in turns]
    lines, whole = tmp_path / "t.jsonl", tmp_path / "t.json"
    lines.write_text("\n\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    whole.write_text(json.dumps({"turns": rows, "more": 1}), encoding="utf-8")
    assert read_turns(lines) == read_turns(whole) == tuple(turns)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("t.jsonl", "hello", "is no transcript"),
        ("t.json", "[]", "is no transcript"),
        ("t.json", '{"turns": 3}', "is no transcript"),
        ("t.json", "{}", "is no transcript"),
        ("t.json", '{"turns": [{"speaker": "A"}]}', "turn 1: start_ms"),
        ("t.jsonl", '{"speaker":"A","start_ms":-1,"end_ms":2,"text":""}', "turn 1: start_ms"),
    ],
)
def test_what_is_no_transcript_is_said(tmp_path: Path, name: str, content: str, told: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(SourceError, match=told):
        read_turns(path)


def test_a_missing_transcript_is_said(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        read_turns(tmp_path / "none.json")
