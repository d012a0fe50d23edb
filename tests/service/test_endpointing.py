"""Where utterances begin and end, told by probabilities alone."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emotrace_protocol.messages import Endpointing
from emotrace_service.audio import FRAME_SAMPLES
from emotrace_service.endpointing import (
    Boundary,
    Ended,
    Endpointer,
    EndpointingConfig,
    EndpointState,
    Started,
)


def _frames(count: int) -> int:
    return count * FRAME_SAMPLES


# In frames: start over .5, end under .35, 4 of silence, 3 of speech, at most 30, 2 of padding, the
# cut within the last 8.
CONFIG = EndpointingConfig(
    start_threshold=0.5,
    end_threshold=0.35,
    silence_samples=_frames(4),
    min_speech_samples=_frames(3),
    max_utterance_samples=_frames(30),
    padding_samples=_frames(2),
    cut_window_samples=_frames(8),
)


def _run(
    probabilities: list[float], config: EndpointingConfig = CONFIG, *, finish: bool = True
) -> list[tuple[int, Boundary]]:
    """Each boundary with the number of frames heard when it was decided."""
    endpointer = Endpointer(config)
    state = endpointer.start()
    decided: list[tuple[int, Boundary]] = []
    for number, probability in enumerate(probabilities, start=1):
        state, boundaries = endpointer.advance(state, probability)
        decided += [(number, boundary) for boundary in boundaries]
    if finish:
        state, boundaries = endpointer.finish(state, state.position)
        decided += [(len(probabilities), boundary) for boundary in boundaries]
    return decided


def test_a_plain_utterance() -> None:
    decided = _run([0.0] * 10 + [0.9] * 5 + [0.0] * 10)
    assert decided == [
        (13, Started(_frames(8))),  # told at the third frame of speech, with the true start
        (19, Ended(_frames(8), _frames(17), _frames(15), "silence")),
    ]


def test_a_blip_is_as_if_it_had_not_been() -> None:
    assert _run([0.0] * 5 + [0.9] * 2 + [0.0] * 10) == []
    alone = _run([0.0] * 5 + [0.0] * 2 + [0.0] * 4 + [0.9] * 4)
    after_blip = _run([0.0] * 5 + [0.9] * 2 + [0.0] * 4 + [0.9] * 4)
    assert after_blip == alone


def test_blips_in_short_order_are_one_utterance() -> None:
    assert _run([0.9, 0.0, 0.9, 0.0, 0.9] + [0.0] * 4)[0] == (5, Started(0))


def test_hysteresis_between_the_thresholds_keeps_what_is() -> None:
    assert _run([0.4] * 20) == []
    speech = [0.9] + [0.4] * 6 + [0.3] * 4
    assert _run(speech)[-1][1] == Ended(0, _frames(9), _frames(7), "silence")
    off_again = [0.9] * 3 + [0.3] + [0.4] * 6  # after a pause it takes the start threshold
    assert _run(off_again)[-1] == (7, Ended(0, _frames(5), _frames(3), "silence"))


def test_padding_stays_between_the_utterances_before_and_after() -> None:
    config = replace(CONFIG, padding_samples=_frames(3))
    first, second = [
        one for _, one in _run(([0.9] * 3 + [0.0] * 4) * 2, config) if type(one) is Ended
    ]
    assert (first.start_sample, first.end_sample) == (0, _frames(6))
    assert (second.start_sample, second.end_sample) == (_frames(6), _frames(13))


def test_a_long_utterance_is_cut_at_its_least_speech_like_frame() -> None:
    probabilities = [0.9] * 40
    probabilities[26] = 0.6
    decided = _run(probabilities)
    assert decided == [
        (3, Started(0)),
        (30, Ended(0, _frames(26), _frames(26), "max_length")),
        (30, Started(_frames(26))),
        (40, Ended(_frames(26), _frames(40), _frames(40), "end_of_audio")),
    ]


def test_without_a_dip_the_cut_is_as_late_as_it_can_be() -> None:
    decided = _run([0.9] * 31, finish=False)
    assert decided[1:] == [(30, Ended(0, _frames(29), _frames(29), "max_length"))]


def test_a_cut_in_the_final_silence_ends_the_utterance_with_its_speech() -> None:
    decided = _run([0.9] * 27 + [0.0] * 20)
    assert decided[1:] == [(30, Ended(0, _frames(29), _frames(27), "max_length"))]


def test_what_follows_a_cut_must_be_speech_enough_too() -> None:
    probabilities = [0.9] * 30 + [0.0] * 10
    probabilities[28] = 0.5
    assert [type(one) for _, one in _run(probabilities)] == [Started, Ended]


def test_an_endless_sound_goes_on_in_utterances_that_touch() -> None:
    ended = [one for _, one in _run([0.9] * 200) if isinstance(one, Ended)]
    assert len(ended) >= 200 // 30
    assert ended[0].start_sample == 0
    for one, other in pairwise(ended):
        assert one.end_sample == other.start_sample


def test_the_audio_may_end_within_a_frame() -> None:
    endpointer = Endpointer(CONFIG)
    state = endpointer.start()
    for _ in range(5):
        state, _ = endpointer.advance(state, 0.9)
    _, boundaries = endpointer.finish(state, _frames(4) + 7)
    assert boundaries == (Ended(0, _frames(4) + 7, _frames(4) + 7, "end_of_audio"),)


def test_a_probability_that_is_no_number_is_no_speech() -> None:
    assert _run([float("nan")] * 50) == []


probabilities = st.lists(
    st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.34, 0.35, 0.36, 0.5, 0.9])), max_size=150
)
bursts = st.lists(
    st.tuples(st.sampled_from([0.0, 0.2, 0.4, 0.6, 0.95]), st.integers(1, 45)), max_size=12
).map(lambda runs: [probability for probability, count in runs for _ in range(count)])
configs = st.builds(
    replace,
    st.just(CONFIG),
    silence_samples=st.integers(1, 10).map(_frames),
    min_speech_samples=st.integers(1, 10).map(_frames),
    padding_samples=st.integers(0, 5_000),
    max_utterance_samples=st.integers(_frames(30), _frames(60)),
)


@settings(deadline=None)
@given(st.one_of(probabilities, bursts), configs)
def test_the_laws_of_boundaries(sequence: list[float], config: EndpointingConfig) -> None:
    decided = _run(sequence, config)
    starts = [one for _, one in decided if isinstance(one, Started)]
    ends = [one for _, one in decided if isinstance(one, Ended)]
    assert [type(one) for _, one in decided] == [Started, Ended] * len(ends)
    assert [one.start_sample for one in starts] == [one.start_sample for one in ends]
    floor = 0
    for heard, one in decided:
        if isinstance(one, Ended):
            assert floor <= one.start_sample < one.speech_end_sample <= one.end_sample
            assert one.end_sample <= _frames(heard)
            assert one.end_sample - one.speech_end_sample <= config.padding_samples
            assert one.end_sample - one.start_sample < config.max_utterance_samples + FRAME_SAMPLES
            floor = one.end_sample
    _no_speech_is_lost(sequence, config, ends)


def _no_speech_is_lost(sequence: list[float], config: EndpointingConfig, ends: list[Ended]) -> None:
    """What lies in no utterance is silence, or stretches of less than the least speech."""
    speaking, lost, quiet = False, 0, 0
    for number, probability in enumerate(sequence):
        threshold = config.end_threshold if speaking else config.start_threshold
        speaking = probability >= threshold
        start = _frames(number)
        covered = any(one.start_sample <= start < one.end_sample for one in ends)
        quiet = 0 if speaking else quiet + FRAME_SAMPLES
        if covered or quiet >= config.silence_samples:
            lost = 0
        elif speaking:
            lost += FRAME_SAMPLES
            assert lost < config.min_speech_samples


@settings(deadline=None)
@given(st.one_of(probabilities, bursts), configs, st.integers(0, 200))
def test_the_state_is_a_small_value(
    sequence: list[float], config: EndpointingConfig, stop: int
) -> None:
    """Going on from a kept state gives the same, and asks for no sample that was forgotten."""
    endpointer = Endpointer(config)
    state, kept, after_kept = endpointer.start(), None, []
    needed = 0
    for number, probability in enumerate(sequence):
        if number == stop:
            kept, after_kept = state, []
        state, boundaries = endpointer.advance(state, probability)
        assert all(one.start_sample >= needed for one in boundaries)
        assert needed <= endpointer.needed_from(state) <= state.position
        needed = endpointer.needed_from(state)
        assert state.position - needed < config.max_utterance_samples + FRAME_SAMPLES
        if state.candidate is not None:
            assert len(state.candidate.recent) <= config.cut_window_samples // FRAME_SAMPLES
        after_kept.extend(boundaries)
    if kept is not None:
        again: list[Boundary] = []
        resumed: EndpointState = kept
        for probability in sequence[stop:]:
            resumed, boundaries = Endpointer(config).advance(resumed, probability)
            again.extend(boundaries)
        assert (resumed, again) == (state, after_kept)


# Settings ----------------------------------------------------------------------------------------


def test_the_defaults_of_the_wire() -> None:
    config = EndpointingConfig.from_wire(Endpointing())
    assert config == EndpointingConfig(0.5, 0.35, 8_000, 4_000, 240_000, 3_200, 16_000)


@given(st.floats(0, 1, exclude_min=True, exclude_max=True))
def test_thresholds_are_in_order_whatever_the_client_asks(threshold: float) -> None:
    config = EndpointingConfig.from_wire(Endpointing(threshold=threshold))
    assert 0 < config.end_threshold <= config.start_threshold < 1


def test_settings_that_contradict_each_other_are_refused_with_a_cure() -> None:
    with pytest.raises(ValueError, match="lower min_speech_ms to 768 or raise max_utterance_ms"):
        EndpointingConfig.from_wire(Endpointing(min_speech_ms=2_000, max_utterance_ms=2_000))
    EndpointingConfig.from_wire(Endpointing(min_speech_ms=768, max_utterance_ms=2_000))


@pytest.mark.parametrize(
    "change",
    [
        {"end_threshold": 0.6},
        {"start_threshold": 1.5},
        {"end_threshold": -0.1},
        {"silence_samples": 0},
        {"min_speech_samples": 511},
        {"cut_window_samples": 100},
        {"padding_samples": -1},
        {"max_utterance_samples": _frames(8)},
    ],
)
def test_settings_that_make_no_sense_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"threshold|frame|negative|fit"):
        replace(CONFIG, **change)
