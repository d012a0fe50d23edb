"""The words of an agent's own recogniser reach the utterance in which they were said."""

from __future__ import annotations

from emotrace_clients.integrations.word_matcher import WordMatcher
from emotrace_protocol import Event
from emotrace_protocol.events import SpeechEnded, SpeechRejected, SpeechStarted

HEARD_MS = 5_000  # when words come


def began(utterance: int, speaker: str = "User", start_ms: int = 0) -> SpeechStarted:
    return SpeechStarted(sequence=0, utterance=utterance, speaker=speaker, start_ms=start_ms)


def ended(utterance: int, speaker: str = "User") -> SpeechEnded:
    return SpeechEnded(
        sequence=0, utterance=utterance, speaker=speaker, start_ms=0, end_ms=9, reason="silence"
    )


def rejected(utterance: int) -> SpeechRejected:
    return SpeechRejected(
        sequence=0, utterance=utterance, speaker="User", start_ms=0, end_ms=9, reason="noise"
    )


def given(*steps: Event | str) -> list[tuple[int, str]]:
    matcher = WordMatcher("User")
    return [
        words
        for step in steps
        for words in (matcher.give(step, HEARD_MS) if isinstance(step, str) else matcher.take(step))
    ]


def test_words_after_the_end_go_to_that_utterance() -> None:
    assert given(began(0), ended(0), "Hello.") == [(0, "Hello.")]


def test_words_before_the_end_wait_for_it() -> None:
    assert given(began(0), "Hello.") == []
    assert given(began(0), "Hello.", "Again.", ended(0)) == [(0, "Hello. Again.")]


def test_words_of_several_utterances_go_to_the_last_and_the_others_have_none() -> None:
    assert given(began(0), ended(0), began(1), ended(1), "All of it.") == [
        (0, ""),
        (1, "All of it."),
    ]


def test_words_that_come_while_the_user_goes_on_belong_to_what_was_said_before() -> None:
    steps = (began(0), ended(0), began(1), "First.", "Second.", ended(1))
    assert given(*steps) == [(0, "First."), (1, "Second.")]


def test_words_may_come_before_their_utterance_is_announced() -> None:
    steps = ("Hello.", began(0, start_ms=HEARD_MS - 1), ended(0))
    assert given(*steps) == [(0, "Hello.")]


def test_late_words_are_not_those_of_the_next_utterance() -> None:
    steps = (began(0), ended(0), "Hello.", "Late.", began(1, start_ms=HEARD_MS), ended(1), "New.")
    assert given(*steps) == [(0, "Hello."), (1, "New.")]


def test_what_was_no_speech_gets_no_words() -> None:
    assert given(began(0), ended(0), rejected(0), "Invented.") == []


def test_other_speakers_have_no_part_in_it() -> None:
    steps = (began(0), began(1, "Agent"), ended(1, "Agent"), "Hello.", ended(0))
    assert given(*steps) == [(0, "Hello.")]
