"""Words that nobody said are refused; words that somebody said are not."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from emotrace_models.transcript_gates import Gates, compression
from emotrace_models.types import Transcript

HEARD = Transcript(
    "i will not go there again",
    "server",
    "en",
    0.7,
    log_probability=-0.35,
    no_speech=0.1,
    compression=0.8,
)
INVENTED = "Thanks for watching! "


def _refused(words: Transcript, seconds: float = 2.0, **lengths: float) -> bool:
    found = {"speech_s": seconds * 0.8, "voiced_s": seconds * 0.5, **lengths}
    return Gates().refuse(words, seconds, **found)


def test_what_was_said_passes() -> None:
    assert not _refused(HEARD)
    assert not _refused(replace(HEARD, log_probability=None, no_speech=None, compression=None))


@pytest.mark.parametrize(
    "sign",
    [
        {"log_probability": -1.1},
        {"no_speech": 0.7, "log_probability": -0.6},
        {"compression": 2.5},
        {"capped": True},
        {"text": INVENTED * 8, "compression": None},
        {"text": "a" + "bcdefghijklm nopqrs tuvwx" * 8, "compression": 1.0},
    ],
)
def test_each_sign_is_enough(sign: dict[str, Any]) -> None:
    assert _refused(replace(HEARD, **sign))


def test_a_sure_recogniser_is_believed_where_speech_is_unlikely() -> None:
    assert not _refused(replace(HEARD, no_speech=0.9, log_probability=-0.4))


def test_words_need_a_voice() -> None:
    assert _refused(HEARD, voiced_s=0.05)
    assert not _refused(replace(HEARD, source="client"), voiced_s=0.05)


def test_one_word_of_long_speech_is_no_transcript() -> None:
    you = replace(HEARD, text="you")
    assert _refused(you, seconds=12.0)
    assert not _refused(you, seconds=1.0)
    assert not _refused(replace(you, source="client"), seconds=12.0)


def test_a_clients_words_are_held_to_what_can_be_said() -> None:
    client = Transcript(INVENTED * 8, "client")
    assert _refused(client)
    assert not _refused(Transcript("No, no, no!", "client"), seconds=0.8)


def test_the_measure_of_repetition_is_whispers() -> None:
    assert compression("Kids are talking by the door.") < 1.2
    assert compression(INVENTED * 10) > 2.4


def test_real_sentences_pass(shared: Path) -> None:
    with (shared / "data" / "nemo" / "labels.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["split"] == "train"]
    assert len(rows) > 1_000
    for row in rows:
        words = Transcript(row["text"], "client", "pl")
        assert not _refused(words, seconds=float(row["seconds"])), row["text"]
