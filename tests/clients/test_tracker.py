"""EmotionTracker: what it says of a session's events."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scripted_server import started
from tracking import after, ann, at, final, interim, rejected, revised, said, sessions, spread

from emotrace_clients.tracker import EmotionTracker
from emotrace_protocol import Event
from emotrace_protocol.events import (
    EmotionFinal,
    EmotionInterim,
    EmotionRevised,
    Failed,
    Heartbeat,
    MarkerReached,
    ServiceDegraded,
    SessionStarted,
    SpeechRejected,
)
from emotrace_protocol.messages import SessionStart


def grouped(events: Sequence[Event], cuts: Sequence[int]) -> list[Sequence[Event]]:
    edges = [0, *sorted(cut % (len(events) + 1) for cut in cuts), len(events)]
    return [events[a:b] for a, b in pairwise(edges)]


class TestState:
    def test_before_the_first_estimate_there_is_no_speaker(self) -> None:
        state = EmotionTracker().state()
        assert state.speakers == ()
        assert state.of("Ann") is None

    def test_the_decoder_s_label_counts(self) -> None:
        event = final(0, "anger", 0.999)
        event = event.model_copy(update={"label": "sadness", "posterior": spread("sadness", 0.5)})
        state = ann(after(event))
        assert (state.label, state.probability) == ("anger", 0.25)  # of the calibrated posterior

    def test_a_revision_is_the_last_word(self) -> None:
        state = ann(after(final(0), final(1, "neutral", 0.5), revised(1, "sadness")))
        assert (state.label, state.revised, state.probability) == ("sadness", True, 0.25)

    def test_a_revision_of_an_earlier_utterance_leaves_the_present_one(self) -> None:
        state = ann(after(final(0), final(1), revised(0, "sadness")))
        assert (state.utterance, state.label, state.revised) == (1, "neutral", False)

    def test_an_abstention_is_unsure_and_says_where_it_leans(self) -> None:
        state = ann(after(final(0, "anger", 0.35, abstained=True)))
        assert state.label is None
        assert state.leaning == "anger"

    def test_an_interim_estimate_counts_until_the_final_one(self) -> None:
        tracker = after(final(0), interim(1, "anger", 0.7))
        assert (ann(tracker).utterance, ann(tracker).label, ann(tracker).interim) == (
            1,
            "anger",
            True,
        )
        tracker.push(final(1, "sadness", 0.7))
        assert (ann(tracker).label, ann(tracker).interim) == ("sadness", False)

    def test_an_interim_estimate_that_is_unsure_hides_nothing(self) -> None:
        tracker = after(final(0, "sadness"), interim(1, "anger", 0.4, abstained=True))
        assert (ann(tracker).utterance, ann(tracker).label) == (0, "sadness")

    def test_speech_that_is_rejected_or_fails_leaves_nothing(self) -> None:
        failed = Failed(
            sequence=0,
            code="inference_failed",
            message="",
            fatal=False,
            retryable=False,
            resume=False,
            utterance=1,
        )
        for end in (rejected(1), failed):
            tracker = after(final(0, "sadness"), interim(1, "anger", 0.9))
            assert ann(tracker).label == "anger"
            tracker.push(end)
            assert (ann(tracker).utterance, ann(tracker).label) == (0, "sadness")

    def test_each_speaker_stands_alone(self) -> None:
        tracker = after(final(0, "anger"), final(1, "sadness", speaker="Ben"))
        state = tracker.state()
        assert [(one.speaker, one.label) for one in state.speakers] == [
            ("Ann", "anger"),
            ("Ben", "sadness"),
        ]

    def test_staleness_is_audio_since_the_utterance_ended(self) -> None:
        tracker = after(final(0))  # ends at 900 ms
        assert ann(tracker).stale_ms == 0
        tracker.push(Heartbeat(sequence=0, audio_ms=4_900))
        assert (tracker.state().audio_ms, ann(tracker).stale_ms) == (4_900, 4_000)
        tracker.push(MarkerReached(sequence=0, id="late", audio_ms=2_000))
        assert ann(tracker).stale_ms == 4_000

    def test_what_is_missing_is_said_of_the_estimate_and_of_the_session(self) -> None:
        fields = started(SessionStart(transcription="off"))
        tracker = after(SessionStarted(sequence=0, **fields), final(0))
        assert ann(tracker).missing == ("lexical",)
        assert [(one.modality, one.reason) for one in tracker.state().absent] == [
            ("lexical", "off")
        ]

    def test_a_server_that_leaves_something_out_is_noted(self) -> None:
        tracker = after(ServiceDegraded(sequence=0, level=2, message="busy"))
        assert tracker.state().degraded == 2
        tracker.push(ServiceDegraded(sequence=0, level=0, message=""))
        assert tracker.state().degraded == 0

    def test_words_are_kept_only_where_they_are_asked_for(self) -> None:
        events = (said(0, "Never mind."), final(0))
        assert "Never mind" not in after(*events).state().model_dump_json()
        assert ann(after(*events, words=True)).words == "Never mind."
        assert ann(after(*events, final(1), words=True)).words is None

    def test_the_state_is_frozen_and_goes_to_json(self) -> None:
        state = after(final(0, affect=at(0.5)), final(1, "anger")).state()
        with pytest.raises(ValidationError, match="frozen"):
            state.audio_ms = 0
        again = type(state).model_validate_json(state.model_dump_json())
        assert again == state
        assert json.loads(state.model_dump_json())["speakers"][0]["label"] == "anger"


class TestShifts:
    def test_a_sure_new_label_is_a_shift_and_is_told_once(self) -> None:
        tracker = EmotionTracker()
        assert tracker.push(final(0, "neutral", 0.9)) == []
        (shift,) = tracker.push(final(14, "anger", 0.7))
        assert str(shift) == "Ann turned from neutral to anger at utterance 14"
        assert tracker.push(final(15, "anger", 0.9)) == []
        assert ann(tracker).shift == shift

    @pytest.mark.parametrize("probability", [0.3, 0.5, 0.59])
    def test_a_label_that_flickers_is_none(self, probability: float) -> None:
        tracker = after(final(0, "neutral", 0.9))
        assert tracker.push(final(1, "anger", probability), final(2, "neutral", 0.9)) == []
        assert ann(tracker).shift is None

    def test_the_threshold_can_be_set(self) -> None:
        tracker = after(final(0, "neutral", 0.9), shift_probability=0.5)
        assert len(tracker.push(final(1, "anger", 0.5))) == 1

    def test_an_unsure_turn_between_is_passed_over(self) -> None:
        tracker = after(final(0), final(1, "sadness", 0.9, abstained=True))
        (shift,) = tracker.push(final(2, "anger"))
        assert (shift.previous, shift.label) == ("neutral", "anger")

    def test_a_revision_may_take_a_shift_back(self) -> None:
        tracker = after(final(0), final(1, "anger", 0.7))
        told = ann(tracker).shift
        assert told is not None
        assert tracker.push(revised(1, "neutral")) == []  # of which there is but 0.15
        assert ann(tracker).shift is None
        assert tracker.push(revised(1, "anger")) == []
        assert ann(tracker).shift == told

    def test_a_revision_may_show_a_shift_at_an_earlier_utterance(self) -> None:
        hesitant = final(1, "neutral", 0.9).model_copy(update={"posterior": spread("anger", 0.7)})
        tracker = after(final(0), hesitant)  # the decoder held on to neutral
        (shift,) = tracker.push(revised(1, "anger"))
        assert (shift.utterance, shift.previous, shift.label) == (1, "neutral", "anger")
        assert tracker.push(revised(1, "anger")) == []

    def test_interim_estimates_show_none(self) -> None:
        assert after(final(0)).push(interim(1, "anger", 0.95)) == []

    def test_shifts_of_turns_that_are_forgotten_stay_told(self) -> None:
        tracker = EmotionTracker(turns=4)
        told = tracker.push(final(0), *[final(n, "anger") for n in range(1, 20)])
        assert [one.utterance for one in told] == [1]
        assert ann(tracker).shift == told[0]
        (back,) = tracker.push(final(20, "neutral"))
        assert (back.previous, back.label) == ("anger", "neutral")


@given(sessions(), st.lists(st.integers(0, 100), max_size=6), st.booleans())
def test_groups_make_no_difference(events: list[Event], cuts: list[int], words: bool) -> None:
    whole, parts = EmotionTracker(words=words), EmotionTracker(words=words)
    told = whole.push(*events)
    assert [shift for group in grouped(events, cuts) for shift in parts.push(*group)] == told
    assert parts.state() == whole.state()
    assert parts.prompt_line() == whole.prompt_line()


@given(sessions())
def test_what_comes_twice_changes_nothing(events: list[Event]) -> None:
    once, twice = EmotionTracker(turns=4), EmotionTracker(turns=4)
    for event in events:
        told = once.push(event)
        assert twice.push(event, event) == told
        assert twice.state() == once.state()


@given(sessions())
def test_a_speaker_s_state_is_its_last_turns(events: list[Event]) -> None:
    """Against a plain reading of the protocol, without the tracker's bookkeeping."""
    state = after(*events, turns=12).state()
    for speaker in {getattr(event, "speaker", "") for event in events}:
        finals = [e for e in events if isinstance(e, EmotionFinal) and e.speaker == speaker]
        last_open = [e for e in events if isinstance(e, EmotionInterim) and e.speaker == speaker]
        ended = {e.utterance for e in events if isinstance(e, (EmotionFinal, SpeechRejected))}
        assert not [e for e in last_open if e.utterance not in ended]
        found = state.of(speaker)
        if not finals:
            assert found is None
            continue
        assert found is not None
        newest = finals[-1]
        words = [e for e in events if isinstance(e, EmotionRevised)]
        labels = [newest.decoder.label]
        labels += [e.label for e in words if e.utterance == newest.utterance]
        assert (found.utterance, found.leaning) == (newest.utterance, labels[-1])
        assert (found.label is None) == newest.abstained
